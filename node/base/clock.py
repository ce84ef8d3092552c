"""The wall clock, handed in by the composition root.

So hundreds of nodes can run in one process under Trio's virtual clock: there the wall clock is
derived from Trio's.
"""

from __future__ import annotations

import time
from typing import Protocol

import trio


class Clock(Protocol):
    """The wall clock, in milliseconds since the Unix epoch."""

    def now_ms(self) -> int:
        """Return the present wall-clock time, in ms."""


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
