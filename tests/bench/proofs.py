"""Proofs of coins (Protocol §12.1) on a store of a million positions and their anchors, on LevelDB.

- `proofs`: milliseconds to make the proof of an unspent coin, whole file, any of the million; the
  reference checks its paths.
- `proofs_size`: bytes of that file; the reference is the hashes in its paths alone.
- `proofs_spent`: milliseconds for a coin that one of the last anchors spent.
- `proofs_first`: milliseconds for the first proof at a tip, whose body was full; the reference is a
  later one.
- `proofs_spends`: milliseconds of what a full body does to the state: 480 spends all over it, 960
  new positions, the root. The reference makes the same number of nodes of nothing.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench._result import result
from tests.framework.benchchain import SEED, fill, new_store
from unchained.node.chain.coin_proofs import CoinProofs
from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.consensus.context import leaf_of as anchor_leaf
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG
from unchained.node.crypto import history_range, state_range
from unchained.node.crypto.history_range import HistoryRange
from unchained.node.crypto.state_range import SPENT, StateRange
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Lock
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.pages import BatchPages, StoredPages
from unchained.storage.schema import AnchorRecord, SpentCoin, StateRecord, UndoRecord

POSITIONS = 1_000_000
COINS_PER_ANCHOR = 17
SPENDS = 480
OUTPUTS = 960
SPENDING_ANCHORS = 8
"""Last anchors, whose bodies are full."""
RUNS = 5
PROOFS = 100
BODIES = 20
BATCH = 5_000
GOAL_MS = 2.0
GOAL_BYTES = 8_000.0
GOAL_FIRST_MS = 100.0
GOAL_SPENDS_MS = 15.0
LOCK = Lock(bytes(32))


class MadeUpStore:
    """A chain as rows of a store, as large as wanted and as proofs read it: no coin of it was
    mined."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._rng = random.Random(SEED)
        self.anchors = POSITIONS // COINS_PER_ANCHOR
        self.coins = fill(store, POSITIONS, LOCK, anchors=self.anchors)
        self._tip = genesis_of(REG).coin
        self._state = StateRange(StoredPages(store, schema.STATE_PAGE), POSITIONS)
        self._history = HistoryRange(StoredPages(store, schema.HISTORY_PAGE), 1)
        self._record = StateRecord(
            POSITIONS, POSITIONS * REG.subsidy, 0, self._history.history().to_bytes()
        )
        batch = Batch()
        for height in range(1, self.anchors + 1):
            self._anchor(batch, height)
            if height % BATCH == 0 or height == self.anchors:
                self._write(batch)
        self.spent = self._rng.sample(self.coins, SPENDING_ANCHORS * SPENDS)
        for at in range(SPENDING_ANCHORS):
            self._full_anchor(batch, self.spent[at * SPENDS : (at + 1) * SPENDS])

    @property
    def positions(self) -> int:
        """Coins that ever were."""
        return self._state.count

    def _anchor(self, batch: Batch, height: int) -> None:
        state_root = self._state.root(self._record.supply, 0)
        fresh = tuple(self._rng.randbytes(32) for _ in range(COINS_PER_ANCHOR - 1))
        body = Body(fresh, (), (), state_root, self._history.history().root())
        header = msgspec.structs.replace(
            self._tip.header, parent=self._tip.id, height=height, time=self._tip.header.time + 1
        )
        self._tip = Coin.assemble(header, bytes(32))
        self._history.append(anchor_leaf(self._tip, len(fresh), REG))
        record = AnchorRecord(self._tip.raw, body.to_bytes(), 1, 0, 0)
        batch.put(schema.ANCHOR.key(self._tip.id), schema.ANCHOR.encode(record))
        batch.put(schema.HEIGHT.key(height), self._tip.id)

    def _full_anchor(self, batch: Batch, spent: Sequence[CoinId]) -> None:
        height = self._tip.height + 1
        batch.put(schema.STATE.key(height - 1), schema.STATE.encode(self._record))
        self._anchor(batch, height)
        undo = []
        for coin_id in spent:
            coin = schema.UNSPENT.get(self._store, coin_id)
            found = schema.HISTORY.get(self._store, coin_id)
            assert coin is not None
            assert found is not None
            undo.append(SpentCoin.of(coin_id, coin))
            self._state.set_leaf(schema.position_of(coin), SPENT)
            gone = msgspec.structs.replace(found, spent_height=height, spent_by=bytes(32))
            batch.put(schema.HISTORY.key(coin_id), schema.HISTORY.encode(gone))
        for _ in range(OUTPUTS):
            self._state.append(self._rng.randbytes(32))
        batch.put(schema.UNDO.key(height), schema.UNDO.encode(UndoRecord(tuple(undo))))
        self._record = msgspec.structs.replace(self._record, positions=self._state.count)
        batch.put(schema.STATE.key(height), schema.STATE.encode(self._record))
        self._write(batch)

    def _write(self, batch: Batch) -> None:
        self._state.flush(BatchPages(batch, schema.STATE_PAGE))
        self._history.flush(BatchPages(batch, schema.HISTORY_PAGE))
        batch.put(schema.META.key(schema.META_TIP), self._tip.id)
        self._store.write(batch, sync=False)
        batch.clear()


def run() -> list[dict[str, object]]:
    """Make the store, then prove, and spend."""
    rng = random.Random(SEED)
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.closing(new_store(Path(directory, "store"))) as store,
    ):
        made = MadeUpStore(store)
        store.compact()
        gone = set(made.spent)
        unspent = [coin for coin in rng.sample(made.coins, 2_000) if coin not in gone]
        first, proving, verifying, sizes, bare_sizes, spent_ms = [], [], [], [], [], []
        for _ in range(RUNS):
            proofs = CoinProofs(REG)
            first.append(_timed(proofs, store, unspent[-1:])[0])
            took, files = _timed(proofs, store, rng.sample(unspent[:-1], PROOFS))
            proving.append(took)
            begun = time.perf_counter()
            for proof in files:
                _check_paths(proof)
            verifying.append((time.perf_counter() - begun) / PROOFS * 1e3)
            sizes += [len(proof.to_file()) for proof in files]
            bare_sizes += [_hashes_alone(proof) for proof in files]
            # the states before the anchors that spend are made before
            asked = rng.sample(made.spent[:-SPENDS], PROOFS)
            _timed(proofs, store, made.spent[:-SPENDS:SPENDS])
            spent_ms.append(_timed(proofs, store, asked)[0])
        spending, bare = _spend(store, made.positions, rng)
    return [
        _row("proofs", "ms", proving, "check paths", verifying, GOAL_MS),
        _row("proofs_size", "bytes", sizes, "hashes alone", bare_sizes, GOAL_BYTES),
        _row("proofs_spent", "ms", spent_ms, "unspent", proving, GOAL_MS),
        _row("proofs_first", "ms", first, "a later one", proving, GOAL_FIRST_MS),
        _row("proofs_spends", "ms", spending, "hash the same nodes", bare, GOAL_SPENDS_MS),
    ]


def _row(
    name: str,
    unit: str,
    values: Sequence[float],
    reference: str,
    reference_values: Sequence[float],
    goal: float,
) -> dict[str, object]:
    return result(
        name,
        unit,
        values,
        reference=reference,
        reference_values=reference_values,
        goal=goal,
        at_least=False,
    )


def _timed(
    proofs: CoinProofs, store: KeyValueStore, coins: Sequence[CoinId]
) -> tuple[float, list[CoinProof]]:
    """Return the milliseconds of a proof, file and snapshot included, and the proofs."""
    made = []
    begun = time.perf_counter()
    for coin_id in coins:
        with store.snapshot() as snapshot:
            proof = proofs.prove(snapshot, coin_id)
        assert proof is not None
        proof.to_file()
        made.append(proof)
    return (time.perf_counter() - begun) / len(coins) * 1e3, made


def _check_paths(proof: CoinProof) -> None:
    leaf = state_range.leaf_of(proof.coin_id, proof.value, proof.lock, proof.height, False)
    assert state_range.verify(proof.state, leaf, proof.tip.state_root)
    header, path = proof.included.header, proof.included.path
    node = anchor_leaf(Coin.from_bytes(header.coin), header.fresh.n, REG)
    assert history_range.verify(path, node, proof.tip.history_root)
    start = proof.start
    assert history_range.verify(start.path, start.node, proof.tip.history_root)
    assert path.before().root() == header.history_root


def _hashes_alone(proof: CoinProof) -> int:
    paths = proof.start.path, proof.included.path
    state_nodes = len(proof.state.siblings) + len(proof.state.peaks)
    return 32 * state_nodes + 80 * sum(len(path.siblings) + len(path.peaks) for path in paths)


def _spend(
    store: KeyValueStore, positions: int, rng: random.Random
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each body, pages in memory, and of the bare hashes."""
    state = StateRange(StoredPages(store, schema.STATE_PAGE), positions)
    spending, bare = [], []
    for _ in range(BODIES):
        spent = rng.sample(range(state.count), SPENDS)
        new = [rng.randbytes(32) for _ in range(OUTPUTS)]
        for position in spent:
            state.siblings(position)
        begun = time.perf_counter()
        for position in spent:
            state.set_leaf(position, SPENT)
        for leaf in new:
            state.append(leaf)
        state.root(0, 0)
        spending.append((time.perf_counter() - begun) * 1e3)
        pairs = [rng.randbytes(64) for _ in range(_nodes_above(spent, state.count))]
        begun = time.perf_counter()
        for pair in pairs:
            state_range.join(pair)
        bare.append((time.perf_counter() - begun) * 1e3)
        batch = Batch()
        state.flush(BatchPages(batch, schema.STATE_PAGE))
        store.write(batch, sync=True)
    return spending, bare


def _nodes_above(spent: list[int], count: int) -> int:
    """Return how many nodes have changed above these leaves and the last ones."""
    changed = {*spent, *range(count - OUTPUTS, count)}
    nodes = 0
    level = 0
    while changed:
        level += 1
        changed = {place >> 1 for place in changed if place >> 1 < count >> level}
        nodes += len(changed)
    return nodes
