"""What a part of the torture saw, and how it is shown while it runs."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

SHOW_EVERY_S = 20.0
"""Seconds between two lines of progress where there is no terminal."""


KEPT = Path("out", "torture")
"""Where the files of what did not hold are left."""


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
        where = "" if kept is None else f" (files: {kept})"
        print(f"FAILED {self.part}: {case}: {line}{where}", file=sys.stderr, flush=True)

    def keep(self, data_dir: Path) -> Path:
        """Copy a data directory, which ends with its node, for the failure that is noted next;
        return the copy."""
        kept = KEPT / f"{self.part}-{self.seed}-{len(self.failures) + 1}"
        if kept.exists():
            shutil.rmtree(kept)
        shutil.copytree(data_dir, kept, ignore=sockets_in, copy_function=_copy_if_there)
        return kept


def sockets_in(directory: str, names: list[str]) -> list[str]:
    """Return what of a data directory is not copied, as `shutil.copytree` asks."""
    return [name for name in names if (Path(directory) / name).is_socket()]


def _copy_if_there(source: str, target: str) -> None:
    # A node that still runs takes files away.
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)


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
