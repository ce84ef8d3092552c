"""Finding the task that holds the event loop: everything else waits while it does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.latency import Latency, LatencyStatistics
from unchained.node.base.user_text import user_text

BLOCKING_S = 0.050
"""A task step that takes longer than this holds up mining jobs, peers and the terminal."""
QUIET_S = 10.0
"""At most one warning in this time; what happened meanwhile is counted and logged with the next."""
MAX_NAMES = 64
"""Tasks counted by name; those beyond are counted as `OTHERS`."""
OTHERS = "others"
SLOW_STEPS_KEPT = 32
"""The newest steps that held the loop too long, kept to be looked at."""


class BlockingTask(msgspec.Struct, frozen=True, gc=False):
    """How often a task of one name held the loop, and for how long at most."""

    name: str
    steps: int
    longest_ms: float


@user_text("One step that held the loop too long, and how long ago it ended, in seconds.")
class SlowStep(msgspec.Struct, frozen=True, gc=False):  # noqa: D101 - user_text
    task: str
    ms: float
    ago_s: float


class LoopStatistics(msgspec.Struct, frozen=True):
    """Steps of tasks, and those that held the event loop too long. `turns` are the times from one
    wait of the loop to the next: so long does at most wait what becomes ready meanwhile."""

    blocking_steps: int
    longest_ms: float
    tasks: tuple[BlockingTask, ...]
    """By number of such steps, most first."""
    steps: int
    turns: LatencyStatistics
    steps_by_task: Mapping[str, int]
    """Of such steps, in the order in which the tasks had their first."""
    slow: tuple[SlowStep, ...]
    """The newest such steps, last first."""


class LoopMonitor(trio.abc.Instrument):
    """A Trio instrument that counts, and warns of, steps longer than `limit_s` seconds.

    `monotonic` gives seconds of real time, also where Trio's own clock is virtual.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        *,
        limit_s: float = BLOCKING_S,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._log = log
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._began: float | None = None
        self._woke: float | None = None
        self._tasks: dict[str, BlockingTask] = {}
        self._all_steps = self._steps = 0
        self._longest_ms = 0.0
        self._turns = Latency()
        self._slow: deque[tuple[str, float, float]] = deque(maxlen=SLOW_STEPS_KEPT)
        self._quiet_until = float("-inf")
        self._untold = 0
        self._born: dict[trio.lowlevel.Task, float] = {}
        self._paused: dict[trio.lowlevel.Task, float] = {}

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Note when a task begins."""
        self._born[task] = self._monotonic()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task."""
        self._born.pop(task, None)
        self._paused.pop(task, None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when the step begins."""
        self._began = self._monotonic()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count the step."""
        ended = self._monotonic()
        self._all_steps += 1
        if task in self._born:
            self._paused[task] = ended
        # A step that was under way when this came to watch has no beginning.
        if self._began is not None and ended - self._began > self._limit_s:
            self._count(task.name, (ended - self._began) * 1000, ended)

    def after_io_wait(self, timeout: float) -> None:
        """Note when a turn of the loop begins."""
        self._woke = self._monotonic()

    def before_io_wait(self, timeout: float) -> None:
        """Count the turn."""
        if self._woke is not None:
            self._turns.note(self._monotonic() - self._woke)

    def _count(self, task: str, took_ms: float, ended: float) -> None:
        name = task if task in self._tasks or len(self._tasks) < MAX_NAMES else OTHERS
        known = self._tasks.get(name, BlockingTask(name, 0, 0.0))
        self._tasks[name] = BlockingTask(name, known.steps + 1, max(known.longest_ms, took_ms))
        self._steps += 1
        self._longest_ms = max(self._longest_ms, took_ms)
        self._slow.appendleft((task, took_ms, ended))
        if ended < self._quiet_until:
            self._untold += 1
            return
        self._log.warning("loop.blocked", task=task, ms=round(took_ms), untold=self._untold)
        self._quiet_until = ended + QUIET_S
        self._untold = 0

    def age_s(self, task: trio.lowlevel.Task) -> float | None:
        """Return how long a task is there, in seconds; None for one that was there before."""
        born = self._born.get(task)
        return None if born is None else self._monotonic() - born

    def waited_s(self, task: trio.lowlevel.Task) -> float | None:
        """Return how long a task has done nothing, in seconds; None while that is unknown."""
        since = self._paused.get(task)
        return None if since is None else self._monotonic() - since

    def statistics(self) -> LoopStatistics:
        """Return a snapshot of the counters."""
        by_steps = sorted(self._tasks.values(), key=lambda task: task.steps, reverse=True)
        now = self._monotonic()
        return LoopStatistics(
            blocking_steps=self._steps,
            longest_ms=self._longest_ms,
            tasks=tuple(by_steps),
            steps=self._all_steps,
            turns=self._turns.statistics(),
            steps_by_task={task.name: task.steps for task in self._tasks.values()},
            slow=tuple(SlowStep(task, ms, now - ended) for task, ms, ended in self._slow),
        )
