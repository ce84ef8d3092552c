"""debug.*: for those who look after a node that misbehaves."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Final, Protocol

import msgspec
import psutil

from unchained.node.base.counted import ChannelStatistics, Counted, ThreadStatistics
from unchained.node.base.logs import make_plain
from unchained.node.base.loop_monitor import SlowStep
from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.registry import Access, method

TRACE_SECONDS_MAX: Final = 60
"""Seconds that one recording of tasks lasts at most."""


@user_text(
    """A task of the event loop. `depth` below the root; `calls` are where it stands, outermost
    first, `waiting_at` the innermost of them; `waiting_for` is what of Trio's it waits in. `age_s`
    and `waited_s`: since when it is there, and since when it waits; null where that is unknown."""
)
class TaskInfo(msgspec.Struct, frozen=True):
    name: str
    depth: int
    waiting_at: str
    waiting_for: str
    age_s: float | None
    waited_s: float | None
    calls: list[str]


@user_text(
    """The tasks, parents before children; the queues between them, the worker threads, and the
    newest steps that held the event loop for more than 50 ms."""
)
class TaskReport(msgspec.Struct, frozen=True):
    tasks: list[TaskInfo]
    channels: Mapping[str, ChannelStatistics]
    threads: Mapping[str, ThreadStatistics]
    slowest: list[SlowStep]


@user_text("Where a recording lies on the node's machine, and how many steps it holds and lacks.")
class TraceKept(msgspec.Struct, frozen=True):
    path: str
    steps: int
    left_out: int


@user_text("Memory of the node's process, in bytes, and its most frequent kinds of objects.")
class MemoryInfo(msgspec.Struct, frozen=True):
    resident: int
    virtual: int
    threads: int
    open_files: int
    gc_counts: list[int]
    objects: int
    kinds: Mapping[str, int]


class TaskSource(Protocol):
    """Who can look into the tasks."""

    def report(self) -> TaskReport:
        """Return the tasks, and what they wait for."""


class TraceSource(Protocol):
    """Who can record the tasks."""

    async def record(self, seconds: float) -> TraceKept:
        """Record for so many seconds into a file. Raises OSError."""


class DebugRoom:
    """Methods for those who look after a node that misbehaves."""

    def __init__(
        self, parts: Mapping[str, Counted], tasks: TaskSource, traces: TraceSource
    ) -> None:
        self._parts = parts
        self._tasks = tasks
        self._traces = traces

    @method("debug.tasks", Access.FULL)
    @user_text("Return the tasks of the event loop, at most 2,000, and what they wait for.")
    async def tasks(self) -> TaskReport:
        return self._tasks.report()

    @method("debug.trace", Access.FULL, timeout=TRACE_SECONDS_MAX + 30.0)
    @user_text(
        """Record every step of every task for some seconds, into a file of the data directory.

        ui.perfetto.dev shows it. The answer comes when the recording is over.
        """
    )
    async def trace(
        self,
        seconds: Annotated[
            float, msgspec.Meta(ge=0.1, le=TRACE_SECONDS_MAX, description="how long")
        ] = 5.0,
    ) -> TraceKept:
        return await self._traces.record(seconds)

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
