"""Chains for benchmarks: of any length and fullness, made in seconds.

The proofs are forged: benchmarks of the chain take them as verified, so a mix is any 32 bytes whose
coin has an id low enough. All else is as the rules want it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Package, ProvenAnchor, ProvenCoin
from unchained.node.chain.template import Template, build_template
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import REG, Network
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.crypto.state_range import StateRange, leaf_of
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.hashing import COIN_HASH
from unchained.node.primitives.types import CoinId, Lock, Wid
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.open import NodeStore, open_store
from unchained.storage.pages import BatchPages, StoredPages
from unchained.storage.schema import CoinHistory

SEED = 20_261_121

FILLED_AT_ONCE = 20_000
"""Coins that `fill` writes in a batch."""


def open_core(store: KeyValueStore, network: Network = REG) -> ChainCore:
    """Return a chain on a store, for a process whose clock stands still."""
    return ChainCore(store, network, lambda: 0, 2**62)


def new_store(directory: Path, network: Network = REG) -> NodeStore:
    """Return a new LevelDB store below a directory."""
    return open_store(directory, network, create=True)


def fill(
    store: KeyValueStore, positions: int, lock: Lock, seed: int = SEED, *, anchors: int = 0
) -> list[CoinId]:
    """Let a chain of genesis alone have so many coins of a lock, as no chain could; return them.

    They say that as many `anchors` as there will be included them, each its share.
    """
    rng = random.Random(seed)
    open_core(store)
    state = StateRange(StoredPages(store, schema.STATE_PAGE), 0)
    value, made = REG.subsidy, list[CoinId]()
    while state.count < positions:
        batch = Batch()
        for position in range(state.count, min(state.count + FILLED_AT_ONCE, positions)):
            coin_id = CoinId(rng.randbytes(32))
            made.append(coin_id)
            height = 1 + position * anchors // positions if anchors else 0
            state.append(leaf_of(coin_id, value, lock, height, False))
            coin = UnspentCoin(value, lock, height, False, position)
            batch.put(schema.UNSPENT.key(coin_id), schema.UNSPENT.encode(coin))
            found = CoinHistory(CoinKind.OUTPUT, height, value, bytes(32), 0, 0, b"", position)
            batch.put(schema.HISTORY.key(coin_id), schema.HISTORY.encode(found))
        state.flush(BatchPages(batch, schema.STATE_PAGE))
        store.write(batch, sync=False)
    batch = Batch()
    empty = schema.STATE.get(store, 0)
    assert empty is not None
    full = msgspec.structs.replace(empty, positions=positions, supply=positions * value)
    batch.put(schema.STATE.key(0), schema.STATE.encode(full))
    store.write(batch, sync=True)
    return made


class Forger:
    """Makes coins on templates, from a seed."""

    def __init__(self, network: Network = REG, seed: int = SEED) -> None:
        self._network = network
        self._random = random.Random(seed)

    def coin(
        self, template: Template, *, lock: Lock, wanted: Callable[[int], bool], step_ms: int = 100
    ) -> Coin:
        """Return a coin whose id satisfies `wanted`, its mix forged."""
        header = template.header(
            lock=lock, time=template.parent_time + step_ms, nonce=self._random.getrandbits(64)
        )
        raw = header.to_bytes()
        while True:
            mix = self._random.randbytes(32)
            if wanted(int.from_bytes(COIN_HASH(raw + mix), "big")):
                return Coin.assemble(header, mix)

    def epoch(self, core: ChainCore, fresh: int, lock: Lock | None = None) -> Package:
        """Grow the chain by an anchor that lists so many fresh coins; return it."""
        grade = self._network.grade_target
        first = build_template(core, core.tip.context.time)
        coins: list[Coin] = []
        for _ in range(fresh):
            coin = self.coin(
                first,
                lock=lock or Lock(self._random.randbytes(32)),
                wanted=lambda value: grade(first.target) < value <= first.target,
            )
            core.submit_proven_coin(ProvenCoin(coin), coin.header.time)
            coins.append(coin)
        template = build_template(core, core.tip.context.time)
        anchor = self.coin(
            template,
            lock=lock or Lock(self._random.randbytes(32)),
            wanted=lambda value: value <= grade(template.target),
        )
        assert is_anchor_grade(anchor, self._network)
        package = Package(
            anchor,
            template.body,
            {coin.id: coin for coin in coins},
            {Wid(wid): core.transfer_bytes(Wid(wid)) or b"" for wid in template.body.transfers},
        )
        core.submit_proven_coin(ProvenCoin(anchor), anchor.header.time)
        core.submit_proven_anchor(ProvenAnchor(package))
        assert core.tip.id == anchor.id
        return package

    def chain(self, core: ChainCore, anchors: int, fresh: int) -> Iterator[Package]:
        """Grow the chain by so many anchors; yield each."""
        for _ in range(anchors):
            yield self.epoch(core, fresh)


def connect(core: ChainCore, package: Package) -> CoinId:
    """Submit an anchor with all that its body lists, all proofs verified; return its id."""
    core.submit_proven_coin(ProvenCoin(package.anchor), package.anchor.header.time)
    core.submit_proven_anchor(ProvenAnchor(package))
    return package.anchor.id
