"""What a part of the torture saw, and how it is shown while it runs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

SHOW_EVERY_S = 20.0
"""Seconds between two lines of progress where there is no terminal."""


class Failure(msgspec.Struct, frozen=True):
    """Something that did not hold: in which case, and what. `kept`: a copy of the files."""

    case: str
    what: str
    kept: str | None = None


class PartReport(msgspec.Struct):
    """One part: its seed, how often what was done and seen, and what did not hold."""

    part: str
    seed: int
    seconds: float = 0.0
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    facts: dict[str, Any] = msgspec.field(default_factory=dict)
    failures: list[Failure] = msgspec.field(default_factory=list)

    def fail(self, case: str, what: object, kept: Path | None = None) -> None:
        """Note that something did not hold."""
        line = " ".join(str(what).split())
        self.failures.append(Failure(case, line, None if kept is None else str(kept)))
        print(f"FAILED {self.part}: {case}: {line}", file=sys.stderr, flush=True)


class Shown:
    """Shows how far a part is: one moving line on a terminal, a line now and then else."""

    def __init__(self, part: str, total: int) -> None:
        self._part = part
        self._total = total
        self._began = self._last = time.monotonic()

    def show(self, done: int, now: str) -> None:
        """Show that so many are done, and what is being done."""
        at = time.monotonic()
        text = f"{self._part}: {done} of {self._total}, {at - self._began:.0f} s: {now}"
        if sys.stderr.isatty():
            print(f"\r{text[:100]:<100}", end="\r", file=sys.stderr, flush=True)
        elif at - self._last >= SHOW_EVERY_S or done == self._total:
            self._last = at
            print(text, file=sys.stderr, flush=True)
