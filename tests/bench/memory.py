"""Resident MB of a node that has connected 10,000 anchors, and of a mining worker beside MEM.

The node is a process of its own with everything that `unchained-node start --no-mine` runs, but
for RPC; the reference is a Python process that has only imported the same modules. What files that
are mapped into memory have of it, libraries and tables of the store, stands in a row beside it: the
system takes them back when it needs room. Then the whole command, which connects the same anchors
and has its pages, metrics and history asked for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import urllib.request
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import trio

from tests.bench._result import result
from tests.framework.benchchain import Forger, open_core
from unchained.miner.jobs import Job
from unchained.miner.pool import MiningPool
from unchained.node.app import Node, build
from unchained.node.base.clock import SystemClock
from unchained.node.base.heap import share_one_heap
from unchained.node.base.logs import open_logs
from unchained.node.base.services import Service, Supervisor
from unchained.node.base.settings import load
from unchained.node.chain.export import export_chain, read_head, read_packages
from unchained.node.consensus.params import REG
from unchained.storage.memory import MemoryStore

if TYPE_CHECKING:
    from unchained.node.cli.process import Process

ANCHORS = 10_000
FRESH = 16
AT_ONCE = 64
RUNS = 3
NODE_GOAL_MB = 120.0
ROUNDS = 3
PAGES = ("", "wall", "tree", "charts", "mempool", "peers", "mining", "network", "metrics")
SERIES_AT_ONCE = 16
WORKER_GOAL_MB = 40.0
WORKER_MEM_KIB = 16_384


def run() -> list[dict[str, object]]:
    """Measure nodes, then workers."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "chain"
        _make_file(file)
        nodes = [_child("node", str(file), str(Path(name) / f"node{at}")) for at in range(RUNS)]
        used = [_child("used", str(file), str(Path(name) / f"used{at}")) for at in range(RUNS)]
        bare = [_child("bare") for _ in range(RUNS)]
    workers, hashes = trio.run(_workers)
    return [
        result(
            "memory",
            "MB",
            [whole for whole, _ in nodes],
            reference="imports alone",
            reference_values=[whole for whole, _ in bare],
            goal=NODE_GOAL_MB,
            at_least=False,
        ),
        {
            **result(
                "memory_anonymous",
                "MB",
                [anonymous for _, anonymous in nodes],
                reference="imports alone",
                reference_values=[anonymous for _, anonymous in bare],
                goal=NODE_GOAL_MB,
                at_least=False,
            ),
            "goal": "none of its own",
            "met": None,
        },
        result(
            "memory_page",
            "MB",
            [whole for whole, _ in used],
            reference="without files",
            reference_values=[anonymous for _, anonymous in used],
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


def _child(*arguments: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    whole, anonymous = done.stdout.split()[-2:]
    return float(whole), float(anonymous)


def _resident_mb() -> tuple[float, float]:
    """Return what is resident of this process, and what of that is no file's."""
    found = psutil.Process().memory_info()
    return found.rss / 1e6, (found.rss - found.shared) / 1e6


async def _connect(file: Path, directory: Path) -> tuple[float, float]:
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
            await _take_in(file, node)
            resident = _resident_mb()
            supervisor.request_stop("measured")
    return resident


async def _take_in(file: Path, node: Node) -> None:
    with file.open("rb") as source:
        read_head(source, REG)
        packages = read_packages(source, REG)
        async with node.chain.bulk():
            while batch := list(islice(packages, AT_ONCE)):
                coins = [coin for p in batch for coin in (p.anchor.id, *p.coins)]
                done, error = await node.chain.submit_chain(batch, proven=coins)
                assert (done, error) == (len(batch), None)


class _Used:
    """Has `unchained-node start` connect the file's anchors, uses what it serves, and measures."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.resident = (0.0, 0.0)

    def service(self, node: Node, process: Process, stage: int) -> Service:
        """Return what does so, and then stops the node."""
        return Service("measured", partial(self._run, node, process), stage)

    async def _run(
        self,
        node: Node,
        process: Process,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()
        await _take_in(self._file, node)
        await trio.to_thread.run_sync(_use, process.data_dir)
        self.resident = _resident_mb()
        process.request_stop("measured")
        await trio.sleep_forever()


def _use(directory: Path) -> None:
    """Ask for the pages, the metrics and the whole history, some times."""
    from unchained.node.rpc.client.client import Client
    from unchained.node.rpc.client.endpoint import Endpoint

    url = (directory / "rpc.url").read_text()
    client = Client(Endpoint.of(directory))
    for _ in range(ROUNDS):
        for page in PAGES:
            with urllib.request.urlopen(f"{url}/{page}") as answer:
                assert answer.read()
        names = sorted(client.call("node.series_names"))
        for at in range(0, len(names), SERIES_AT_ONCE):
            assert client.call("node.series", {"names": names[at : at + SERIES_AT_ONCE]})


def _start(file: Path, directory: Path) -> tuple[float, float]:
    """Run the whole command until it has been used; return what was resident then."""
    # Only here: it brings what the other processes do without.
    from unchained.node.cli.start import run_until_stopped

    chosen = {
        "node.data_dir": str(directory),
        "node.network": "reg",
        "node.log_level": "error",
        "mining.enabled": False,
        "rpc.listen": "127.0.0.1:0",
        "network.listen": ("/ip4/127.0.0.1/tcp/0",),
    }
    settings = load({key: ("bench", chosen[key]) for key in chosen}, {}, home=directory)
    used = _Used(file)
    assert run_until_stopped(settings, json=True, panel=False, more=used) == 0
    return used.resident


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
    if sys.argv[1] == "bare":
        print(*_resident_mb())
    else:
        source, where = Path(sys.argv[2]), Path(sys.argv[3])
        where.mkdir()
        if sys.argv[1] == "node":
            share_one_heap()  # as `unchained-node start` does
            print(*trio.run(_connect, source, where))
        else:
            print(*_start(source, where))
