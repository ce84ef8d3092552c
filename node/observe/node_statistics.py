"""A node's counters, all of them, as of one moment: what everything that shows them renders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from unchained.miner.jobs import PoolStatistics
from unchained.node.base.counted import ChannelStatistics, ThreadStatistics
from unchained.node.base.logs import LogStatistics
from unchained.node.base.loop_monitor import LoopStatistics
from unchained.node.base.services import SupervisorStatistics
from unchained.node.chain.status import ChainStatus, ManagerStatistics
from unchained.node.consensus.fork_choice import work
from unchained.node.consensus.params import Network
from unchained.node.mining.control import ControlStatistics
from unchained.node.mining.epoch_manager import EpochStatistics
from unchained.node.mining.mined_coins import MinedCoinsStatistics
from unchained.node.rpc.http.criterion import Readiness
from unchained.node.rpc.http.server import RpcStatistics
from unchained.node.wallet.records import WalletsStatistics
from unchained.storage.kv import StoreStatistics

if TYPE_CHECKING:
    from unchained.node.sync.node_network import NetworkStatistics

TIP_BYTES: Final = 6
"""Bytes of the tip's id that make its number: a float holds them exactly."""


class ProcessStatistics(msgspec.Struct, frozen=True):
    """The node's process and what it stands on: bytes, seconds, and times in seconds since the Unix
    epoch. `disk_free` is None where the data directory cannot be read."""

    resident: int
    cpu_s: float
    threads: int
    open_files: int
    open_files_max: int
    began: float
    machine_available: int
    machine_total: int
    disk_free: int | None
    disk_total: int | None


class NodeStatistics(msgspec.Struct, frozen=True):
    """A snapshot of every part; None where the node does not have it. `rules` are those of its
    network, `now_ms` is what its clock shows."""

    chain: ManagerStatistics
    status: ChainStatus
    epochs: EpochStatistics | None
    miner: PoolStatistics | None
    control: ControlStatistics | None
    harvest: MinedCoinsStatistics | None
    network: NetworkStatistics | None
    rules: Network | None = None
    now_ms: int = 0
    store: StoreStatistics | None = None
    wallets: WalletsStatistics | None = None
    rpc: RpcStatistics | None = None
    services: SupervisorStatistics | None = None
    loop: LoopStatistics | None = None
    log: LogStatistics | None = None
    readiness: Readiness | None = None
    payee: str | None = None
    """Whom mined coins pay."""
    threads: Mapping[str, ThreadStatistics] = msgspec.field(default_factory=dict)
    process: ProcessStatistics | None = None
    """Read beside the event loop, last of all."""

    @property
    def tip_number(self) -> int:
        """The tip as a number: nodes whose lines lie apart are on different chains."""
        return int.from_bytes(self.status.tip[:TIP_BYTES], "big")

    @property
    def tip_age_s(self) -> float:
        """Seconds since the tip was mined, by its own clock."""
        return max(0, self.now_ms - self.status.tip_time) / 1000

    @property
    def difficulty(self) -> int:
        """Hashes that a coin takes on average."""
        return work(self.status.target)

    @property
    def network_rate(self) -> float | None:
        """Hashes per second that the present target stands for, all miners together."""
        if self.rules is None:
            return None
        return self.difficulty * self.rules.coins_per_epoch * 1000 / self.rules.epoch_ms

    @property
    def epoch_s(self) -> float | None:
        """Seconds from one anchor to the next, on average."""
        return None if self.rules is None else self.rules.epoch_ms / 1000

    @property
    def side_anchors(self) -> int | None:
        """Anchors of the last MAX_REORG heights that are on other branches."""
        if self.rules is None:
            return None
        return max(0, self.status.anchors - min(self.status.height, self.rules.max_reorg) - 1)

    @property
    def sync_lag(self) -> int | None:
        """Anchors that sync has still to fetch."""
        if self.network is None:
            return None
        return self.network.sync.target_height - self.network.sync.height

    @property
    def peers_apart(self) -> int | None:
        """Peers whose tip is neither this node's nor one that it had a short while ago."""
        if self.network is None:
            return None
        own = {self.status.tip, *self.chain.steps.recent}
        return sum(tip not in own for tip in self.network.peers.tips)

    @property
    def workers(self) -> Mapping[str, int] | None:
        """The miner's workers by state."""
        if self.miner is None:
            return None
        states = dict.fromkeys(("starting", "idle", "mining", "paused", "backing-off"), 0)
        for worker in self.miner.workers:
            states[worker.state] = states.get(worker.state, 0) + 1
        return states

    @property
    def job_delay_s(self) -> float | None:
        """Seconds that the present job took to reach the last of the workers that have it."""
        delays = [] if self.miner is None else [w.job_delay_ms for w in self.miner.workers]
        return max((delay / 1000 for delay in delays if delay is not None), default=None)

    @property
    def channels(self) -> Mapping[str, ChannelStatistics]:
        """The queues between tasks, by name."""
        found = {"chain.writer": self.chain.queue, "chain.changes": self.chain.listeners}
        if self.miner is not None:
            found["miner.solutions"] = self.miner.found
        if self.wallets is not None:
            found["wallets.changes"] = self.wallets.listeners
        if self.rpc is not None:
            found["rpc.calls"] = self.rpc.queue
        if self.log is not None:
            found |= {
                f"log.{sink.name}": ChannelStatistics(sink.waiting, sink.capacity, sink.dropped)
                for sink in self.log.sinks
            }
        return found

    @property
    def wallet_lag(self) -> int | None:
        """Anchors that the last open wallet has still to read."""
        if self.wallets is None:
            return None
        reached = self.wallets.reached
        return 0 if reached is None else max(0, self.status.height - reached)

    @property
    def restarts(self) -> Mapping[str, int] | None:
        """How often each service was restarted."""
        if self.services is None:
            return None
        return {service.name: service.restarts for service in self.services.services}

    @property
    def services_up(self) -> Mapping[str, int] | None:
        """1 for each service that runs, else 0."""
        if self.services is None:
            return None
        return {s.name: int(s.state == "running") for s in self.services.services}

    @property
    def criteria(self) -> Mapping[str, float] | None:
        """1 for each criterion of readiness that is met, else 0."""
        if self.readiness is None:
            return None
        return {criterion.name: int(criterion.met) for criterion in self.readiness.criteria}

    @property
    def criteria_values(self) -> Mapping[str, float] | None:
        """The number that each criterion of readiness is judged by, where it is known."""
        if self.readiness is None:
            return None
        return {c.name: c.value for c in self.readiness.criteria if c.value is not None}

    @property
    def refused_depth(self) -> int:
        """Anchors that the better chain would undo which waits for the operator; 0: none does."""
        return 0 if self.status.refused is None else self.status.refused.depth

    @property
    def is_ready(self) -> bool | None:
        """Whether the node can be relied upon."""
        return None if self.readiness is None else self.readiness.ready

    @property
    def clock_offset_s(self) -> float | None:
        """Seconds that the peers' clocks are ahead of this one, their median."""
        offset = None if self.network is None else self.network.peers.clock_offset_ms
        return None if offset is None else offset / 1000

    @property
    def rpc_calls(self) -> Mapping[tuple[str, str], int] | None:
        """Calls by method and how they ended: `OK` or the error's word."""
        if self.rpc is None:
            return None
        calls: dict[tuple[str, str], int] = {}
        for method, seen in self.rpc.methods.items():
            failed = sum(seen.words.values())
            calls[method, "OK"] = seen.calls - failed
            for word, count in seen.words.items():
                calls[method, word] = count
        return calls

    @property
    def rpc_failed(self) -> int | None:
        """Calls that failed by a fault of the node's own."""
        if self.rpc is None:
            return None
        return sum(seen.words.get("INTERNAL_ERROR", 0) for seen in self.rpc.methods.values())

    @property
    def slow_tasks(self) -> Mapping[str, int] | None:
        """Steps that held the loop too long, by task."""
        return None if self.loop is None else self.loop.steps_by_task
