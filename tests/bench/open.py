"""Seconds to open a chain of 100,000 anchors: what stands between a start and a running node.

The reference opens the same files as a bare LevelDB and reads the last 720 anchors' records.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench._result import result
from tests.framework.benchchain import Forger, new_store, open_core
from unchained.node.consensus.params import REG
from unchained.storage import schema

ANCHORS = 100_000
FRESH = 1
RUNS = 5
GOAL = 2.0


def run() -> list[dict[str, object]]:
    """Make the chain, then open it again and again."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        store = new_store(directory)
        core = open_core(store)
        core.begin_bulk()
        for _ in Forger().chain(core, ANCHORS, FRESH):
            core.take_changes()
        core.end_bulk()
        tip = core.tip.id
        store.close()
        seconds, bare = [], []
        for _ in range(RUNS):
            begun = time.perf_counter()
            store = new_store(directory)
            core = open_core(store)
            seconds.append(time.perf_counter() - begun)
            assert core.tip.id == tip
            store.close()
            bare.append(_bare_open(directory))
    return [
        result(
            "open",
            "s",
            seconds,
            reference="open and read 720 records",
            reference_values=bare,
            goal=GOAL,
            at_least=False,
        )
    ]


def _bare_open(directory: Path) -> float:
    begun = time.perf_counter()
    store = new_store(directory)
    for height in range(ANCHORS - REG.max_reorg, ANCHORS + 1):
        anchor_id = schema.HEIGHT.get(store, height)
        assert anchor_id is not None
        schema.ANCHOR.get(store, anchor_id)
    seconds = time.perf_counter() - begun
    store.close()
    return seconds
