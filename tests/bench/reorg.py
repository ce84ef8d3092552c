"""Seconds to undo 100 anchors of 16 coins and connect the 101 that beat them, on LevelDB.

The reference connects 100 such anchors without undoing any, one synced batch each. A second row
undoes one anchor and connects two while 11,000 transfers wait; its reference is that with none.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench._result import result
from tests.framework.benchchain import Forger, connect, fill, new_store, open_core
from tests.framework.forge import Forge, key_lock, of
from unchained.node.chain.results import Package
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.primitives.transfer import Signature
from unchained.storage.memory import MemoryStore

DEPTH = 100
FRESH = 16
RUNS = 5
FEE = 20_000
GOAL = 1.0
WAITING = 11_000
WAITING_GOAL = 0.1
"""Seconds of the writer."""


def run() -> list[dict[str, object]]:
    """Reorganise, and compare."""
    losing, winning = _branches(DEPTH, [MemoryStore(), MemoryStore()])
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
        ),
        result(
            "reorg, 11,000 waiting",
            "s",
            [_measure_waiting(WAITING) for _ in range(RUNS)],
            reference="none waiting",
            reference_values=[_measure_waiting(0) for _ in range(RUNS)],
            goal=WAITING_GOAL,
            at_least=False,
        ),
    ]


def _branches(depth: int, stores: Sequence[MemoryStore]) -> tuple[list[Package], list[Package]]:
    """Return a branch of so many anchors, and one that has one more and loses the tie before."""
    made = [
        list(Forger(seed=seed).chain(open_core(store), depth + 1, FRESH))
        for seed, store in enumerate(stores, 1)
    ]
    # Protocol §6: "on a tie to the child of lower id"
    losing, winning = sorted(made, key=lambda branch: branch[0].anchor.id)
    return losing[:depth], winning


def _measure_waiting(waiting: int) -> float:
    """Return the seconds of a step that undoes one anchor and connects two."""
    forge = Forge(REG)
    dummy = (Signature(bytes(1_952), bytes(3_309)),)
    stores = [MemoryStore(), MemoryStore()]
    for filled in stores:
        fill(filled, WAITING, key_lock(0))
    lost, won = _branches(1, stores)
    with tempfile.TemporaryDirectory() as directory:
        store = new_store(Path(directory))
        coins = fill(store, WAITING, key_lock(0))
        core = open_core(store)
        for coin_id in coins[:waiting]:
            plain = forge.transfer([(coin_id, 0)], [(REG.subsidy - FEE, 1)], fee=FEE, sign=False)
            sized = of(msgspec.structs.replace(plain.transfer, signatures=dummy))
            core.submit_transfer(ProvenTransfer(sized), forge.now_ms)
        for package in (*lost, won[0]):
            connect(core, package)
        assert core.tip.id == lost[-1].anchor.id
        begun = time.perf_counter()
        connect(core, won[1])
        took = time.perf_counter() - begun
        assert core.tip.id == won[1].anchor.id
        assert len(core.mempool) == waiting
        store.close()
    return took


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
