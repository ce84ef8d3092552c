"""The worker threads, handed in by the composition root, and what eases threads and pauses.

Under Trio's virtual clock `InlineRunner` does the work in place: a virtual clock would jump while
a thread works.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, TypeVarTuple

import trio

from unchained.node.base.counted import ThreadStatistics

SWITCH_S: Final = 0.001
"""Seconds that a thread keeps the interpreter while another wants it."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Runner(Protocol):
    """Runs blocking or heavy work so that the event loop goes on meanwhile."""

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return ``work(*args)``. Once begun, the work is finished even if the caller is
        cancelled."""


class ThreadRunner:
    """Runs work in Trio's worker threads, at most `limit` at a time."""

    def __init__(self, limit: int) -> None:
        self._limiter = trio.CapacityLimiter(limit)

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return ``work(*args)``, called in a worker thread."""
        return await trio.to_thread.run_sync(work, *args, limiter=self._limiter)

    def statistics(self) -> ThreadStatistics:
        """Return how many threads are at work, and how much work waits for one."""
        now = self._limiter.statistics()
        return ThreadStatistics(now.borrowed_tokens, int(now.total_tokens), now.tasks_waiting)


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


def ease_switches() -> None:
    """Give the event loop the interpreter back soon, however busy worker threads are.

    A thread that computes gives it up after Python's switch interval, 5 ms, and the loop asks for
    it again after each call of the system that lets it go: ten of them in a step made 50 ms, in
    which peers, RPC and mining jobs wait.
    """
    sys.setswitchinterval(SWITCH_S)


def rest_collector() -> None:
    """Let the garbage collector rest while a node is imported and made, until `freeze_made`: next
    to nothing of that is garbage, and it looks through all of it again and again."""
    gc.disable()


def freeze_imports() -> None:
    """Keep the garbage collector off what is there already: call it once all is imported, and
    before the event loop runs.

    What has been imported lives as long as the process. A full collection looks through all of it:
    80 ms or more, in which no thread of the process runs. That is why it does not collect first
    either: of 72,000 objects 2,700 are garbage, which hold less than half a MiB.
    """
    gc.freeze()


def freeze_made() -> None:
    """Keep the garbage collector off what the node is made of as well, and let it work from here
    on. It does not collect first: that would hold the event loop up."""
    gc.freeze()
    gc.enable()
