"""Seconds to undo 100 anchors of 16 coins and connect the 101 that beat them, on LevelDB.

The reference connects 100 such anchors without undoing any, one synced batch each.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench._result import result
from tests.framework.benchchain import Forger, connect, new_store, open_core
from unchained.node.chain.results import Package
from unchained.storage.memory import MemoryStore

DEPTH = 100
FRESH = 16
RUNS = 5
GOAL = 1.0


def run() -> list[dict[str, object]]:
    """Reorganise, and compare."""
    losing = list(Forger(seed=1).chain(open_core(MemoryStore()), DEPTH, FRESH))
    winning = list(Forger(seed=2).chain(open_core(MemoryStore()), DEPTH + 1, FRESH))
    seconds, reference = [], []
    for _ in range(RUNS):
        connecting, reorganising = _measure(losing, winning)
        seconds.append(reorganising)
        reference.append(connecting)
    return [
        result(
            "reorg",
            "s",
            seconds,
            reference="connect 100",
            reference_values=reference,
            goal=GOAL,
            at_least=False,
        )
    ]


def _measure(losing: list[Package], winning: list[Package]) -> tuple[float, float]:
    """Return the seconds of connecting the losing branch, and of the step that undoes it all.

    The winning branch is known but for its last anchor while it has as many votes as the other
    and loses the tie; that anchor makes one step undo and connect everything.
    """
    with tempfile.TemporaryDirectory() as directory:
        store = new_store(Path(directory))
        core = open_core(store)
        begun = time.perf_counter()
        for package in losing:
            connect(core, package)
        connecting = time.perf_counter() - begun
        core.begin_bulk()
        for package in winning[:-1]:
            connect(core, package)
        core.end_bulk()
        assert core.tip.id == losing[-1].anchor.id
        begun = time.perf_counter()
        connect(core, winning[-1])
        reorganising = time.perf_counter() - begun
        assert core.tip.id == winning[-1].anchor.id
        store.close()
    return connecting, reorganising
