"""What a node has to say of each object, from the protocol's text and the plain model alone.

A judge keeps what its node knows by its own verdicts. Of the node it is told what the model does
not work out: how deep the tree reaches, which transfers wait, and how much a power cut has left.
Where the text leaves a choice, it names all verdicts that are right.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

from tests.framework.model import Broken, Known, Model, ModelMemory, NotYet, State, slow_body_root
from tests.framework.slow import slow_hash
from tests.framework.slow_transfers import SlowTransfer, TransferFault, read_transfer
from unchained.node.consensus.params import Network
from unchained.node.crypto.pow import ProofOfWork, reference_backend
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import COIN_SIZE, HEADER_SIZE, Coin

ACCEPTED: Final = "accepted"
KNOWN: Final = "known"

FORGOTTEN: Final = frozenset(
    {KNOWN, "STALE_PARENT", "UNKNOWN_PARENT", "PARENT_INVALID", "PARENT_NOT_ANCHOR", "BAD_HEIGHT"}
)
"""What may be said of a coin whose parent lies deeper than what can change (Protocol §6), or on a
branch that leaves the main chain there: what is dropped of that, and when, is left open, but not
that it counts for nothing."""

Verdicts = frozenset[str]


class Extent(NamedTuple):
    """How much a judge knew at some time: all of it grows, in order."""

    coins: int
    bodies: int
    transfers: int
    condemned: int


class Judge:
    """Says what becomes of each object. `now_ms` is what the clock shows, `root` an anchor below
    which the main chain cannot change any more."""

    def __init__(
        self, network: Network, genesis: Coin, body: Body, faults: Mapping[bytes, TransferFault]
    ) -> None:
        self.network = network
        self.now_ms = 0
        self.root = genesis.id
        self.coins: dict[bytes, Coin] = {}
        self.bodies: dict[bytes, Body] = {genesis.id: body}
        self.transfers: dict[bytes, bytes] = {}
        self.condemned: dict[bytes, str] = {}
        self._genesis = genesis
        self._faults = faults
        self._memory = ModelMemory()
        self._mixes: dict[bytes, bool] = {}
        self._backend: ProofOfWork = reference_backend()
        self._model: tuple[object, Model] | None = None

    def extent(self) -> Extent:
        """Return how much is known."""
        return Extent(len(self.coins), len(self.bodies), len(self.transfers), len(self.condemned))

    def forget(self, extent: Extent) -> None:
        """Know no more than at some time: what came later is lost."""
        grown: tuple[dict[bytes, Any], ...] = (
            self.coins,
            self.bodies,
            self.transfers,
            self.condemned,
        )
        for known, count in zip(grown, extent, strict=True):
            for key in list(known)[count:]:
                del known[key]
        self._model = None

    def model(self) -> Model:
        """Return what all that is known comes to."""
        state = len(self.coins), len(self.bodies), len(self.transfers), self.now_ms, self.root
        if self._model is None or self._model[0] != state:
            faulty = {
                wid: f"late {fault.name}" if fault.late else fault.name
                for wid, fault in self._faults.items()
            }
            known = Known(
                self._genesis, list(self.coins.values()), self.bodies, self.transfers, (), faulty
            )
            model = Model(
                self.network, known, root=self.root, memory=self._memory, now_ms=self.now_ms
            )
            self._model = state, model
        return self._model[1]

    # Coins: §3.3

    def coin(self, raw: bytes) -> Verdicts:
        """Return what is to be said of a coin that comes by itself; take it in if it is right."""
        if len(raw) != COIN_SIZE:
            return _only("BAD_LENGTH")
        coin, model = Coin.from_bytes(raw), self.model()
        broken = model.alone(coin)
        if broken is not None:
            return _only(broken)
        parent = self._genesis if coin.parent == self._genesis.id else self.coins.get(coin.parent)
        if parent is not None and self._is_forgotten(parent):
            return FORGOTTEN
        home = model.anchors.get(coin.parent)
        if home is not None and coin.id in home.votes:
            return _only(KNOWN)
        is_known = coin.id in self.coins
        if is_known and home is None:
            return _only(KNOWN)
        if parent is None:
            return _only("UNKNOWN_PARENT")
        if home is not model.genesis and not self._is_grade(parent):
            return _only("PARENT_NOT_ANCHOR")
        if parent.id in self.condemned:
            return _only("PARENT_INVALID")
        if home is None:
            return _only("UNKNOWN_PARENT")
        broken = model.against(coin, home)
        if broken != "BAD_HEIGHT" and self._is_stale(model, parent.height):
            return _only("STALE_PARENT")
        if broken is None and model.is_too_new(coin):
            broken = KNOWN if is_known else "TIME_TOO_NEW"
        if broken is None and not self._is_proven(coin):
            broken = "BAD_MIX"
        if broken is not None:
            return _only(broken)
        self.coins[coin.id] = coin
        return _only(ACCEPTED)

    def _is_stale(self, model: Model, height: int) -> bool:
        """Whether a parent is more than MAX_REORG below the tip."""
        most = self.network.max_reorg
        # Nothing wins that is higher than what counts; the choice is dear.
        if max(anchor.height for anchor in model.anchors.values()) - height <= most:
            return False
        return model.tip.height - height > most

    def _is_forgotten(self, coin: Coin | None) -> bool:
        """Whether a coin does not come of the root."""
        while coin is not None and coin.id != self.root:
            coin = self.coins.get(coin.parent)
        return coin is None and self.root != self._genesis.id

    def _is_grade(self, coin: Coin) -> bool:
        return int.from_bytes(coin.id, "big") <= coin.header.target // self.network.coins_per_epoch

    def _is_proven(self, coin: Coin) -> bool:
        found = self._mixes.get(coin.id)
        if found is None:
            header = bytes(coin.raw[:HEADER_SIZE])
            salt = slow_hash("salt", header)[:16]
            mix = self._backend.argon2id(
                header, salt, iterations=1, mem_kib=self.network.mem_kib, length=32
            )
            found = self._mixes[coin.id] = mix == coin.mix
        return found

    # Bodies: §5.2

    def body(
        self,
        anchor: Coin,
        body: Body,
        coins: Mapping[bytes, Coin],
        transfers: Mapping[bytes, bytes],
        waiting: Mapping[bytes, bytes],
    ) -> Verdicts:
        """Return what is to be said of an anchor's body that comes with some of what it lists, and
        take it in if it is right. `waiting`: transfers of the node's mempool."""
        model = self.model()
        if not self._is_grade(anchor):
            return _only("NOT_ANCHOR")
        if anchor.id in self.coins and self._is_forgotten(anchor):
            return FORGOTTEN
        parent = model.anchors.get(anchor.parent)
        if parent is None or anchor.id not in parent.votes:
            return _only("UNKNOWN_PARENT")
        if anchor.id in self.bodies or anchor.id in self.condemned:
            return _only(KNOWN)
        if slow_body_root(body) != anchor.header.body_root:
            return _only("BAD_BODY_ROOT")
        seen = _readable({**self.transfers, **waiting, **transfers})
        trial = copy.copy(model)
        trial.by_id = {**model.by_id, **coins}
        forged = [coin.id for coin in coins.values() if not self._is_proven(coin)]
        trial.known = model.known._replace(transfers=seen, forged=forged)
        try:
            trial.check_body(anchor, body, parent)
        except NotYet:
            return _only("BODY_MISSING")
        except Broken as broken:
            self.condemned[anchor.id] = str(broken)
            return _only(str(broken))
        self.bodies[anchor.id] = body
        for coin_id in (*body.fresh, *body.uncles):
            self.coins[coin_id] = trial.by_id[coin_id]
        for wid in body.transfers:
            self.transfers[wid] = seen[wid]
        return _only(ACCEPTED)

    # Transfers that come by themselves: §8.3, §8.4

    def transfer(self, raw: bytes, waiting: Mapping[bytes, bytes]) -> Verdicts:
        """Return what is to be said of a transfer that is offered to the mempool, in which others
        are `waiting`."""
        fault = self._faults.get(slow_hash("transfer full", raw))
        if fault is not None and not fault.late:
            return _only(fault.name)
        pool = [_Waiting.of(one) for one in waiting.values()]
        new, state = _Waiting.of(raw), self.model().state
        if any(one.txid == new.txid for one in pool) or new.txid in state.places:
            return _only(KNOWN)
        if min(value for value, _, _ in new.transfer.outputs) < 1_000:
            return _only("DUST")
        if new.fee < new.size:
            return _only("FEE_TOO_LOW")
        conflicts = [one for one in pool if new.spends & one.spends]
        evicted = _with_descendants(conflicts, pool)
        left = [one for one in pool if one not in evicted]
        broken = self._in_context(new, left, state)
        broken = broken or _links(new, left) or _replaces(new, conflicts, evicted)
        if broken is None and fault is not None:
            broken = fault.name
        if broken == "COIN_SPENT":
            # "where one can tell"
            return frozenset({"COIN_SPENT", "COIN_UNKNOWN"})
        return _only(broken or ACCEPTED)

    def _in_context(self, new: _Waiting, left: Sequence[_Waiting], state: State) -> str | None:
        height, transfer = len(state.main), new.transfer
        if transfer.lock_height > height:
            return "LOCKED_UNTIL_HEIGHT"
        made = {i: (v, lock, False) for one in left for i, (v, lock) in one.creates.items()}
        there = {
            member.coin_id: (
                member.value,
                member.lock,
                member.minted and height - member.height < self.network.maturity,
            )
            for member in state.coin_set.values()
        }
        there.update(made)
        spent = [there.get(coin_id) for coin_id, _, _ in transfer.inputs]
        if None in spent:
            missing = transfer.inputs[spent.index(None)][0]
            return "COIN_SPENT" if missing in state.stories else "COIN_UNKNOWN"
        coins = [coin for coin in spent if coin is not None]
        if any(immature for _, _, immature in coins):
            return "IMMATURE_COIN"
        for (_, lock, _), (_, condition, salt) in zip(coins, transfer.inputs, strict=True):
            if slow_hash("lock", condition + salt) != lock:
                return "LOCK_MISMATCH"
        given = sum(value for value, _, _ in transfer.outputs) + transfer.fee
        return None if sum(value for value, _, _ in coins) == given else "FEE_MISMATCH"


class _Waiting(NamedTuple):
    """A transfer, as the mempool's policy looks at it."""

    transfer: SlowTransfer
    txid: bytes
    size: int
    spends: frozenset[bytes]
    creates: dict[bytes, tuple[int, bytes]]

    @property
    def fee(self) -> int:
        return self.transfer.fee

    @classmethod
    def of(cls, raw: bytes) -> _Waiting:
        transfer = read_transfer(raw)
        assert transfer is not None, "it was found to be one"
        txid = slow_hash("transfer", transfer.unsigned)
        creates = {
            slow_hash("output", txid + index.to_bytes(4, "big")): (value, lock)
            for index, (value, lock, _) in enumerate(transfer.outputs)
        }
        size = len(raw) + 1_024 * len(transfer.outputs)
        spends = frozenset(coin_id for coin_id, _, _ in transfer.inputs)
        return cls(transfer, txid, size, spends, creates)


def _with_descendants(first: Sequence[_Waiting], pool: Sequence[_Waiting]) -> list[_Waiting]:
    found = list(first)
    for one in found:
        found += [
            other for other in pool if other.spends & one.creates.keys() and other not in found
        ]
    return found


def _with_ancestors(first: Sequence[_Waiting], pool: Sequence[_Waiting]) -> list[_Waiting]:
    found = list(first)
    for one in found:
        found += [
            other for other in pool if one.spends & other.creates.keys() and other not in found
        ]
    return found


def _links(new: _Waiting, pool: Sequence[_Waiting]) -> str | None:
    """§8.4: "at most 25 unconfirmed ancestors and 25 descendants"."""
    ancestors = _with_ancestors([new], pool)[1:]
    if len(ancestors) > 25:
        return "TOO_MANY_ANCESTORS"
    if any(len(_with_descendants([one], [*pool, new])) - 1 > 25 for one in ancestors):
        return "TOO_MANY_DESCENDANTS"
    return None


def _replaces(
    new: _Waiting, conflicts: Sequence[_Waiting], evicted: Sequence[_Waiting]
) -> str | None:
    """§8.4: "its rate is a quarter above that of each transfer that it conflicts with and its fee
    exceeds all that it evicts (at most 100, descendants included) by 1 grain per byte"."""
    rate = Fraction(new.fee, new.size)
    cheap = any(rate < Fraction(5, 4) * Fraction(one.fee, one.size) for one in conflicts)
    if conflicts and (
        cheap or len(evicted) > 100 or new.fee < sum(one.fee for one in evicted) + new.size
    ):
        return "REPLACEMENT_TOO_CHEAP"
    return None


def _only(name: str) -> Verdicts:
    return frozenset({name})


def _readable(transfers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """§5.3: above 256 KiB they are not read."""
    return {wid: raw for wid, raw in transfers.items() if len(raw) <= 256 * 1024}
