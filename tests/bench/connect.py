"""Anchors of 16 fresh coins connected per second, proofs verified before, in shared batches.

The reference hashes what an anchor makes necessary (ids, list root, both ranges) and writes the
same bytes to a store of its own: what no code around it could save.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench._result import result
from tests.framework.benchchain import Forger, connect, new_store, open_core
from unchained.node.chain.results import Package
from unchained.node.crypto.history_range import EMPTY_HISTORY, HistoryNode
from unchained.node.crypto.merkle import merkle_root
from unchained.node.crypto.state_range import StateRange, leaf_of
from unchained.node.primitives.hashing import COIN_HASH
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.memory import MemoryStore
from unchained.storage.pages import BatchPages, StoredPages

ANCHORS = 1_000
FRESH = 16
RUNS = 5
GOAL = 1_000.0


def run() -> list[dict[str, object]]:
    """Connect a thousand anchors, and compare."""
    packages = list(Forger().chain(open_core(MemoryStore()), ANCHORS, FRESH))
    rates, bare = [], []
    for _ in range(RUNS):
        rates.append(_rate(packages))
        bare.append(_bare_rate(packages))
    return [
        result(
            "connect",
            "anchors/s",
            rates,
            reference="hash and write the same",
            reference_values=bare,
            goal=GOAL,
            at_least=True,
        )
    ]


def _rate(packages: list[Package]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        store = new_store(Path(directory))
        core = open_core(store)
        begun = time.perf_counter()
        core.begin_bulk()
        for package in packages:
            connect(core, package)
        core.end_bulk()
        seconds = time.perf_counter() - begun
        store.close()
    return len(packages) / seconds


def _bare_rate(packages: list[Package]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        store = new_store(Path(directory))
        begun = time.perf_counter()
        _hash_and_write(packages, store)
        seconds = time.perf_counter() - begun
        store.close()
    return len(packages) / seconds


def _hash_and_write(packages: list[Package], store: KeyValueStore) -> None:
    batch = Batch()
    state = StateRange(StoredPages(store, schema.STATE_PAGE), 0)
    history = EMPTY_HISTORY
    for package in packages:
        coins = [package.anchor, *package.coins.values()]
        for coin in coins:
            COIN_HASH(coin.raw)
            for table in (schema.COIN, schema.HISTORY, schema.OWNER, schema.UNSPENT, schema.BOUND):
                batch.put(table.prefix + coin.id, coin.raw[:60])
        merkle_root(package.body.fresh)
        height = package.anchor.height
        for coin in coins:
            state.append(leaf_of(coin.id, 1, coin.header.lock, height, True))
        state.root(1, 0)
        node = HistoryNode.of_anchor(coins[0].id, 1, len(coins), coins[0].header.time)
        history = history.append(node.to_bytes())
        history.root()
    state.flush(BatchPages(batch, schema.STATE_PAGE))
    store.write(batch, sync=True)
