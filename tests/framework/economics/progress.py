"""How far a run has come, told on stderr now and then: nothing that is measured follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Final, NamedTuple

from tests.framework import progress_line


class _Run(NamedTuple):
    title: str
    began: float


_CURRENT: Final[ContextVar[_Run | None]] = ContextVar("progress", default=None)


@contextmanager
def shown_on_stderr(title: str) -> Iterator[None]:
    """Have what is run inside tell how far it is."""
    token = _CURRENT.set(_Run(title, monotonic()))
    try:
        yield
    finally:
        progress_line.PROGRESS.clear()
        _CURRENT.reset(token)


def tell(done: int, of: int, what: str) -> None:
    """Say that so much is done, if somebody wants to know and has not just been told."""
    run = _CURRENT.get()
    if run is not None:
        progress_line.PROGRESS.show(
            lambda: f"{run.title}: {done:,} of {of:,} {what} after {monotonic() - run.began:.0f} s"
        )


def attempts(count: int) -> Iterator[int]:
    """Yield the numbers of so many attempts, and tell how many are done."""
    for attempt in range(count):
        tell(attempt, count, "attempts")
        yield attempt
