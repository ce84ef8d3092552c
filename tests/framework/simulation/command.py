"""`scripts/simulate`: whole networks from a seed, with faults; failures are cut down and kept."""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.framework.arguments import ScriptParser, above_zero, at_least, file_to_write
from tests.framework.async_tests import quiet_seeds
from tests.framework.progress_line import PROGRESS, ProgressLine
from tests.framework.simulation.outcome import Outcome
from tests.framework.simulation.recording import RecordingError, load, record, save
from tests.framework.simulation.scenario import SCENARIOS, Scenario
from tests.framework.simulation.schedule import Fault, Schedule, draw_schedule
from tests.framework.simulation.shrink import shrink
from tests.framework.simulation.sightings import Sightings
from tests.framework.simulation.simulation import simulate_schedule
from unchained.node.base.number_words import number_of
from unchained.node.base.randomness import SYSTEM

NIGHTLY: Final = (
    "storm", "weather", "disks", "wallets", "deep", "shallow", "hostile", "siege", "main",
)  # fmt: skip
"""Scenarios that are run in turn where none is named."""
LONG: Final = "crowd"
"""One more of a night: it takes minutes."""
KEPT: Final = Path(".ci/simulation")
"""Where recordings of failures are put."""
SHRINK_TRIES: Final = 60
PATIENCE: Final = 1.5
"""Times the virtual time that a failure took, after which a run with fewer faults is taken to hold:
most runs that cut a failure down would go on for long after that."""
KIND_WORDS: Final = 5
"""Words of a failure that say what kind it is."""
SEEDS: Final = 2**31
REPLAY_HAS: Final = ("scenario", "seed", "count", "hours", "tries", "hash", "states")
"""Arguments that do nothing where a recording is run again."""
ANOTHER_RUN: Final = 3
"""The exit code of a replay that is another run than the recorded one."""
EXIT_CODES: Final = (
    "exit codes: 0 all held; 1 something did not; 2 a file cannot be read or written, or an option "
    f"says nothing; {ANOTHER_RUN} a replay held, but was another run than the recorded one; 130 "
    "Ctrl-C"
)


class Shown:
    """Shows how far a simulation is."""

    def __init__(self, title: str, line: ProgressLine) -> None:
        self._title = title
        self._line = line

    def show(self, at_s: float, of_s: float, height: int) -> None:
        self._line.show(
            lambda: f"{self._title}: {at_s:.0f} of about {of_s:.0f} virtual s, height {height}"
        )


class Tally:
    """What the simulations of a command came to, all of them together."""

    def __init__(self) -> None:
        self.count = 0
        self.failed: list[str] = []
        self._faults = 0
        self._seconds = 0.0
        self._cpu_s = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one in."""
        self.count += 1
        if outcome.failure:
            self.failed.append(title_of(outcome.scenario, outcome.seed))
        self._faults += len(outcome.schedule)
        self._seconds += outcome.seconds
        self._cpu_s += outcome.cpu_s

    def tell(self) -> str:
        """Return a line about them."""
        if not self.count:
            return "no simulation was through"
        what = (
            f"{len(self.failed)} of {number_of(self.count, 'simulation')} failed: "
            f"{', '.join(self.failed)}"
            if self.failed
            else f"{number_of(self.count, 'simulation')} held"
        )
        return (
            f"{what}; {number_of(self._faults, 'fault')}, {self._seconds / 3600:.2f} virtual h "
            f"in {self._cpu_s:.1f} CPU s"
        )


class Kept(NamedTuple):
    """Where a failure was recorded, where an earlier recording of it by fewer faults is, if there
    is one, and whether fewer faults were tried at all."""

    path: Path
    smaller: Path | None
    was_cut: bool


def title_of(scenario: Scenario, seed: int) -> str:
    """Return what names a simulation, as the command line has it."""
    return f"{scenario.name} --seed {seed}"


def run_once(
    scenario: Scenario, seed: int, schedule: Schedule, until_s: float = math.inf
) -> Outcome:
    """Run one simulation, for so many virtual seconds at most, and show how far it is."""
    shown = Shown(f"{scenario.name} {seed}", PROGRESS)
    try:
        with quiet_seeds():
            return simulate_schedule(scenario, seed, schedule, shown, until_s)
    finally:
        PROGRESS.clear()


def cut_down(
    outcome: Outcome,
    tries: int = SHRINK_TRIES,
    found: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Return the outcome of as few of the same faults as still fail in the same way; each that is
    found on the way is handed on."""
    scenario = outcome.scenario
    smallest = outcome

    def fails(faults: Sequence[Fault]) -> bool:
        nonlocal smallest
        other = run_once(scenario, outcome.seed, tuple(faults), PATIENCE * outcome.seconds)
        if kind_of(other.failure) != kind_of(outcome.failure):
            return False
        smallest = other
        found(smallest)
        return True

    # What had not begun when it failed is hardly needed for that.
    begun = sum(event.kind == "fault" for event in outcome.events)
    shrink(outcome.schedule, fails, tries, begun)
    return smallest


def kind_of(failure: str) -> str:
    """Return what two failures have in common that are the same but for names and numbers."""
    words = re.findall(r"[A-Za-z_]{2,}", re.sub(r"\b[0-9a-f]*[0-9][0-9a-f]*\b", "", failure))
    return " ".join(words[:KIND_WORDS])


def keep_failure(
    outcome: Outcome, folder: Path = KEPT, tries: int = SHRINK_TRIES
) -> tuple[Outcome, Kept]:
    """Cut a failure down, write its recording, and return both. Also where that is interrupted,
    what was found by then is written."""
    smallest = outcome

    def found(smaller: Outcome) -> None:
        nonlocal smallest
        smallest = smaller

    try:
        cut_down(outcome, tries, found)
    finally:
        stem = f"{outcome.scenario.name}-{outcome.seed}"
        path, smaller = folder / f"{stem}.json", None
        if is_of_fewer_faults(path, smallest):
            # It may have taken long to find.
            path, smaller = folder / f"{stem}-{len(smallest.schedule)}-faults.json", path
        save(record(smallest), path)
    return smallest, Kept(path, smaller, tries > 0)


def is_of_fewer_faults(path: Path, outcome: Outcome) -> bool:
    """Return whether there is a recording of the same failure by fewer faults."""
    try:
        before = load(path)
    except (FileNotFoundError, RecordingError):
        return False
    return (
        len(before.schedule) < len(outcome.schedule)
        and kind_of(before.failure) == kind_of(outcome.failure)
        and before.scenario() == outcome.scenario
    )


def tell(outcome: Outcome) -> str:
    """Return a line about an outcome."""
    pace = outcome.seconds / max(outcome.cpu_s, 1e-9)
    return (
        f"{title_of(outcome.scenario, outcome.seed)}: {outcome.failure or 'all held'}; "
        f"{number_of(len(outcome.schedule), 'fault')}, height {outcome.height}, "
        f"{outcome.seconds / 3600:.2f} virtual h in {outcome.cpu_s:.1f} CPU s ({pace:.0f} times), "
        f"hash {outcome.hash[:16]}"
    )


def tell_failure(outcome: Outcome, kept: Kept) -> str:
    """Return what somebody needs who is to mend it."""
    faults = number_of(len(outcome.schedule), "fault")
    if not kept.was_cut:
        how = f"{faults}, not cut down:" if outcome.schedule else "without any fault"
    else:
        how = f"cut down to {faults}{':' if outcome.schedule else ': it fails without any'}"
    lines = [
        f"FAILED: {outcome.failure}",
        f"  scenario {outcome.scenario.name}, seed {outcome.seed}, {how}",
        *(f"    {fault.at_ms / 1000:9.3f} s  {fault.kind} {fault.parameters}"
          for fault in outcome.schedule),
        outcome.trace,
        f"  recording: {kept.path}",
        f"  to see it again: scripts/simulate --replay {kept.path}",
        "  to keep it as a test: move the file to tests/regressions/",
    ]  # fmt: skip
    if kept.smaller is not None:
        lines.insert(-2, f"  an earlier one, of fewer faults, is left as it is: {kept.smaller}")
    return "\n".join(lines)


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[Scenario, int]]:
    """Yield what is to be run."""
    names = arguments.scenario or ((*NIGHTLY, LONG) if arguments.hours else NIGHTLY)
    ends_at = None if arguments.hours is None else time.monotonic() + 3600 * arguments.hours
    turn = 0
    while True:
        for name in names:
            seed = SYSTEM.below(SEEDS) if arguments.seed is None else arguments.seed + turn
            yield SCENARIOS[name], seed
            if ends_at is not None and time.monotonic() >= ends_at:
                return
        turn += 1
        if ends_at is None and turn >= arguments.count:
            return


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = ScriptParser(
        prog="scripts/simulate",
        description="Simulate whole networks of nodes from a seed; see docs/simulation.md.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "scenario",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(SCENARIOS)}; without, {', '.join(NIGHTLY)}: all but those in which "
        f"nothing happens, and {LONG}, which takes minutes and is run by its name or with --hours",
    )
    parser.add_argument("--seed", type=int, help="the first seed; drawn anew each time without")
    parser.add_argument("--count", type=at_least(1), default=1, help="simulations of each scenario")
    parser.add_argument(
        "--hours", type=above_zero, help="go on for so long, with one seed after another"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run a recording again")
    parser.add_argument(
        "--record", type=file_to_write, metavar="FILE", help="write a recording of the last"
    )
    parser.add_argument(
        "--tries",
        type=at_least(0),
        default=SHRINK_TRIES,
        help="runs that cutting a failure down may take, 0 for none (%(default)s)",
    )
    parser.add_argument("--hash", action="store_true", help="print the hash of what happened alone")
    parser.add_argument("--states", action="store_true", help="count what has happened")
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {unknown[0]}: expected one of {', '.join(SCENARIOS)}")
    if arguments.replay is not None:
        parser.refuse_unused(arguments, REPLAY_HAS, "beside --replay: the recording says it all")
        return _replay(arguments)
    if arguments.hours is not None:
        parser.refuse_unused(arguments, ["count"], "beside --hours")
    seen, tally = Sightings(), Tally()
    try:
        for scenario, seed in wanted(arguments):
            outcome = run_once(scenario, seed, draw_schedule(scenario, seed))
            seen.add(outcome.sightings)
            tally.add(outcome)
            print(outcome.hash if arguments.hash else tell(outcome), flush=True)
            if arguments.record is not None:
                save(record(outcome), arguments.record)
            if outcome.failure:
                print(tell_failure(*keep_failure(outcome, tries=arguments.tries)), flush=True)
    except KeyboardInterrupt as error:
        error.add_note(tally.tell())
        raise
    if arguments.states:
        for name, count in sorted(seen.counts.items()):
            print(f"{count:8} {name}")
    if tally.count > 1 and not arguments.hash:
        print(tally.tell())
    return 1 if tally.failed else 0


def _replay(arguments: argparse.Namespace) -> int:
    try:
        recording = load(arguments.replay)
    except (OSError, RecordingError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    outcome = run_once(recording.scenario(), recording.seed, recording.schedule)
    print(tell(outcome), flush=True)
    if arguments.record is not None:
        save(record(outcome), arguments.record)
    is_another = outcome.hash != recording.hash
    if is_another:
        print(
            f"simulate: another run than the recorded one, hash {recording.hash[:16]}, which "
            f"{'failed' if recording.failure else 'held'}: the code is not what it was then",
            file=sys.stderr,
        )
    if outcome.failure:
        print(outcome.trace)
        return 1
    return ANOTHER_RUN if is_another else 0


if __name__ == "__main__":
    sys.exit(main())
