"""`scripts/torture`: real nodes, killed, damaged, starved; what does not hold is said and kept."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tests.framework.arguments import ScriptParser, at_least, exit_codes, file_to_write
from tests.framework.torture.clocks import JUMPS_S, run_clocks
from tests.framework.torture.damage import STORE_CASES, WALLET_CASES, run_damage
from tests.framework.torture.disks import CASES as DISK_CASES
from tests.framework.torture.disks import run_disks
from tests.framework.torture.kills import run_kills
from tests.framework.torture.limits import CASES as LIMIT_CASES
from tests.framework.torture.limits import run_limits
from tests.framework.torture.report import PartReport
from tests.framework.torture.soak import run_soak
from unchained.node.base.number_words import number_of
from unchained.node.base.randomness import SYSTEM

PARTS: Final[dict[str, tuple[int, Callable[[PartReport, int], None], str]]] = {
    "kill": (1_000, run_kills, "kills of a node that mines, pays, syncs and reorganises"),
    "damage": (
        4 * len(STORE_CASES + WALLET_CASES),
        run_damage,
        "damaged files of the store and of wallets",
    ),
    "disk": (4 * len(DISK_CASES), run_disks, "disks that get full or read-only"),
    "limit": (len(LIMIT_CASES), run_limits, "few descriptors, little memory"),
    "clock": (2 * len(JUMPS_S), run_clocks, "clocks that jump, by libfaketime"),
    "soak": (60, run_soak, "work with flat memory, threads, descriptors and tasks"),
}
"""By name: how often it is done where nothing is said, what does it, and what that is."""


def parser() -> ScriptParser:
    """Return what reads the command line."""
    made = ScriptParser(
        prog="scripts/torture",
        description="Torture real nodes on reg.",
        epilog=exit_codes(
            "all holds", "anything does not hold, or a part could not be run on this machine"
        ),
    )
    made.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="; ".join(f"{name}: {what}" for name, (_, _, what) in PARTS.items())
        + ". All, if none is named",
    )
    made.add_argument(
        "--times",
        type=at_least(1),
        metavar="N",
        help="how often in each part; of soak the minutes",
    )
    made.add_argument("--seed", type=int, help="draw what is done from this seed")
    made.add_argument("--json", type=file_to_write, metavar="FILE", help="write a report")
    return made


def run(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    made = parser()
    chosen = made.parse_args(arguments)
    unknown = [part for part in chosen.parts if part not in PARTS]
    if unknown:
        made.error(f"{', '.join(unknown)}: no part; there are {', '.join(PARTS)}")
    seed = SYSTEM.generator().randrange(2**31) if chosen.seed is None else chosen.seed
    # Whoever stops it stops its nodes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reports = []
    for name in chosen.parts or PARTS:
        times, work, what = PARTS[name]
        count = times if chosen.times is None else chosen.times
        often = number_of(count, "minute" if name == "soak" else "time")
        print(f"{name}: {what}; {often}, --seed {seed}", flush=True)
        report = PartReport(name, seed)
        began = time.monotonic()
        work(report, count)
        report.seconds = round(time.monotonic() - began, 1)
        reports.append(report)
        print(summary(report), flush=True)
        if chosen.json is not None:
            # After each part: a night that is cut off leaves what it has seen.
            chosen.json.write_text(json.dumps(msgspec.to_builtins(reports), indent=1) + "\n")
    # What could not be done has not been shown to hold.
    return 1 if any(report.failures or "not run" in report.facts for report in reports) else 0


def summary(report: PartReport) -> str:
    """Return what a part saw, for people."""
    lines = [f"{report.part}: {report.seconds:g} s, {number_of(len(report.failures), 'failure')}"]
    lines += [f"  {count:>7,} {what}" for what, count in sorted(report.counts.items())]
    shown = {name: fact for name, fact in report.facts.items() if name != "samples"}
    lines += [f"  {name}: {fact}" for name, fact in shown.items()]
    for failure in report.failures:
        where = "" if failure.kept is None else f" (files: {failure.kept})"
        lines.append(f"  FAILED {failure.case}: {failure.what}{where}")
    return "\n".join(lines)
