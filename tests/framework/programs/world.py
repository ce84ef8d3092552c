"""What the steps of a program make: coins, anchors and transfers, right ones and forged ones.

No node is asked for anything here, and nothing is random: nonces count up, signatures are toys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tests.framework.forge import (
    BACKEND,
    Forge,
    Forged,
    Member,
    key_condition,
    key_lock,
    spend_key,
)
from tests.framework.model import slow_body_root
from tests.framework.programs.steps import Operation, Step
from tests.framework.programs.toy_signatures import toy_signature, verify_toy
from tests.framework.slow import slow_hash
from tests.framework.slow_transfers import TransferFault, slow_fault
from unchained.node.consensus.params import REG, Network
from unchained.node.crypto.pow import compute_mix
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import COIN_SIZE, Coin, CoinHeader
from unchained.node.primitives.conditions import HashTimeLockCondition, MultisigCondition
from unchained.node.primitives.transfer import (
    Input,
    Output,
    Signature,
    SizedTransfer,
    Transfer,
    output_id,
    wid_of,
)
from unchained.node.primitives.types import ZERO32, CoinId

_replace = msgspec.structs.replace

NETWORKS: Final = (
    REG,
    _replace(REG, tau_ms=20_000),
    _replace(REG, max_reorg=4, window=3),
    _replace(REG, maturity=3, window=2, max_body_size=24 << 10),
)
"""Those of programs: `reg`, and the same where the target moves, where the tree is shallow, and
where coins mature slowly and bodies are small. All with proofs of 8 KiB."""

KEYS: Final = 3

COINS_MAX: Final = 64
"""Coins that a program mines at most, anchors included."""

GROWN_MAX: Final = 8
"""Anchors of one step at most."""

PREIMAGE: Final = b"preimage".ljust(32, b"\0")

MADE_UP: Final = b"made up".ljust(32, b"\0")
"""An id of nothing."""

COIN_FAULTS: Final = (
    "",
    "version",
    "chain",
    "high hash",
    "mix",
    "parent unknown",
    "parent no anchor",
    "height",
    "n_total",
    "harder target",
    "easier target",
    "time of parent",
    "too new",
    "much too new",
    "greatest height",
    "body root",
)

BODY_FAULTS: Final = (
    "",
    "history root",
    "state root",
    "fresh order",
    "uncles order",
    "too many fresh",
    "too many uncles",
    "too many transfers",
    "too many bytes",
    "garbage transfer",
    "unknown coin",
    "unknown transfer",
    "another body",
    "no anchor",
    "transfers reversed",
    "transfers twice",
)

TRANSFER_FAULTS: Final = (
    "",
    "version",
    "chain",
    "no inputs",
    "no outputs",
    "many inputs",
    "many outputs",
    "same input",
    "condition",
    "note",
    "zero value",
    "overflow",
    "preimages order",
    "lock height",
    "salt",
    "fee",
    "unsigned",
    "unused signature",
    "unused preimage",
    "signature",
    "large",
    "trailing byte",
    "dust",
    "unknown input",
    "early",
)


@dataclass(frozen=True)
class Locked:
    """How a coin that the world made may be spent: its condition, who signs, and with what."""

    condition: bytes
    keys: tuple[int, ...]
    preimages: tuple[bytes, ...] = ()
    lock_height: int = 0

    @property
    def lock(self) -> bytes:
        return slow_hash("lock", self.condition + ZERO32)


def _locks() -> tuple[Locked, ...]:
    """Return the ways to lock a coin that programs know: by key, by several, by a preimage, and
    by height."""
    hashes = sorted((spend_key(key).key_hash, key) for key in range(KEYS))
    several = MultisigCondition(2, tuple(key_hash for key_hash, _ in hashes)).to_bytes()
    claim, refund = (spend_key(key).key_hash for key in (1, 2))
    digest = hashlib.sha256(PREIMAGE).digest()
    timed = HashTimeLockCondition(digest, claim, refund, 2).to_bytes()
    later = HashTimeLockCondition(MADE_UP, claim, refund, 3).to_bytes()
    return (
        *(Locked(key_condition(key), (key,)) for key in range(KEYS)),
        Locked(several, (hashes[0][1], hashes[2][1])),
        Locked(timed, (1,), (PREIMAGE,)),
        Locked(later, (2,), (), 3),
    )


class World:
    """All that was made so far, in order. `now_ms` is what everybody's clock shows."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.forge = Forge(network)
        self.anchors: list[Forged] = [self.forge.genesis]
        self.coins: list[Coin] = []
        self.bodies: dict[CoinId, Forged] = {}
        """What was made of a body, by the coin that has it."""
        self.transfers: list[bytes] = []
        self.faults: dict[bytes, TransferFault] = {}
        """The transfers that break a rule by themselves, by wid."""
        self.now_ms = network.birth_ms + 60_000
        self._nonce = 0
        self._locks = {locked.lock: locked for locked in _locks()}
        self._listed: list[tuple[Coin, bool]] = []
        """Coins that the next anchor lists besides, as fresh or as uncles."""
        self._makers: dict[Operation, Callable[[Step], None]] = {
            Operation.COIN: self._coin,
            Operation.ANCHOR: self._anchor,
            Operation.GROW: self._grow,
            Operation.LIST: self._list,
            Operation.TRANSFER: self._transfer,
            Operation.CASCADE: self._cascade,
            Operation.CLOCK: self._clock,
        }

    def take(self, step: Step) -> bool:
        """Make what a step says; return whether it makes something, or is for the nodes."""
        maker = self._makers.get(step.operation)
        if maker is not None:
            maker(step)
        return maker is not None

    def _clock(self, step: Step) -> None:
        self.now_ms += (step["minutes"] + 1) * 60_000

    def parent(self, step: Step) -> Forged:
        """Return the anchor that a step builds on, the latest first."""
        return self.anchors[-1 - step["on"] % len(self.anchors)]

    # Coins

    def _coin(self, step: Step) -> None:
        if len(self.coins) >= COINS_MAX:
            return
        faults = _two(step["fault"], COIN_FAULTS)
        parent = self.parent(step)
        header = self._header(parent, step, faults, None, step["key"] % KEYS)
        luck = ("plain", "any", "grade", "unlucky")[step["luck"] % 4]
        self.coins.append(self._mine(header, luck, faults))

    def _header(
        self, parent: Forged, step: Step, faults: Sequence[str], body: Body | None, key: int
    ) -> CoinHeader:
        time = parent.time + 1 + self._later_ms(step["time"])
        plain = next((coin for coin in reversed(self.coins) if coin.id not in self.bodies), None)
        wrong: dict[str, dict[str, Any]] = {
            "version": {"version": 2},
            "chain": {"chain_id": self.network.chain_id - 1},
            "parent unknown": {"parent": MADE_UP},
            "parent no anchor": {"parent": MADE_UP if plain is None else plain.id},
            "height": {"height": min(parent.height + 2, 2**64 - 1)},
            "n_total": {"n_total": parent.n_total + 1},
            "harder target": {"target": parent.target - 1},
            "easier target": {"target": min(2 * parent.target, 2**256 - 1)},
            "time of parent": {"time": parent.time},
            "too new": {"time": self.now_ms + self.network.future_limit_ms + 1 + step["time"]},
            "much too new": {"time": self.now_ms + 3 * self.network.future_limit_ms},
            "greatest height": {"height": 2**64 - 1},
            "body root": {"body_root": MADE_UP},
        }
        fields: dict[str, Any] = {
            "height": min(parent.height + 1, 2**64 - 1),
            "time": time,
            "lock": key_lock(key),
            "body_root": slow_body_root(self.forge.body(parent) if body is None else body),
        }
        for fault in faults:
            fields |= wrong.get(fault, {})
        return _replace(self.forge.header(parent), **fields)

    def _later_ms(self, operand: int) -> int:
        """Return how long after its parent something is mined: up to seven epochs, or, by the last
        operands, up to three hours."""
        if operand < 224:
            return operand * self.network.epoch_ms // 32
        return (operand - 223) * 360_000

    def _mine(self, header: CoinHeader, luck: str, faults: Sequence[str]) -> Coin:
        target, k = header.target, self.network.coins_per_epoch
        low, high = {
            "plain": (target // k + 1, target),
            "any": (0, target),
            "grade": (0, target // k),
            "unlucky": (target - target // 8, target),
        }[luck]
        if "high hash" in faults:
            low, high = target + 1, 2**256
        is_forged = "mix" in faults
        while True:
            self._nonce += 1
            header = _replace(header, nonce=self._nonce)
            raw = header.to_bytes()
            mix = compute_mix(BACKEND, raw, self.network.mem_kib)
            coin = Coin.assemble(header, slow_hash("forged", mix) if is_forged else mix)
            if low <= int.from_bytes(coin.id, "big") <= high:
                return coin

    # Anchors

    def _list(self, step: Step) -> None:
        if self.coins:
            coin = self.coins[-1 - step["coin"] % len(self.coins)]
            self._listed.append((coin, step["place"] % 2 == 0))

    def _grow(self, step: Step) -> None:
        for _ in range(1 + step["count"] % GROWN_MAX):
            self._anchor(
                Step.of(Operation.ANCHOR, on=step["on"], time=step["time"], take=1, carry=1)
            )
            step = Step.of(Operation.GROW, time=step["time"])

    def _anchor(self, step: Step) -> None:
        if len(self.coins) >= COINS_MAX:
            return
        parent = self.parent(step)
        of_body, of_coin = BODY_FAULTS[step["fault"] % 16], COIN_FAULTS[step["fault"] // 16]
        fresh, uncles = self._eligible(parent, step)
        for coin, is_fresh in self._listed:
            (fresh if is_fresh else uncles)[coin.id] = coin
        self._listed = []
        raws = self._carried(parent, step)
        if of_body == "garbage transfer":
            raws.append(bytes((0x98, *raws[-1][:60])) if raws else b"\xc0")
        elif of_body == "transfers reversed":
            raws.reverse()
        elif of_body == "transfers twice":
            raws += raws
        elif of_body == "too many bytes" and raws:
            raws += raws[:1] * (self.network.max_body_size // len(raws[0]))
        self._judge(raws)
        body = Body(
            tuple(sorted(fresh)),
            tuple(sorted(uncles)),
            tuple(map(wid_of, raws)),
            parent.state_root(),
            parent.history_root(),
        )
        body = self._wrong_body(body, of_body)
        # A key is not for the step to choose: a byte is left for none.
        header = self._header(parent, step, (of_coin,), body, parent.height % KEYS)
        if of_body == "another body":
            header = _replace(header, body_root=slow_body_root(_replace(body, uncles=(MADE_UP,))))
        luck = "plain" if of_body == "no anchor" else "grade"
        coin = self._mine(header, luck, (of_coin,))
        sound = [SizedTransfer.from_bytes(raw) for raw in raws if wid_of(raw) not in self.faults]
        if of_body in ("too many bytes", "transfers twice"):
            sound = sound[:1]
        listed = [*fresh.values(), *uncles.values()]
        anchor = self.forge.adopt(
            parent, coin, body, listed, sound, {wid_of(raw): raw for raw in raws}
        )
        self.coins.append(coin)
        self.bodies[coin.id] = anchor
        self.anchors.append(anchor)

    def _eligible(
        self, parent: Forged, step: Step
    ) -> tuple[dict[CoinId, Coin], dict[CoinId, Coin]]:
        """Return the coins that a child of `parent` may list and takes: all, none, the fresh ones
        or every other one; never those that are known to be forged."""
        choice = step["take"] % 4
        if choice == 1:
            return {}, {}
        height, chain = parent.height + 1, parent.chain()
        ids = {anchor.id for anchor in chain}
        there = dict(parent.listed)
        fresh: dict[CoinId, Coin] = {}
        uncles: dict[CoinId, Coin] = {}
        for coin in self.coins:
            age = height - coin.height
            if coin.id in there or not 0 <= age <= self.network.window or not self._is_sound(coin):
                continue
            if coin.parent == parent.id:
                home: Forged | None = parent
            else:
                home = next((a for a in chain if a.id == coin.parent), None)
            if home is not None:
                header = coin.header
                if (header.height, header.n_total, header.target) != (
                    home.height + 1,
                    home.n_total,
                    home.target,
                ) or header.time <= home.time:
                    continue
                (fresh if home is parent else uncles)[coin.id] = coin
            elif coin.parent not in ids and self._is_stray(coin, there.get(coin.parent), parent):
                uncles[coin.id] = coin
            else:
                continue
            there[coin.id] = coin
        if choice == 2:
            uncles = {}
        elif choice == 3:
            fresh, uncles = _every_other(fresh), _every_other(uncles)
        return fresh, uncles

    def _is_stray(self, coin: Coin, parent: Coin | None, tip: Forged) -> bool:
        """Return whether a child of `tip` may list a coin as stray, whose parent it or its chain
        lists."""
        if parent is None:
            return False
        targets = [step.coin.header.target for step in tip.chain()] + [tip.target]
        return (
            coin.height == parent.height + 1 < len(targets)
            and coin.header.time > parent.header.time
            and int.from_bytes(coin.id, "big") <= targets[coin.height]
            and int.from_bytes(parent.id, "big")
            <= targets[parent.height] // self.network.coins_per_epoch
        )

    def _is_sound(self, coin: Coin) -> bool:
        header = coin.header
        return (
            (header.version, header.chain_id) == (1, self.network.chain_id)
            and int.from_bytes(coin.id, "big") <= header.target
            and compute_mix(BACKEND, header.to_bytes(), self.network.mem_kib) == coin.mix
        )

    def _wrong_body(self, body: Body, fault: str) -> Body:
        many = tuple(slow_hash("many", bytes((number >> 8, number & 255))) for number in range(65))
        changes: dict[str, dict[str, Any]] = {
            "history root": {"history_root": MADE_UP},
            "state root": {"state_root": MADE_UP},
            "fresh order": {"fresh": (*body.fresh, *body.fresh[:1])},
            "uncles order": {"uncles": body.uncles[:1] + body.uncles[::-1]},
            "too many fresh": {"fresh": many},
            "too many uncles": {"uncles": many},
            "too many transfers": {"transfers": (MADE_UP,) * (self.network.max_transfers + 1)},
            "unknown coin": {"fresh": (*body.fresh, MADE_UP)},
            "unknown transfer": {"transfers": (*body.transfers, MADE_UP)},
        }
        return _replace(body, **changes.get(fault, {}))

    # Transfers

    def _carried(self, parent: Forged, step: Step) -> list[bytes]:
        """Return the transfers that a child of `parent` lists: those that it may, none, all that
        there are, or the last."""
        choice = step["carry"] % 4
        if choice == 1 or not self.transfers:
            return []
        if choice == 2:
            return list(self.transfers[:40])
        if choice == 3:
            return self.transfers[-1:]
        unspent, carried = dict(parent.unspent), list[bytes]()
        for raw in self.transfers:
            if wid_of(raw) in self.faults or len(carried) == 40:
                continue
            sized = SizedTransfer.from_bytes(raw)
            members = [unspent.get(CoinId(one.coin_id)) for one in sized.transfer.inputs]
            if all(
                member is not None
                and not (
                    member.minted and parent.height + 1 - member.height < self.network.maturity
                )
                for member in members
            ):
                carried.append(raw)
                for one in sized.transfer.inputs:
                    del unspent[CoinId(one.coin_id)]
                for index, output in enumerate(sized.transfer.outputs):
                    unspent[output_id(sized.txid, index)] = Member(
                        output.value, output.lock, parent.height + 1, minted=False
                    )
        return carried

    def _transfer(self, step: Step) -> None:
        faults = _two(step["fault"], TRANSFER_FAULTS)
        shape = step["shape"]
        coins = self._spendable(self.parent(step))
        spent = [coins[(step["coin"] + at) % len(coins)] for at in range(1 + (shape >> 5) % 4)]
        fee = 20_000 if step["fee"] == 0 else (step["fee"] - 1) * 1_000
        locked = (*self._locks.values(),)[(shape >> 2) % len(self._locks)]
        self._make(list(dict(spent).items()), 1 + shape % 4, locked, fee, faults)

    def _cascade(self, step: Step) -> None:
        coins = self._spendable(self.parent(step))
        spent = coins[step["coin"] % len(coins)]
        locked = next(iter(self._locks.values()))
        for _ in range(1 + step["count"] % 32):
            sized = self._make([spent], 1, locked, 20_000, ())
            created = sized.transfer.outputs[0]
            spent = output_id(sized.txid, 0), (created.value, bytes(created.lock))

    def _spendable(self, parent: Forged) -> list[tuple[CoinId, tuple[int, bytes]]]:
        """Return coins to spend after an anchor, ids with values and locks: first what transfers
        have created that are there and nothing spends, the latest first, then what is mature, then
        what is not, then what has been spent."""
        made: dict[CoinId, tuple[int, bytes]] = {}
        gone: dict[CoinId, tuple[int, bytes]] = {}
        values = {i: (m.value, m.lock) for i, m in parent.unspent.items()}
        for raw in self.transfers:
            if wid_of(raw) in self.faults:
                continue
            sized = SizedTransfer.from_bytes(raw)
            for one in sized.transfer.inputs:
                for those in (made, values):
                    if one.coin_id in those:
                        gone[CoinId(one.coin_id)] = those.pop(CoinId(one.coin_id))
            for index, output in enumerate(sized.transfer.outputs[:8]):
                made[output_id(sized.txid, index)] = output.value, bytes(output.lock)
        height = parent.height + 1
        mature = [
            (i, values[i])
            for i, m in parent.unspent.items()
            if i in values and not (m.minted and height - m.height < self.network.maturity)
        ]
        ripe = dict(mature)
        young = [(i, found) for i, found in values.items() if i not in ripe]
        unknown = [(CoinId(MADE_UP), (1_000_000, bytes(key_lock(0))))]
        return [*mature, *reversed(made.items()), *young, *gone.items(), *unknown]

    def _make(
        self,
        spent: Sequence[tuple[CoinId, tuple[int, bytes]]],
        outputs: int,
        locked: Locked,
        fee: int,
        faults: Sequence[str],
    ) -> SizedTransfer:
        ways = [self._locks.get(lock, next(iter(self._locks.values()))) for _, (_, lock) in spent]
        total = sum(value for _, (value, _) in spent)
        fee = min(fee, max(0, total - outputs))
        values = [(total - fee) // outputs] * outputs
        values[0] += total - fee - sum(values)
        transfer = Transfer(
            1,
            self.network.chain_id,
            max(way.lock_height for way in ways),
            fee,
            tuple(
                Input(coin_id, way.condition, ZERO32)
                for (coin_id, _), way in zip(spent, ways, strict=True)
            ),
            tuple(Output(value, locked.lock, b"") for value in values),
            (),
            tuple(sorted({preimage for way in ways for preimage in way.preimages})),
        )
        keys = {key for way in ways for key in way.keys}
        raw = self._signed(_wrong_transfer(transfer, faults), keys, faults)
        self.transfers.append(raw)
        self._judge([raw])
        return (
            SizedTransfer.of(transfer)
            if wid_of(raw) in self.faults
            else SizedTransfer.from_bytes(raw)
        )

    def _signed(self, transfer: Transfer, keys: Iterable[int], faults: Sequence[str]) -> bytes:
        signers = {spend_key(key).key_hash: spend_key(key).public_key for key in keys}
        if "unused signature" in faults:
            signers[spend_key(KEYS).key_hash] = spend_key(KEYS).public_key
        if "unsigned" in faults:
            signers = {}
        sighash = SizedTransfer.of(transfer).sighash
        signatures = [
            Signature(key, toy_signature(key, sighash)) for _, key in sorted(signers.items())
        ]
        if "signature" in faults and signatures:
            signatures[-1] = _replace(signatures[-1], signature=bytes(3_309))
        raw = _replace(transfer, signatures=tuple(signatures)).to_bytes()
        return raw + b"\0" if "trailing byte" in faults else raw

    def _judge(self, raws: Iterable[bytes]) -> None:
        """Note which transfers break a rule by themselves."""
        for raw in raws:
            fault = slow_fault(raw, self.network.chain_id, verify_toy)
            if fault is not None:
                self.faults[wid_of(raw)] = fault

    # What looks like something of the world

    def raw_coin(self, coin: Coin, form: int, at: int) -> bytes:
        """Return the bytes of a coin, or some that look like them."""
        raw = bytes(coin.raw)
        if form == 1:
            return raw[: at % COIN_SIZE]
        if form == 2:
            at %= COIN_SIZE
            return raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]
        return raw


def _wrong_transfer(transfer: Transfer, faults: Sequence[str]) -> Transfer:
    for fault in faults:
        first_in, first_out = transfer.inputs[:1], transfer.outputs[:1]
        changes_of: dict[str, dict[str, Any]] = {
            "version": {"version": 2},
            "chain": {"chain_id": transfer.chain_id + 1},
            "no inputs": {"inputs": ()},
            "no outputs": {"outputs": ()},
            "many inputs": {
                "inputs": tuple(
                    Input(number.to_bytes(32, "big"), b"\0" + ZERO32, ZERO32)
                    for number in range(1_025)
                )
            },
            "many outputs": {"outputs": first_out * 257},
            "same input": {"inputs": transfer.inputs + first_in},
            "condition": {
                "inputs": tuple(_replace(one, condition=one.condition + b"\0") for one in first_in)
            },
            "note": {"outputs": tuple(_replace(one, note=bytes(9)) for one in first_out)},
            "zero value": {
                "outputs": (*transfer.outputs, *(_replace(one, value=0) for one in first_out))
            },
            "overflow": {
                "outputs": (*transfer.outputs, *(_replace(o, value=2**63 - 1) for o in first_out))
            },
            "preimages order": {"preimages": (b"b" * 32, b"a" * 32)},
            "lock height": {"lock_height": 200},
            "salt": {"inputs": tuple(_replace(one, salt=MADE_UP) for one in transfer.inputs)},
            "fee": {"fee": transfer.fee + 1},
            "early": {"lock_height": 0, "preimages": ()},
            "unused preimage": {"preimages": tuple(sorted({*transfer.preimages, MADE_UP}))},
            "large": {"outputs": tuple(_replace(one, note=bytes(300_000)) for one in first_out)},
            "dust": {
                "outputs": tuple(_replace(one, value=one.value - 1) for one in first_out)
                + tuple(_replace(one, value=1) for one in first_out)
                + transfer.outputs[1:]
            }
            if first_out and first_out[0].value > 1
            else {},
            "unknown input": {
                "inputs": (*transfer.inputs, Input(MADE_UP, key_condition(0), ZERO32))
            },
        }
        transfer = _replace(transfer, **changes_of.get(fault, {}))
    return transfer


def _two(operand: int, names: Sequence[str]) -> tuple[str, ...]:
    """Return the one or two faults that an operand names."""
    first, second = operand % len(names), operand // len(names)
    return tuple(names[at] for at in (first, second) if at)


def _every_other(coins: dict[CoinId, Coin]) -> dict[CoinId, Coin]:
    return {coin_id: coins[coin_id] for coin_id in list(coins)[::2]}
