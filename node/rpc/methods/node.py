"""node.* and debug.*: the node as a whole."""

from __future__ import annotations

import gc
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
import psutil
import trio

from unchained.node.base.clock import Clock
from unchained.node.base.counted import Counted
from unchained.node.base.logs import make_plain
from unchained.node.base.process_parts import ProcessParts
from unchained.node.base.user_text import user_text
from unchained.node.chain.service import ChainService
from unchained.node.mining.own_miner import OwnMiner
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.http.criterion import ReadinessSource
from unchained.node.rpc.http.readiness import GreetedPeers

LogLevel = Literal["debug", "info", "warning", "error"]

MAX_TASKS: Final = 2_000
"""Tasks that one answer lists."""


class Control(Protocol):
    """What the process around the node lets a caller do and see."""

    @property
    def log_level(self) -> LogLevel:
        """The level of the log at the start."""

    @property
    def setting_rows(self) -> Sequence[tuple[str, str, str]]:
        """Key, value as text and origin of each setting, secrets masked."""

    @property
    def parts(self) -> ProcessParts:
        """The process's own parts."""

    def request_stop(self, reason: str) -> None:
        """Begin a stop in good order."""

    def set_log_level(self, level: LogLevel) -> None:
        """Change the level of the log."""


@user_text("A better chain that would undo more than the node undoes by itself (Protocol §6).")
class ReorgInfo(msgspec.Struct, frozen=True):
    fork_height: int
    depth: int
    winner: Hash


@user_text(
    """The node at a glance. Times in ms; `hashrate` in hashes per second, 0 where it does not mine;
    `pool` holds the fees that no anchor's coin has received yet (Protocol §5.4); `last_event` is
    the number of the newest event of /events. `peers` is missing where the node has no network."""
)
class NodeStatus(msgspec.Struct, frozen=True):
    version: str
    network: str
    genesis: Hash
    uptime_ms: int
    height: int
    tip: Hash
    tip_time: int
    tip_age_ms: int
    supply: Amount
    pool: Amount
    ready: bool
    checks: Mapping[str, str]
    mempool_transfers: int
    mempool_bytes: int
    mining: bool
    hashrate: float
    peers: int | None
    last_event: int
    refused_reorg: ReorgInfo | None
    clock_behind_ms: int


@user_text("Versions of the node and of what it runs on.")
class Version(msgspec.Struct, frozen=True):
    unchained: str
    python: str
    system: str


@user_text("One setting; secrets are masked. `origin` says where the value comes from.")
class Setting(msgspec.Struct, frozen=True):
    key: str
    value: str
    origin: str


@user_text("A task of the event loop. `depth` below the root; `waiting_at` is where it stands.")
class TaskInfo(msgspec.Struct, frozen=True):
    name: str
    depth: int
    waiting_at: str


@user_text("Memory of the node's process, in bytes, and its most frequent kinds of objects.")
class MemoryInfo(msgspec.Struct, frozen=True):
    resident: int
    virtual: int
    threads: int
    open_files: int
    gc_counts: list[int]
    objects: int
    kinds: Mapping[str, int]


class NodeRoom:
    """Methods about the node as a whole."""

    def __init__(
        self,
        chain: ChainService,
        genesis: bytes,
        control: Control,
        clock: Clock,
        *,
        readiness: ReadinessSource,
        miner: OwnMiner | None,
        peers: GreetedPeers | None,
    ) -> None:
        self._chain = chain
        self._genesis = genesis
        self._control = control
        self._level = control.log_level
        self._clock = clock
        self._began_ms = clock.now_ms()
        self._readiness = readiness
        self._miner = miner
        self._peers = peers

    @method("node.status", Access.READ)
    @user_text("Return the state of the node at a glance.")
    async def status(self) -> NodeStatus:
        status = self._chain.status.value
        now_ms = self._clock.now_ms()
        readiness = self._readiness.check()
        refused = status.refused
        return NodeStatus(
            importlib.metadata.version("unchained"),
            self._chain.network.name,
            Hash(self._genesis),
            now_ms - self._began_ms,
            status.height,
            Hash(status.tip),
            status.tip_time,
            max(0, now_ms - status.tip_time),
            Amount(status.supply),
            Amount(status.pool),
            readiness.ready,
            readiness.checks,
            status.mempool.transfers,
            status.mempool.bytes,
            self._miner is not None and self._miner.mines(),
            0.0 if self._miner is None else self._miner.pool.statistics().rate,
            None if self._peers is None else len(self._peers.greeted()),
            status.next_event,
            None
            if refused is None
            else ReorgInfo(refused.fork_height, refused.depth, Hash(refused.winner)),
            status.clock_behind_ms,
        )

    @method("node.stop", Access.FULL)
    @user_text("Stop the node in good order; the answer comes before it is gone.")
    async def stop(self) -> bool:
        self._control.request_stop("rpc")
        return True

    @method("node.version", Access.PUBLIC)
    @user_text("Return the versions of the node and of what it runs on.")
    async def version(self) -> Version:
        return Version(
            importlib.metadata.version("unchained"),
            platform.python_version(),
            f"{platform.system()} {platform.machine()}",
        )

    @method("node.config", Access.FULL)
    @user_text("Return every setting that the node was started with, and where each comes from.")
    async def config(self) -> list[Setting]:
        return [Setting(*row) for row in self._control.setting_rows]

    @method("node.log_level", Access.FULL)
    @user_text(
        """Return the least level of the events that are logged, after setting it if one is given.

        It holds until the node starts again.
        """
    )
    async def log_level(self, level: LogLevel | None = None) -> LogLevel:
        if level is not None:
            self._control.set_log_level(level)
            self._level = level
        return self._level


class DebugRoom:
    """Methods for those who look after a node that misbehaves."""

    def __init__(self, parts: Mapping[str, Counted]) -> None:
        self._parts = parts

    @method("debug.tasks", Access.FULL)
    @user_text("Return the tasks of the event loop, parents before children; at most 2,000.")
    async def tasks(self) -> list[TaskInfo]:
        root = trio.lowlevel.current_root_task()
        found: list[TaskInfo] = []
        waiting = [] if root is None else [(root, 0)]
        while waiting and len(found) < MAX_TASKS:
            task, depth = waiting.pop()
            found.append(TaskInfo(task.name, depth, _where(task)))
            children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
            waiting.extend((child, depth + 1) for child in children)
        return found

    @method("debug.statistics", Access.FULL)
    @user_text("Return a snapshot of what every part of the node counts, by part.")
    async def statistics(self) -> dict[str, Any]:
        return {name: _plain(part.statistics()) for name, part in self._parts.items()}

    @method("debug.memory", Access.FULL)
    @user_text(
        """Return what memory the node's process uses.

        To count kinds of objects holds up the node for some tens of milliseconds.
        """
    )
    async def memory(
        self,
        kinds: Annotated[
            int, msgspec.Meta(ge=0, le=100, description="kinds of objects to count; 0: none")
        ] = 20,
    ) -> MemoryInfo:
        process = psutil.Process()
        usage = process.memory_info()
        objects = gc.get_objects() if kinds else []
        counts = Counter(type(value).__qualname__ for value in objects)
        return MemoryInfo(
            usage.rss,
            usage.vms,
            process.num_threads(),
            process.num_fds(),
            list(gc.get_count()),
            len(objects),
            dict(counts.most_common(kinds)),
        )


def _where(task: trio.lowlevel.Task) -> str:
    """Return file, line and function that the innermost frame of a task stands at."""
    where = ""
    for frame, line in task.iter_await_frames():
        code = frame.f_code
        if "/trio/" not in code.co_filename:
            where = f"{code.co_filename.rsplit('/', 1)[-1]}:{line} {code.co_name}"
    return where


def _plain(value: object) -> object:
    """Return a snapshot as JSON can hold it, with the names of its members."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return make_plain(value)
