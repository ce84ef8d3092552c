"""How long something takes, counted in classes: cheap to note, and enough to draw and to judge."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

BOUNDS_S: Final = (0.0001, 0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0)
"""Upper bounds of the classes, in seconds, where nothing else is said."""


class LatencyStatistics(msgspec.Struct, frozen=True, gc=False):
    """A snapshot. `counts` has one number for each of `bounds_s`, and one for what took longer;
    `seconds` is the sum of all that was noted."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    seconds: float

    @property
    def count(self) -> int:
        """How often something was noted."""
        return sum(self.counts)

    def mean_since(self, before: LatencyStatistics) -> float | None:
        """Return the mean of what was noted since an earlier snapshot, in seconds; None where
        nothing was."""
        count = self.count - before.count
        return (self.seconds - before.seconds) / count if count > 0 else None


NOTHING_NOTED: Final = LatencyStatistics(BOUNDS_S, (0,) * (len(BOUNDS_S) + 1), 0.0)
"""Where nothing is measured."""


class Latency:
    """Counts how long something takes; any thread may note."""

    __slots__ = ("_bounds", "_counts", "_lock", "_seconds")

    def __init__(self, bounds_s: Sequence[float] = BOUNDS_S) -> None:
        self._bounds = tuple(bounds_s)
        self._counts = [0] * (len(self._bounds) + 1)
        self._seconds = 0.0
        self._lock = threading.Lock()

    def note(self, seconds: float) -> None:
        """Count one more."""
        with self._lock:
            self._counts[bisect_left(self._bounds, seconds)] += 1
            self._seconds += seconds

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count how long the block takes, however it ends, on the machine's own clock: under a
        virtual one as well, what is computed takes real time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.note(time.perf_counter() - began)

    def statistics(self) -> LatencyStatistics:
        """Return a snapshot."""
        with self._lock:
            return LatencyStatistics(self._bounds, tuple(self._counts), self._seconds)
