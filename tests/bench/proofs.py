"""Proofs in a state of a million positions and the history of its anchors, on LevelDB.

- `proofs`: milliseconds to prove a coin and an anchor, ranges just opened; the reference verifies
  what was proven.
- `proofs_size`: bytes of both proofs; the reference is the nodes in them alone.
- `proofs_spends`: milliseconds of what a full body does to the state: 480 spends all over it, 960
  new positions, the root. The reference makes the same number of nodes of nothing.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from tests.bench._result import result
from unchained.node.crypto import history_range, state_range
from unchained.node.crypto.history_range import HistoryNode, HistoryProof, HistoryRange
from unchained.node.crypto.ranges import PagedRange
from unchained.node.crypto.state_range import SPENT, StateProof, StateRange
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.leveldb import LevelStore

POSITIONS = 1_000_000
COINS_PER_ANCHOR = 17
SPENDS = 480
OUTPUTS = 960
RUNS = 5
PROOFS = 100
BODIES = 20
BATCH = 20_000
GOAL_MS = 2.0
GOAL_BYTES = 3_500.0
GOAL_SPENDS_MS = 15.0
SUPPLY, POOL = 10**17, 10**9


class StoredPages:
    """Pages in a store, under a prefix; what is put waits for `write`."""

    def __init__(self, store: KeyValueStore, prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix
        self._batch = Batch()

    def get(self, level: int, index: int) -> bytes | None:
        """Return a page, or None."""
        return self._store.get(self._key(level, index))

    def put(self, level: int, index: int, page: bytes) -> None:
        """Record a page."""
        self._batch.put(self._key(level, index), page)

    def delete(self, level: int, index: int) -> None:
        """Record that there is none."""
        self._batch.delete(self._key(level, index))

    def write(self) -> None:
        """Write what was recorded."""
        self._store.write(self._batch, sync=True)
        self._batch.clear()

    def _key(self, level: int, index: int) -> bytes:
        return self._prefix + bytes((level,)) + index.to_bytes(8, "big")


def run() -> list[dict[str, object]]:
    """Fill both ranges, then prove, and spend."""
    rng = random.Random(20_261_128)
    anchors = POSITIONS // COINS_PER_ANCHOR
    with tempfile.TemporaryDirectory() as directory:
        store = LevelStore(Path(directory) / "store", create=True)
        state_pages, history_pages = StoredPages(store, b"S"), StoredPages(store, b"H")
        state, history = StateRange(state_pages, 0), HistoryRange(history_pages, 0)
        _fill(state, state_pages, [rng.randbytes(32) for _ in range(POSITIONS)])
        nodes = [HistoryNode.of_anchor(rng.randbytes(32), 2**20, 17, at) for at in range(anchors)]
        _fill(history, history_pages, [node.to_bytes() for node in nodes])
        roots = state.root(SUPPLY, POOL), history.history().root()

        proving, verifying, sizes, bare_sizes = [], [], [], []
        for _ in range(RUNS):
            asked = [(rng.randrange(POSITIONS), rng.randrange(anchors)) for _ in range(PROOFS)]
            begun = time.perf_counter()
            proofs = []
            for position, height in asked:
                # opened anew each time: no page in memory but the store's own blocks
                opened = StateRange(state_pages, POSITIONS), HistoryRange(history_pages, anchors)
                proofs.append((opened[0].prove(position, SUPPLY, POOL), opened[1].prove(height)))
            proving.append((time.perf_counter() - begun) / PROOFS * 1e3)
            leaves = [(state.leaf(position), history.leaf(height)) for position, height in asked]
            begun = time.perf_counter()
            for (coin, anchor), (leaf, node) in zip(proofs, leaves, strict=True):
                assert state_range.verify(coin, leaf, roots[0])
                assert history_range.verify(anchor, node, roots[1])
            verifying.append((time.perf_counter() - begun) / PROOFS * 1e3)
            sizes += [len(coin.to_bytes()) + len(anchor.to_bytes()) for coin, anchor in proofs]
            bare_sizes += [_hashes_alone(coin, anchor) for coin, anchor in proofs]

        spending, bare = _spend(state, state_pages, rng)
        store.close()
    return [
        result(
            "proofs",
            "ms",
            proving,
            reference="verify",
            reference_values=verifying,
            goal=GOAL_MS,
            at_least=False,
        ),
        result(
            "proofs_size",
            "bytes",
            sizes,
            reference="nodes alone",
            reference_values=bare_sizes,
            goal=GOAL_BYTES,
            at_least=False,
        ),
        result(
            "proofs_spends",
            "ms",
            spending,
            reference="hash the same nodes",
            reference_values=bare,
            goal=GOAL_SPENDS_MS,
            at_least=False,
        ),
    ]


def _fill(filled: PagedRange, pages: StoredPages, leaves: list[bytes]) -> None:
    for start in range(0, len(leaves), BATCH):
        for leaf in leaves[start : start + BATCH]:
            filled.append(leaf)
        filled.flush(pages)
        pages.write()


def _hashes_alone(coin: StateProof, anchor: HistoryProof) -> int:
    state_nodes = len(coin.siblings) + len(coin.peaks)
    history_nodes = len(anchor.siblings) + len(anchor.peaks)
    return 32 * state_nodes + 80 * history_nodes


def _spend(
    state: StateRange, pages: StoredPages, rng: random.Random
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each body, pages in memory, and of the bare hashes."""
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
        state.root(SUPPLY, POOL)
        spending.append((time.perf_counter() - begun) * 1e3)
        pairs = [rng.randbytes(64) for _ in range(_nodes_above(spent, state.count))]
        begun = time.perf_counter()
        for pair in pairs:
            state_range.join(pair)
        bare.append((time.perf_counter() - begun) * 1e3)
        state.flush(pages)
        pages.write()
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
