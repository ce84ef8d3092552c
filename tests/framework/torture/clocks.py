"""A node whose machine's clock jumps, while it works and before it starts.

The clock is that of libfaketime (apt: libfaketime), read anew from a file at each call; the
monotonic clock goes on. Nothing may be lost, and once the clock is right the node is where its
peer is.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from tests.framework.torture.kills import Survival
from tests.framework.torture.report import PartReport
from tests.framework.torture.world import PATIENCE_S, World, world

JUMPS_S = (3, -3, 60, -60, 3_600, -3_600, 86_400, -86_400, 10 * 365 * 86_400)
STAYS_S = 3.0
LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


def library() -> Path | None:
    """Return libfaketime, None where it is not installed."""
    return next(iter(sorted(Path("/").glob(LIBRARIES[1:]))), None)


class ClockPart(Survival):
    """One jump of a node's clock after the other."""

    def __init__(self, it: World, report: PartReport, faketime: Path) -> None:
        super().__init__(it, report)
        self._file = it.net.home.path / "clock"
        self._set(0)
        it.victim.env = {
            "LD_PRELOAD": str(faketime),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _set(self, seconds: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}s\n")
        fresh.replace(self._file)

    def run(self, times: int) -> None:
        """Take each jump in turn: while the node works, then across a restart."""

        def happen(number: int) -> str:
            jump = JUMPS_S[(number - 1) // 2 % len(JUMPS_S)]
            restarts = number % 2 == 0
            name = f"{number}: {jump:+d} s {'across a restart' if restarts else 'at work'}"
            self._jump(name, jump, restarts=restarts)
            return name

        self.rounds(times, happen)

    def _jump(self, name: str, jump: int, *, restarts: bool) -> None:
        victim = self.world.victim
        if restarts:
            self._stop(name)
            self._set(jump)
            victim.start()
            self.world.unlock()
        load = self.load()
        load.begin()
        self._set(jump)
        for seconds in (STAYS_S, STAYS_S):
            with contextlib.suppress(subprocess.TimeoutExpired):
                victim.process.wait(seconds)
            if not victim.process.running:
                self.fail(name, f"it ended: {victim.process.errors}")
            self._set(0)
        load.end()
        self.report.counts["jumps"] += 1
        self._stop(name)

    def _stop(self, name: str) -> None:
        code = self.world.victim.process.stop(timeout_s=PATIENCE_S)
        if code or self.world.victim.process.errors:
            self.fail(name, f"stopped with {code}: {self.world.victim.process.errors}")


def run_clocks(report: PartReport, times: int) -> None:
    """Let a node's clock jump so many times."""
    faketime = library()
    if faketime is None:
        report.facts["not run"] = "libfaketime is not installed (apt install libfaketime)"
        return
    with world(report.seed) as it:
        ClockPart(it, report, faketime).run(times)
