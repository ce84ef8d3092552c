"""How far a run has come, told on stderr now and then: nothing that is measured follows from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Final

EVERY_S: Final = 10.0
"""Seconds between two lines."""


class Progress:
    """Says every ten seconds how much of a run is done."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = self._said = monotonic()

    def show(self, done: int, of: int, what: str) -> None:
        now = monotonic()
        if now - self._said >= EVERY_S:
            self._said = now
            words = f"{self._title}: {done:,} of {of:,} {what} after {now - self._began:.0f} s"
            print(words, file=sys.stderr, flush=True)


_CURRENT: Final[ContextVar[Progress | None]] = ContextVar("progress", default=None)


@contextmanager
def shown_on_stderr(title: str) -> Iterator[None]:
    """Have what is run inside tell how far it is."""
    token = _CURRENT.set(Progress(title))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def tell(done: int, of: int, what: str) -> None:
    """Say that so much is done, if somebody wants to know and has not just been told."""
    progress = _CURRENT.get()
    if progress is not None:
        progress.show(done, of, what)


def attempts(count: int) -> Iterator[int]:
    """Yield the numbers of so many attempts, and tell how many are done."""
    for attempt in range(count):
        tell(attempt, count, "attempts")
        yield attempt
