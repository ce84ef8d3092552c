"""A clock of virtual time for networks that live in one thread and have no files to wait for.

Trio's own needs a turn of the loop, and a system call, to see that nothing is to be done before it
jumps. Where nothing can come from outside, it is enough that no task can run; and the system need
not be asked in each turn. Trio ends each sleep by an exception; under this clock who sleeps is
woken. Both are a matter of speed alone: that of networks of hundreds of nodes, which sleep most of
their time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final
from unittest.mock import patch

import trio.testing
from trio._core._run import GLOBAL_RUN_CONTEXT

FOREVER_S: Final = 1e9
SYSTEM_ASKED_EVERY: Final = 256
"""Turns of the loop: what comes from there is that somebody wants the run to end (Ctrl-C)."""
STALE_MAX: Final = 1_024
"""Sleeps that were cut short and are kept beyond as many as go on."""


class _RareIo:
    """Trio's link to the system, which is asked now and then."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._turns = 0
        self.process_events = inner.process_events

    def get_events(self, timeout: float) -> Any:
        self._turns += 1
        if timeout <= 0 and self._turns % SYSTEM_ASKED_EVERY:
            return []
        return self._inner.get_events(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Sleepers:
    """Who sleeps until when. Those who wake at one time are woken together, before what is
    cancelled then; the seed says who of them runs first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._tasks: dict[int, trio.lowlevel.Task] = {}
        self._numbers = count()

    def next_s(self) -> float:
        while self._heap and self._heap[0][1] not in self._tasks:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def wake(self, now_s: float) -> None:
        while self._heap and self._heap[0][0] <= now_s:
            task = self._tasks.pop(heappop(self._heap)[1], None)
            if task is not None:
                trio.lowlevel.reschedule(task)

    def number(self) -> int:
        """Return the number of the next who lies down."""
        return next(self._numbers)

    def wake_one(self, number: int) -> None:
        """Wake somebody before his time, if he sleeps."""
        task = self._tasks.pop(number, None)
        if task is not None:
            self._trim()
            trio.lowlevel.reschedule(task)

    def _trim(self) -> None:
        if len(self._heap) > 2 * len(self._tasks) + STALE_MAX:
            self._heap = [place for place in self._heap if place[1] in self._tasks]
            heapify(self._heap)

    async def sleep_until(self, deadline: float, number: int | None = None) -> None:
        if math.isnan(deadline):
            raise ValueError("expected a time to sleep until, not NaN")
        if deadline <= trio.current_time():
            await trio.lowlevel.checkpoint()
            return
        number = self.number() if number is None else number
        self._tasks[number] = trio.lowlevel.current_task()
        if deadline != math.inf:
            heappush(self._heap, (deadline, number))

        def cut_short(_: object) -> trio.lowlevel.Abort:
            self._tasks.pop(number, None)
            self._trim()
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await trio.lowlevel.wait_task_rescheduled(cut_short)
        finally:
            # Ctrl-C may come before it waits.
            self._tasks.pop(number, None)

    async def sleep(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(f"expected seconds to sleep, not {seconds}")
        await self.sleep_until(trio.current_time() + seconds)


_current: _Sleepers | None = None
"""Those of the virtual clock of the moment."""


class Nap:
    """A sleep that somebody may end before its time; one sleeps at a time. Under any clock."""

    def __init__(self) -> None:
        self._sleepers = _current
        self._number = -1
        self._ended = trio.Event()

    async def until(self, deadline: float) -> None:
        """Sleep until a time of Trio's clock, or until `end` is called."""
        if self._sleepers is not None:
            self._number = self._sleepers.number()
            await self._sleepers.sleep_until(deadline, self._number)
            return
        self._ended = trio.Event()
        with trio.move_on_at(deadline):
            await self._ended.wait()

    def end(self) -> None:
        """Wake who sleeps, if anybody does."""
        if self._sleepers is not None:
            self._sleepers.wake_one(self._number)
        else:
            self._ended.set()


@contextmanager
def virtual_clock() -> Iterator[trio.testing.MockClock]:
    """Give a clock that is at the next deadline as soon as no task can run.

    Not for tests that use threads, sockets or `trio.testing.wait_all_tasks_blocked`.
    """
    # Trio asks for this very class, and lets nobody derive from it.
    clock = trio.testing.MockClock()
    sleepers = _Sleepers()
    now_s = 0.0

    def current_time() -> float:
        return now_s

    def deadline_to_sleep_time(deadline: float) -> float:
        """Jump: Trio asks for this whenever there is no task that can run."""
        nonlocal now_s
        runner = GLOBAL_RUN_CONTEXT.runner
        if runner.waiting_for_idle:
            raise RuntimeError("wait_all_tasks_blocked is not for this clock")
        if not isinstance(runner.io_manager, _RareIo):
            runner.io_manager = _RareIo(runner.io_manager)  # type: ignore[assignment]
        jump = min(deadline, sleepers.next_s())
        if jump == math.inf:
            return FOREVER_S
        now_s = max(now_s, jump)
        sleepers.wake(now_s)
        return 0.0

    clock.current_time = current_time  # type: ignore[method-assign]
    clock.deadline_to_sleep_time = deadline_to_sleep_time  # type: ignore[method-assign]
    with (
        patch("trio.sleep", sleepers.sleep),
        patch("trio.sleep_until", sleepers.sleep_until),
        patch(f"{__name__}._current", sleepers),
    ):
        yield clock
