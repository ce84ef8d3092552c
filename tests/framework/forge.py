"""Makes valid and deliberately broken coins, bodies, anchors and transfers, without a node.

A `Forge` mines on a cheap network, so that a coin costs microseconds. It keeps for each anchor that
it makes what a child has to commit to, and nothing stops it from committing to something else.
Spend keys come from seeds; signatures are hedged, so ids differ from run to run wherever a
transfer is committed to, and nothing that a test decides may depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec

from tests.framework.slow import SlowNetwork, slow_child_target
from tests.framework.slow_ranges import (
    SlowRange,
    slow_anchor_node,
    slow_coin_join,
    slow_coin_leaf,
    slow_history_hash,
    slow_history_join,
    slow_state_hash,
)
from unchained.node.chain.results import Package
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG, Network
from unchained.node.consensus.transition import body_root
from unchained.node.crypto.keys import SpendKey
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.conditions import KeyCondition, lock_of
from unchained.node.primitives.transfer import (
    Input,
    Output,
    Signature,
    SizedTransfer,
    Transfer,
    output_id,
)
from unchained.node.primitives.types import ZERO32, CoinId, Lock, Wid

BACKEND: Final = default_backend()
"""What the forge mines with."""

LATE_ENOUGH_MS: Final = 10**10
"""Milliseconds after genesis at which nothing that the forge makes is too new."""


class Member(msgspec.Struct, frozen=True):
    """A coin of a forged coin set. Amounts in grains."""

    value: int
    lock: bytes
    height: int
    minted: bool


@dataclass(eq=False)
class Forged:
    """An anchor that the forge made, its body, and what follows for its children."""

    coin: Coin
    body: Body
    parent: Forged | None
    n_total: int
    target: int
    listed: dict[bytes, Coin]
    """All anchors of this chain and what they list, by id."""
    unspent: dict[CoinId, Member]
    positions: dict[CoinId, int]
    """Of all coins that ever were in this chain's set."""
    state: SlowRange
    pool: int
    history: SlowRange
    coins: dict[CoinId, Coin] = field(default_factory=dict)
    """What the body lists."""
    transfers: dict[Wid, bytes] = field(default_factory=dict)

    @property
    def id(self) -> CoinId:
        """The anchor's id."""
        return self.coin.id

    @property
    def height(self) -> int:
        """The anchor's height."""
        return self.coin.height

    @property
    def time(self) -> int:
        """The time in the anchor's header, ms."""
        return self.coin.header.time

    def state_root(self) -> bytes:
        """Return the state root after this anchor."""
        supply = sum(member.value for member in self.unspent.values())
        return slow_state_hash(self.state.length, supply, self.pool, self.state.nodes())

    def history_root(self) -> bytes:
        """Return the history root after this anchor."""
        return slow_history_hash(self.history.length, self.history.nodes())

    def package(self) -> Package:
        """Return the body with all that it lists."""
        return Package(self.coin, self.body, dict(self.coins), dict(self.transfers))

    def chain(self) -> list[Forged]:
        """Return genesis, ..., this anchor."""
        steps: list[Forged] = []
        step: Forged | None = self
        while step is not None:
            steps.append(step)
            step = step.parent
        return steps[::-1]


@cache
def spend_key(number: int) -> SpendKey:
    """Return the forge's spend key of a number."""
    return SpendKey.from_seed(number.to_bytes(32, "big"))


@cache
def key_condition(number: int) -> bytes:
    """Return the condition that the spend key of a number meets."""
    return KeyCondition(spend_key(number).key_hash).to_bytes()


@cache
def key_lock(number: int) -> Lock:
    """Return the lock of `key_condition(number)` with a zero salt."""
    return lock_of(key_condition(number), ZERO32)


class Forge:
    """Grows trees of anchors on one network. Every coin has another nonce, so ids differ."""

    def __init__(self, network: Network = REG) -> None:
        self.network = network
        genesis = genesis_of(network)
        self.genesis = Forged(
            genesis.coin,
            genesis.body,
            None,
            0,
            network.target0,
            {genesis.id: genesis.coin},
            {},
            {},
            SlowRange(slow_coin_join),
            0,
            SlowRange(slow_history_join).append(
                slow_anchor_node(genesis.id, 0, 0, 0, genesis.coin.header.time)
            ),
        )
        self._nonce = 0

    @property
    def now_ms(self) -> int:
        """A time at which nothing that the forge makes is too new, ms."""
        return self.network.birth_ms + LATE_ENOUGH_MS

    # Coins

    def mine(self, header: CoinHeader, *, grade: bool | None = None, most: int = 0) -> Coin:
        """Return a coin whose id is at most the header's target.

        `grade`: whether it is to be of anchor grade, None for either. `most`, if not 0, stands
        in for the target.
        """
        limit = most or header.target
        grade_limit = limit // self.network.coins_per_epoch
        while True:
            self._nonce += 1
            header = msgspec.structs.replace(header, nonce=self._nonce)
            mix = compute_mix(BACKEND, header.to_bytes(), self.network.mem_kib)
            coin = Coin.assemble(header, mix)
            number = int.from_bytes(coin.id, "big")
            if number <= limit and (grade is None or grade == (number <= grade_limit)):
                return coin

    def header(
        self, parent: Forged, *, body: Body | None = None, key: int = 0, **fields: Any
    ) -> CoinHeader:
        """Return the header of a coin bound to an anchor; `fields` replace what is right."""
        header = CoinHeader(
            chain_id=self.network.chain_id,
            version=1,
            parent=parent.id,
            height=parent.height + 1,
            time=parent.time + self.network.epoch_ms,
            n_total=parent.n_total,
            target=parent.target,
            lock=key_lock(key),
            body_root=body_root(self.body(parent) if body is None else body),
            nonce=0,
        )
        return msgspec.structs.replace(header, **fields)

    def coin(self, parent: Forged, *, grade: bool | None = False, **fields: Any) -> Coin:
        """Return a coin bound to an anchor; `fields` replace fields of its header."""
        return self.mine(self.header(parent, **fields), grade=grade)

    def forged_mix(self, parent: Forged, *, grade: bool = False, **fields: Any) -> Coin:
        """Return a coin whose id would do, with a mix that no Argon2id has given."""
        header = self.header(parent, **fields)
        while True:
            self._nonce += 1
            coin = Coin.assemble(header, self._nonce.to_bytes(32, "big"))
            number = int.from_bytes(coin.id, "big")
            limit = header.target // self.network.coins_per_epoch
            if number <= header.target and grade == (number <= limit):
                return coin

    # Anchors

    def body(
        self,
        parent: Forged,
        fresh: Iterable[Coin] = (),
        uncles: Iterable[Coin] = (),
        transfers: Iterable[SizedTransfer] = (),
    ) -> Body:
        """Return the body of a child of `parent`."""
        return Body(
            tuple(sorted(coin.id for coin in fresh)),
            tuple(sorted(coin.id for coin in uncles)),
            tuple(sized.wid for sized in transfers),
            parent.state_root(),
            parent.history_root(),
        )

    def anchor(
        self,
        parent: Forged,
        fresh: Sequence[Coin] = (),
        uncles: Sequence[Coin] = (),
        transfers: Sequence[SizedTransfer] = (),
        *,
        raw_transfers: Mapping[bytes, bytes] | None = None,
        body_fields: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Forged:
        """Return an anchor bound to `parent` with such a body, valid or not.

        `body_fields` replace fields of the body, `fields` those of the header; `raw_transfers`
        are bytes by wid that the body may list besides.
        """
        body = self.body(parent, fresh, uncles, transfers)
        body = msgspec.structs.replace(body, **dict(body_fields or {}))
        coin = self.mine(self.header(parent, body=body, **fields), grade=True)
        return self.adopt(parent, coin, body, [*fresh, *uncles], transfers, raw_transfers or {})

    def adopt(
        self,
        parent: Forged,
        coin: Coin,
        body: Body,
        coins: Sequence[Coin] = (),
        transfers: Sequence[SizedTransfer] = (),
        raw_transfers: Mapping[bytes, bytes] | None = None,
    ) -> Forged:
        """Work out what follows from an anchor with a body, as if all of it were valid."""
        known = {listed.id: listed for listed in coins}
        coin_set = _CoinSet(dict(parent.unspent), dict(parent.positions), parent.state)
        pool = parent.pool
        for sized in transfers:
            pool += sized.transfer.fee
            coin_set.apply(sized, coin.height)
        minted = [(coin, self.network.subsidy + pool // 4)]
        pool -= pool // 4
        minted += [(known[i], self.network.subsidy) for i in map(CoinId, body.fresh) if i in known]
        minted += [
            (known[i], self._uncle_value(parent, known[i], coin.height))
            for i in map(CoinId, body.uncles)
            if i in known
        ]
        for mint, value in minted:
            coin_set.create(mint.id, Member(value, mint.header.lock, coin.height, True))
        listed = {**parent.listed, coin.id: coin}
        listed.update(known.items())
        count = len(body.fresh) + len(body.uncles)
        n_total = coin.header.n_total + count + 1
        header, k = coin.header, self.network.coins_per_epoch
        return Forged(
            coin,
            body,
            parent,
            n_total,
            self._child_target(parent, coin, n_total),
            listed,
            coin_set.unspent,
            coin_set.positions,
            coin_set.state,
            pool,
            parent.history.append(slow_anchor_node(coin.id, header.target, k, count, header.time)),
            known,
            {sized.wid: sized.raw for sized in transfers}
            | {Wid(wid): raw for wid, raw in (raw_transfers or {}).items()},
        )

    def _uncle_value(self, parent: Forged, uncle: Coin, height: int) -> int:
        for step in parent.chain():
            if step.id == uncle.parent and step.height == uncle.height - 1:
                return self.network.subsidy * max(16 - (height - uncle.height), 1) // 16
        return self.network.subsidy // 4

    def _child_target(self, parent: Forged, coin: Coin, n_total: int) -> int:
        if self.network.tau_ms == 0:
            return self.network.target0
        chain = parent.chain()
        first_time = chain[1].time if len(chain) > 1 else coin.header.time
        first_n_total = chain[1].n_total if len(chain) > 1 else n_total
        network = self.network
        slow = SlowNetwork(
            network.target0,
            network.max_target,
            network.epoch_ms,
            network.coins_per_epoch,
            network.tau_ms,
        )
        return slow_child_target(slow, coin.header.time - first_time, n_total - first_n_total)

    def grow(self, parent: Forged, count: int, **fields: Any) -> Forged:
        """Return the last of `count` empty anchors on top of `parent`."""
        for _ in range(count):
            parent = self.anchor(parent, **fields)
        return parent

    # Transfers

    def transfer(
        self,
        spent: Sequence[tuple[CoinId, int]],
        outputs: Sequence[tuple[int, int]],
        *,
        fee: int = 0,
        sign: bool = True,
        **fields: Any,
    ) -> SizedTransfer:
        """Return a transfer of coins, each with its key's number, to (value, key's number).

        `fields` replace fields of the transfer, before it is signed by the keys of the coins.
        """
        transfer = Transfer(
            version=1,
            chain_id=self.network.chain_id,
            lock_height=0,
            fee=fee,
            inputs=tuple(Input(coin_id, key_condition(key), ZERO32) for coin_id, key in spent),
            outputs=tuple(Output(value, key_lock(key), b"") for value, key in outputs),
            signatures=(),
            preimages=(),
        )
        transfer = msgspec.structs.replace(transfer, **fields)
        return self.signed(transfer, {key for _, key in spent}) if sign else of(transfer)

    @staticmethod
    def signed(transfer: Transfer, keys: Iterable[int]) -> SizedTransfer:
        """Return the transfer with the signatures of keys by number, in order."""
        sighash = of(transfer).sighash
        signers = sorted({spend_key(key).key_hash: spend_key(key) for key in keys}.items())
        signatures = tuple(Signature(key.public_key, key.sign(sighash)) for _, key in signers)
        return of(msgspec.structs.replace(transfer, signatures=signatures))


def of(transfer: Transfer) -> SizedTransfer:
    """Return the transfer with its bytes and names."""
    return SizedTransfer.of(transfer)


@dataclass
class _CoinSet:
    """A coin set on its way from one anchor to the next."""

    unspent: dict[CoinId, Member]
    positions: dict[CoinId, int]
    state: SlowRange

    def apply(self, sized: SizedTransfer, height: int) -> None:
        """Spend and create what a transfer does."""
        for entry in sized.transfer.inputs:
            coin_id = CoinId(entry.coin_id)
            if self.unspent.pop(coin_id, None) is not None:
                self.state = self.state.replace(self.positions[coin_id], bytes(32))
        for index, output in enumerate(sized.transfer.outputs):
            coin_id = output_id(sized.txid, index)
            self.create(coin_id, Member(output.value, output.lock, height, False))

    def create(self, coin_id: CoinId, member: Member) -> None:
        """Add a coin."""
        self.unspent[coin_id] = member
        self.positions[coin_id] = self.state.length
        self.state = self.state.append(
            slow_coin_leaf(coin_id, member.value, member.lock, member.height, member.minted)
        )
