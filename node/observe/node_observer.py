"""Asks every part of a node for its counters."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import psutil

from unchained.miner.jobs import PoolStatistics
from unchained.node.base.clock import Clock
from unchained.node.base.counted import Counts, ThreadStatistics
from unchained.node.base.logs import LogStatistics
from unchained.node.base.loop_monitor import LoopStatistics
from unchained.node.base.services import SupervisorStatistics
from unchained.node.chain.service import ChainService
from unchained.node.mining.control import ControlStatistics
from unchained.node.mining.epoch_manager import EpochStatistics
from unchained.node.mining.mined_coins import MinedCoinsStatistics
from unchained.node.observe.node_statistics import NodeStatistics, ProcessStatistics
from unchained.node.rpc.http.criterion import ReadinessSource
from unchained.node.rpc.http.server import RpcStatistics
from unchained.node.wallet.records import WalletsStatistics
from unchained.storage.kv import StoreStatistics

if TYPE_CHECKING:
    from unchained.node.sync.node_network import NetworkStatistics

S = TypeVar("S")


@dataclass(kw_only=True)
class NodeObserver:
    """The parts of a node, each of which counts for itself; None where the node has none. Whoever
    makes a part later than this puts it here."""

    chain: ChainService
    clock: Clock
    data_dir: Path | None = None
    store: Counts[StoreStatistics] | None = None
    network: Counts[NetworkStatistics] | None = None
    wallets: Counts[WalletsStatistics] | None = None
    epochs: Counts[EpochStatistics] | None = None
    miner: Counts[PoolStatistics] | None = None
    control: Counts[ControlStatistics] | None = None
    harvest: Counts[MinedCoinsStatistics] | None = None
    rpc: Counts[RpcStatistics] | None = None
    services: Counts[SupervisorStatistics] | None = None
    loop: Counts[LoopStatistics] | None = None
    log: Counts[LogStatistics] | None = None
    readiness: ReadinessSource | None = None
    threads: Mapping[str, Counts[ThreadStatistics]] = field(default_factory=dict)

    def statistics(self) -> NodeStatistics:
        """Return a snapshot of every part but the process."""
        return NodeStatistics(
            chain=self.chain.statistics(),
            status=self.chain.status.value,
            epochs=_asked(self.epochs),
            miner=_asked(self.miner),
            control=_asked(self.control),
            harvest=_asked(self.harvest),
            network=_asked(self.network),
            rules=self.chain.network,
            now_ms=self.clock.now_ms(),
            store=_asked(self.store),
            wallets=_asked(self.wallets),
            rpc=_asked(self.rpc),
            services=_asked(self.services),
            loop=_asked(self.loop),
            log=_asked(self.log),
            readiness=None if self.readiness is None else self.readiness.check(),
            threads={name: threads.statistics() for name, threads in self.threads.items()},
        )

    def complete(self, statistics: NodeStatistics) -> NodeStatistics:
        """Return a snapshot with what the system says of the process: reads files, so call it in a
        thread."""
        return msgspec.structs.replace(statistics, process=process_statistics(self.data_dir))


def _asked(part: Counts[S] | None) -> S | None:
    return None if part is None else part.statistics()


def process_statistics(data_dir: Path | None) -> ProcessStatistics:
    """Return what the system says of this process and of the disk under a directory."""
    process = psutil.Process()
    with process.oneshot():
        times = process.cpu_times()
        resident, threads = process.memory_info().rss, process.num_threads()
        open_files, began = process.num_fds(), process.create_time()
    memory = psutil.virtual_memory()
    try:
        disk = None if data_dir is None else shutil.disk_usage(data_dir)
    except OSError:
        disk = None
    return ProcessStatistics(
        resident=resident,
        cpu_s=times.user + times.system,
        threads=threads,
        open_files=open_files,
        open_files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        began=began,
        machine_available=memory.available,
        machine_total=memory.total,
        disk_free=None if disk is None else disk.free,
        disk_total=None if disk is None else disk.total,
    )
