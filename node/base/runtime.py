"""What a running node takes from its surroundings: the wall clock and the worker threads.

Both are handed in by the composition root, so that hundreds of nodes can run in one process
under Trio's virtual clock: there `InlineRunner` does the work in place (a virtual clock would
jump while a thread works) and the wall clock is derived from Trio's.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Clock(Protocol):
    """The wall clock, in milliseconds since the Unix epoch."""

    def now_ms(self) -> int:
        """Return the present wall-clock time, in ms."""


class Runner(Protocol):
    """Runs blocking or heavy work so that the event loop goes on meanwhile."""

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return ``work(*args)``. Once begun, the work is finished even if the caller is
        cancelled."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return the present wall-clock time, in ms."""
        return time.time_ns() // 1_000_000


class TrioClock:
    """A wall clock that follows Trio's, virtual or not: `start_ms` at Trio's present time."""

    def __init__(self, start_ms: int) -> None:
        self._origin_ms = start_ms - int(trio.current_time() * 1000)

    def now_ms(self) -> int:
        """Return the start plus what Trio's clock has counted since, in ms."""
        return self._origin_ms + int(trio.current_time() * 1000)


class ThreadRunner:
    """Runs work in Trio's worker threads, at most `limit` at a time."""

    def __init__(self, limit: int) -> None:
        self._limiter = trio.CapacityLimiter(limit)

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return ``work(*args)``, called in a worker thread."""
        return await trio.to_thread.run_sync(work, *args, limiter=self._limiter)


class InlineRunner:
    """Runs work in place: for simulations under a virtual clock."""

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return ``work(*args)`` after one checkpoint."""
        await trio.lowlevel.checkpoint()
        return work(*args)


def one_thread_for_numpy() -> None:
    """Keep NumPy's matrix products to the thread that asks for them; call it before NumPy is
    imported. Threads of its own wait for one another by spinning, beside a miner on every core."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def freeze_imports() -> None:
    """Keep the garbage collector off what is there already: call it once all is imported.

    What has been imported lives as long as the process. Each full collection looked through all
    of it: 80 ms or more, in which no thread of the process runs.
    """
    gc.collect()
    gc.freeze()
