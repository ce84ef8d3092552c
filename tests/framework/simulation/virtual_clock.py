"""A clock of virtual time for networks that live in one thread and have no files to wait for.

Trio's own needs a turn of the loop, and a system call, to see that nothing is to be done before it
jumps. Where nothing can come from outside, it is enough that no task can run.
"""

from __future__ import annotations

import math
from typing import Final

import trio.testing
from trio._core._run import GLOBAL_RUN_CONTEXT

FOREVER_S: Final = 1e9


def virtual_clock() -> trio.testing.MockClock:
    """Return a clock that is at the next deadline as soon as no task can run.

    Not for tests that use threads, sockets or `trio.testing.wait_all_tasks_blocked`.
    """
    # Trio asks for this very class, and lets nobody derive from it.
    clock = trio.testing.MockClock()
    now_s = 0.0

    def current_time() -> float:
        return now_s

    def deadline_to_sleep_time(deadline: float) -> float:
        """Jump: Trio asks for this whenever there is no task that can run."""
        nonlocal now_s
        if GLOBAL_RUN_CONTEXT.runner.waiting_for_idle:
            raise RuntimeError("wait_all_tasks_blocked is not for this clock")
        if deadline == math.inf:
            return FOREVER_S
        now_s = max(now_s, deadline)
        return 0.0

    clock.current_time = current_time  # type: ignore[method-assign]
    clock.deadline_to_sleep_time = deadline_to_sleep_time  # type: ignore[method-assign]
    return clock
