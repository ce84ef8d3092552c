"""Finding the task that holds the event loop: everything else waits while it does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.latency import Latency, LatencyStatistics
from unchained.node.base.user_text import user_text

BLOCKING_S = 0.050
"""A task step that takes longer than this holds up mining jobs, peers and the terminal."""
MARK_S = 0.010
QUIET_S = 10.0
"""At most one warning in this time; what happened meanwhile is counted and logged with the next."""
MAX_NAMES = 64
"""Tasks counted by name; those beyond are counted as `OTHERS`."""
OTHERS = "others"
WAITING = "waiting"
"""Steps of any task that took too long but worked less: the machine or another thread of the
process let them wait, or a call in them did."""
SLOW_STEPS_KEPT = 32
"""The newest steps that held the loop too long, kept to be looked at."""


class BlockingTask(msgspec.Struct, frozen=True, gc=False):
    """How often a task of one name held the loop, and for how long at most."""

    name: str
    steps: int
    longest_ms: float


@user_text(
    "One step that took too long, for how much of that time the loop's thread was on a processor, "
    "and how long ago it ended, in seconds."
)
class SlowStep(msgspec.Struct, frozen=True, gc=False):  # noqa: D101 - user_text
    task: str
    ms: float
    cpu_ms: float
    ago_s: float


class StepClock(Protocol):
    """What steps are measured by, in seconds."""

    def monotonic(self) -> float:
        """Return real time, also where Trio's own clock is virtual."""

    def processor(self) -> float:
        """Return how long the calling thread has been on a processor."""


class SystemStepClock:
    """The clocks of the system."""

    def monotonic(self) -> float:
        """Return real time."""
        return time.perf_counter()

    def processor(self) -> float:
        """Return how long the calling thread has been on a processor."""
        return time.thread_time()


class LoopStatistics(msgspec.Struct, frozen=True):
    """Steps of tasks, and those that held the event loop too long. `turns` are the times from one
    wait of the loop to the next: so long does at most wait what becomes ready meanwhile."""

    blocking_steps: int
    longest_ms: float
    tasks: tuple[BlockingTask, ...]
    """By number of such steps, most first; those of `WAITING` together."""
    steps: int
    turns: LatencyStatistics
    steps_by_task: Mapping[str, int]
    """Of such steps, in the order in which the tasks had their first."""
    slow: tuple[SlowStep, ...]
    """The newest such steps, last first."""


class LoopMonitor(trio.abc.Instrument):
    """A Trio instrument that counts, and warns of, steps longer than `limit_s` seconds.

    A step is at fault only for the time that its thread was on a processor. To read that is a call
    of the system, so it is done when a step begins, and not more often than every `MARK_S`: a step
    may be said to have worked for so much more than it did.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        *,
        limit_s: float = BLOCKING_S,
        clock: StepClock | None = None,
    ) -> None:
        clock = SystemStepClock() if clock is None else clock
        self._log = log
        self._limit_s = limit_s
        self._monotonic = clock.monotonic
        self._processor = clock.processor
        self._worked: float | None = None
        self._marked = float("-inf")
        self._began: float | None = None
        self._woke: float | None = None
        self._tasks: dict[str, BlockingTask] = {}
        self._all_steps = self._steps = 0
        self._longest_ms = 0.0
        self._turns = Latency()
        self._slow: deque[tuple[str, float, float, float]] = deque(maxlen=SLOW_STEPS_KEPT)
        self._quiet_until = {"loop.blocked": float("-inf"), "loop.waited": float("-inf")}
        self._untold = dict.fromkeys(self._quiet_until, 0)
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
        if self._began - self._marked >= MARK_S:
            self._marked = self._began
            self._worked = self._processor()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count the step."""
        ended = self._monotonic()
        self._all_steps += 1
        if task in self._born:
            self._paused[task] = ended
        # A step that was under way when this came to watch has no beginning.
        if self._began is not None and ended - self._began > self._limit_s:
            self._note(task.name, ended - self._began, ended)

    def after_io_wait(self, timeout: float) -> None:
        """Note when a turn of the loop begins."""
        self._woke = self._monotonic()

    def before_io_wait(self, timeout: float) -> None:
        """Count the turn."""
        if self._woke is not None:
            self._turns.note(self._monotonic() - self._woke)

    def _note(self, task: str, took_s: float, ended: float) -> None:
        worked = self._processor()
        worked_s = took_s if self._worked is None else min(took_s, worked - self._worked)
        # what follows has no part in what this step worked
        self._worked, self._marked = worked, ended
        self._slow.appendleft((task, took_s * 1000, worked_s * 1000, ended))
        is_at_fault = worked_s > self._limit_s
        self._count(task if is_at_fault else WAITING, took_s * 1000)
        self._say(task, took_s, worked_s, ended, is_at_fault=is_at_fault)

    def _count(self, task: str, took_ms: float) -> None:
        name = task if task in self._tasks or len(self._tasks) < MAX_NAMES else OTHERS
        known = self._tasks.get(name, BlockingTask(name, 0, 0.0))
        self._tasks[name] = BlockingTask(name, known.steps + 1, max(known.longest_ms, took_ms))
        self._steps += 1
        self._longest_ms = max(self._longest_ms, took_ms)

    def _say(
        self, task: str, took_s: float, worked_s: float, ended: float, *, is_at_fault: bool
    ) -> None:
        event = "loop.blocked" if is_at_fault else "loop.waited"
        if ended < self._quiet_until[event]:
            self._untold[event] += 1
            return
        fields = {
            "task": task,
            "ms": round(took_s * 1000),
            "cpu_ms": round(worked_s * 1000),
            "untold": self._untold[event],
        }
        if is_at_fault:
            self._log.warning("loop.blocked", **fields)
        else:
            self._log.info("loop.waited", **fields)
        self._quiet_until[event] = ended + QUIET_S
        self._untold[event] = 0

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
            slow=tuple(
                SlowStep(task, ms, cpu_ms, now - ended) for task, ms, cpu_ms, ended in self._slow
            ),
        )
