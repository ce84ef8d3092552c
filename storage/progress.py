"""How far long work on a whole store has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

STEP: Final = 4_096
"""Entries between two reports."""


class Progress(msgspec.Struct, frozen=True, gc=False):
    """What is being done, and how many entries of it have been."""

    stage: str
    done: int


Report: TypeAlias = Callable[[Progress], None]
"""Is told of progress, in the thread that does the work; what it raises ends the work."""


def silent(_progress: Progress) -> None:
    """Report to nobody."""


def counted(entries: Iterable[T], stage: str, report: Report) -> Iterator[T]:
    """Pass entries through and report them: at the start, after every `STEP`, and at the end."""
    report(Progress(stage, 0))
    done = 0
    for done, entry in enumerate(entries, 1):
        yield entry
        if done % STEP == 0:
            report(Progress(stage, done))
    report(Progress(stage, done))
