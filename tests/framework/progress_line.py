"""How far a long run is, on standard error: a moving line on a terminal, else one now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import Final

LINE_S: Final = 10.0
"""Seconds between two lines where there is no terminal."""
MOVES_S: Final = 0.1
"""Seconds between two changes of the line of a terminal."""
WIDTH: Final = 78
"""Characters of that line, which is never broken."""


class ProgressLine:
    """Shows how far runs are, counted over all of them: each may be shorter than the time between
    two lines."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._at = now() + (0.0 if sys.stderr.isatty() else LINE_S)
        self._is_there = False

    def show(self, words: Callable[[], str]) -> None:
        """Show these words, which are asked for only if it is time."""
        now = self._now()
        if now < self._at:
            return
        if sys.stderr.isatty():
            print(f"\r{words()[:WIDTH]:<{WIDTH}}", end="\r", file=sys.stderr, flush=True)
            self._at, self._is_there = now + MOVES_S, True
        else:
            print(words(), file=sys.stderr, flush=True)
            self._at = now + LINE_S

    def clear(self) -> None:
        """Leave no line on a terminal, where something else is to be printed."""
        if self._is_there:
            print(f"\r{'':<{WIDTH}}", end="\r", file=sys.stderr, flush=True)
            self._is_there = False


PROGRESS: Final = ProgressLine()
"""The one of a command."""
