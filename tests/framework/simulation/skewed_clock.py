"""A node's wall clock that is wrong: set by hand, or too fast, or too slow."""

from __future__ import annotations

import trio


class SkewedClock:
    """A `Clock` that follows Trio's at a rate of its own."""

    def __init__(self, start_ms: int) -> None:
        """`start_ms` is what it shows when Trio's clock shows 0."""
        self._start_ms = start_ms
        self._rate = 1.0
        self._since = 0.0
        self._shift_ms = 0.0

    def now_ms(self) -> int:
        return self._start_ms + int(trio.current_time() * 1000 + self._offset_ms())

    def _offset_ms(self) -> float:
        return self._shift_ms + (trio.current_time() - self._since) * 1000 * (self._rate - 1)

    def step(self, by_ms: int) -> None:
        """Set it forward, or back."""
        self._shift_ms += by_ms

    def drift(self, rate: float) -> None:
        """Let it go at so many seconds per second from here on."""
        self._shift_ms = self._offset_ms()
        self._since = trio.current_time()
        self._rate = rate

    def correct(self) -> None:
        """Let it be right again, and stay so."""
        self._shift_ms, self._rate = 0.0, 1.0
