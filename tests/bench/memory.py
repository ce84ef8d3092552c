"""Resident MB of a node that has connected 10,000 anchors, and of a mining worker beside MEM.

The node is a process of its own with everything that `unchained-node start --no-mine` runs; the
reference is a Python process that has only imported the same modules.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import psutil
import trio

from tests.bench._result import result
from tests.framework.benchchain import Forger, open_core
from unchained.miner.jobs import Job
from unchained.miner.pool import MiningPool
from unchained.node.app import build
from unchained.node.base.clock import SystemClock
from unchained.node.base.heap import share_one_heap
from unchained.node.base.logs import open_logs
from unchained.node.base.services import Supervisor
from unchained.node.base.settings import load
from unchained.node.chain.export import export_chain, read_head, read_packages
from unchained.node.consensus.params import REG
from unchained.storage.memory import MemoryStore

ANCHORS = 10_000
FRESH = 16
AT_ONCE = 64
RUNS = 3
NODE_GOAL_MB = 120.0
WORKER_GOAL_MB = 40.0
WORKER_MEM_KIB = 16_384


def run() -> list[dict[str, object]]:
    """Measure nodes, then workers."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "chain"
        _make_file(file)
        nodes = [_child("node", str(file), str(Path(name) / str(at))) for at in range(RUNS)]
        bare = [_child("bare") for _ in range(RUNS)]
    workers, hashes = trio.run(_workers)
    return [
        result(
            "memory",
            "MB",
            nodes,
            reference="imports alone",
            reference_values=bare,
            goal=NODE_GOAL_MB,
            at_least=False,
        ),
        result(
            "memory_worker",
            "MB beside MEM",
            workers,
            reference="MEM",
            reference_values=hashes,
            goal=WORKER_GOAL_MB,
            at_least=False,
        ),
    ]


def _make_file(path: Path) -> None:
    store = MemoryStore()
    core = open_core(store)
    core.begin_bulk()
    for _ in Forger().chain(core, ANCHORS, FRESH):
        core.take_changes()
    core.end_bulk()
    with path.open("wb") as file:
        for _ in export_chain(store, REG, file):
            pass


def _child(*arguments: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def _resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


async def _connect(file: Path, directory: Path) -> float:
    """Connect the file's anchors, their proofs taken as verified, in a whole node."""
    settings = load(
        {"node.network": ("bench", "reg"), "mining.enabled": ("bench", False)}, {}, home=directory
    )
    clock = SystemClock()
    with open_logs(clock=clock, level="error") as logs:
        node = await build(settings, directory, clock=clock, log=logs.log)
        supervisor = Supervisor(node.services(), log=logs.log, on_overdue=lambda _names: None)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            with file.open("rb") as source:
                read_head(source, REG)
                packages = read_packages(source, REG)
                async with node.chain.bulk():
                    while batch := list(islice(packages, AT_ONCE)):
                        coins = [coin for p in batch for coin in (p.anchor.id, *p.coins)]
                        done, error = await node.chain.submit_chain(batch, proven=coins)
                        assert (done, error) == (len(batch), None)
            resident = _resident_mb()
            supervisor.request_stop("measured")
    return resident


async def _workers() -> tuple[list[float], list[float]]:
    """Return what workers that mine take beside MEM, and MEM."""
    pool = MiningPool(workers=RUNS)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        pool.set_job(Job(number=1, header_prefix=bytes(158), target=0, mem_kib=WORKER_MEM_KIB))
        # Workers count hashes in shared memory: nothing notifies when a count is reached.
        while min((w.hashes for w in pool.statistics().workers), default=0) < 20:  # noqa: ASYNC110
            await trio.sleep(0.1)
        mem_mb = WORKER_MEM_KIB * 1024 / 1e6
        sizes = [
            psutil.Process(worker.pid).memory_info().rss / 1e6 - mem_mb
            for worker in pool.statistics().workers
        ]
        nursery.cancel_scope.cancel()
    return sizes, [mem_mb] * RUNS


if __name__ == "__main__":
    if sys.argv[1] == "node":
        share_one_heap()  # as `unchained-node start` does
        Path(sys.argv[3]).mkdir()
        print(trio.run(_connect, Path(sys.argv[2]), Path(sys.argv[3])))
    else:
        print(_resident_mb())
