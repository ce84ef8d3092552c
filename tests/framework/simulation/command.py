"""`scripts/simulate`: whole networks from a seed, with faults; failures are cut down and kept."""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.framework.arguments import ScriptParser, above_zero, at_least, file_to_write
from tests.framework.async_tests import quiet_seeds
from tests.framework.simulation.outcome import Outcome
from tests.framework.simulation.recording import RecordingError, load, record, save
from tests.framework.simulation.scenario import SCENARIOS, Scenario
from tests.framework.simulation.schedule import Fault, Schedule, draw_schedule
from tests.framework.simulation.shrink import shrink
from tests.framework.simulation.sightings import Sightings
from tests.framework.simulation.simulation import simulate_schedule
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
LINE_S: Final = 10.0
"""Seconds between two lines that say how far a simulation is, where there is no terminal."""


class Shown:
    """Shows how far simulations are: on a terminal as it goes on, elsewhere by a line now and then,
    counted over all of them, since one that a failure is cut down by may be short."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._title = ""
        self._line_at = now() + LINE_S

    def begin(self, title: str) -> None:
        """Go over to another simulation."""
        self._title = title

    def show(self, at_s: float, of_s: float, height: int) -> None:
        text = f"{self._title}: {at_s:.0f} of about {of_s:.0f} virtual s, height {height}"
        if sys.stderr.isatty():
            print(f"\r{text:<76}", end="\r", file=sys.stderr, flush=True)
        elif self._now() >= self._line_at:
            print(text, file=sys.stderr, flush=True)
            self._line_at = self._now() + LINE_S


SHOWN: Final = Shown()


def run_once(
    scenario: Scenario, seed: int, schedule: Schedule, until_s: float = math.inf
) -> Outcome:
    """Run one simulation, for so many virtual seconds at most, and show how far it is."""
    with quiet_seeds():
        SHOWN.begin(f"{scenario.name} {seed}")
        return simulate_schedule(scenario, seed, schedule, SHOWN, until_s)


def cut_down(outcome: Outcome, tries: int = SHRINK_TRIES) -> Outcome:
    """Return the outcome of as few of the same faults as still fail in the same way."""
    scenario = outcome.scenario
    smallest = outcome

    def fails(faults: Sequence[Fault]) -> bool:
        nonlocal smallest
        found = run_once(scenario, outcome.seed, tuple(faults), PATIENCE * outcome.seconds)
        if kind_of(found.failure) != kind_of(outcome.failure):
            return False
        smallest = found
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
) -> tuple[Outcome, Path]:
    """Cut a failure down, write its recording, and return both."""
    smallest = cut_down(outcome, tries)
    path = folder / f"{outcome.scenario.name}-{outcome.seed}.json"
    save(record(smallest), path)
    return smallest, path


def tell(outcome: Outcome) -> str:
    """Return a line about an outcome."""
    pace = outcome.seconds / max(outcome.cpu_s, 1e-9)
    return (
        f"{outcome.scenario.name} --seed {outcome.seed}: {outcome.failure or 'all held'}; "
        f"{len(outcome.schedule)} faults, height {outcome.height}, "
        f"{outcome.seconds / 3600:.2f} virtual h in {outcome.cpu_s:.1f} CPU s ({pace:.0f} times), "
        f"hash {outcome.hash[:16]}"
    )


def tell_failure(outcome: Outcome, path: Path) -> str:
    """Return what somebody needs who is to mend it."""
    lines = [
        f"FAILED: {outcome.failure}",
        f"  scenario {outcome.scenario.name}, seed {outcome.seed}, "
        f"cut down to {len(outcome.schedule)} faults:",
        *(f"    {fault.at_ms / 1000:9.3f} s  {fault.kind} {fault.parameters}"
          for fault in outcome.schedule),
        f"  recording: {path}",
        f"  to see it again: scripts/simulate --replay {path}",
        "  to keep it as a test: move the file to tests/regressions/",
        outcome.trace,
    ]  # fmt: skip
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
    )
    parser.add_argument(
        "scenario", nargs="*", metavar="NAME", help=f"of {', '.join(SCENARIOS)}; else some in turn"
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
    seen, failed = Sightings(), 0
    for scenario, seed in wanted(arguments):
        outcome = run_once(scenario, seed, draw_schedule(scenario, seed))
        seen.add(outcome.sightings)
        print(outcome.hash if arguments.hash else tell(outcome), flush=True)
        if arguments.record is not None:
            save(record(outcome), arguments.record)
        if outcome.failure:
            failed += 1
            print(tell_failure(*keep_failure(outcome, tries=arguments.tries)), flush=True)
    if arguments.states:
        for name, count in sorted(seen.counts.items()):
            print(f"{count:8} {name}")
    return 1 if failed else 0


def _replay(arguments: argparse.Namespace) -> int:
    try:
        recording = load(arguments.replay)
    except (OSError, RecordingError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    outcome = run_once(recording.scenario(), recording.seed, recording.schedule)
    print(tell(outcome))
    if outcome.hash != recording.hash:
        print("simulate: another run than the recorded one: the code is not what it was then")
    if arguments.record is not None:
        save(record(outcome), arguments.record)
    if outcome.failure:
        print(outcome.trace)
    return 1 if outcome.failure else 0


if __name__ == "__main__":
    sys.exit(main())
