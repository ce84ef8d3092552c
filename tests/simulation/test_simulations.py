"""Whole simulations: the fixed set, fresh seeds, and that a seed decides everything.

A failure is cut down and kept as a file; moved to `tests/regressions` that is a test. Each
simulation is run twice, in two processes whose hashes of text differ: the seed alone decides.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.framework.simulation.command import (
    NIGHTLY,
    SEEDS,
    SHRINK_TRIES,
    keep_failure,
    run_once,
    tell,
    tell_failure,
)
from tests.framework.simulation.scenario import SCENARIOS
from tests.framework.simulation.schedule import Fault, draw_schedule
from tests.framework.simulation.sightings import FAULTS, STATES, Sightings
from unchained.node.base.randomness import SYSTEM

FIXED = (
    ("storm", 21),
    ("wallets", 2),
    ("wallets", 1),
    ("shallow", 12),
    ("shallow", 65),
    ("shallow", 301),
    ("shallow", 439),
    ("weather", 16),
    ("hostile", 1),
    ("disks", 36),
    ("storm", 6),
    ("deep", 40),
    ("siege", 6),
    ("siege", 39),
    ("main", 203),
    ("main", 88),
    ("crowd", 4),
)
"""Scenarios and seeds that every run has, so that each kind of fault and each state of interest is
there each time. Those come first of which a failure is soon cut down."""

COMMAND = "tests.framework.simulation.command"

FRESH_S = float(os.environ.get("UNCHAINED_FRESH_SIMULATION_S", "60"))
"""Seconds for which simulations are begun whose seeds nobody has seen before."""
TRIES = int(os.environ.get("UNCHAINED_SHRINK_TRIES", str(SHRINK_TRIES)))
"""Runs that cutting a failure down may take."""


class Twin:
    """The same simulation in a process of its own, where text has other hashes than here."""

    def __init__(self, name: str, seed: int) -> None:
        self._words = [COMMAND, name, "--seed", str(seed), "--hash", "--tries", "0"]
        hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._words],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(self) -> str:
        """Return what it has printed once it has ended: the hash of all that happened."""
        output, _ = self._process.communicate()
        return output.strip()

    def end(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def assert_holds(name: str, seed: int, *, at_once: bool) -> Sightings:
    """Run a simulation twice, at once or one after the other; fail with what it takes to see the
    failure again."""
    scenario = SCENARIOS[name]
    twin = Twin(name, seed) if at_once else None
    try:
        outcome = run_once(scenario, seed, draw_schedule(scenario, seed))
        print(tell(outcome))
        if outcome.failure:
            if twin is not None:
                # It would write the same file.
                twin.end()
            pytest.fail(tell_failure(*keep_failure(outcome, tries=TRIES)), pytrace=False)
        twin = twin or Twin(name, seed)
        assert twin.said() == outcome.hash, f"{name} --seed {seed} is not the same run each time"
    finally:
        if twin is not None:
            twin.end()
    return outcome.sightings


def test_the_fixed_set_holds_and_meets_every_fault_and_state() -> None:
    seen = Sightings()
    for name, seed in FIXED:
        seen.add(assert_holds(name, seed, at_once=True))
    print(sorted(seen.counts.items()))
    assert seen.never(FAULTS) == []
    assert seen.never(STATES) == []


@pytest.mark.skipif(not FRESH_S, reason="UNCHAINED_FRESH_SIMULATION_S is 0")
def test_fresh_seeds_hold(say: Callable[[str], None]) -> None:
    """Begin one after the other until the time is up: how many there are is up to the machine."""
    ends_at = time.monotonic() + FRESH_S
    while True:
        name, seed = SYSTEM.generator().choice(NIGHTLY), SYSTEM.below(SEEDS)
        say(f"fresh seed: scripts/simulate {name} --seed {seed}")
        assert_holds(name, seed, at_once=False)
        if time.monotonic() >= ends_at:
            return


def test_what_strikes_in_vain_has_not_happened() -> None:
    down = {"steps": 0, "down_ms": 30_000}
    schedule = (
        Fault(1_000, "partition", {"group": [0], "ms": 8_000}),
        Fault(1_000, "one-way partition", {"group": [], "ms": 8_000}),
        Fault(20_000, "crash", {"node": 1, **down}),
        Fault(21_000, "power cut", {"node": 1, **down}),
        Fault(22_000, "crash at a write", {"node": 2, "write": 10**6, "down_ms": 1}),
        Fault(23_000, "service cancelled", {"node": 5, "service": "wallets"}),
        Fault(24_000, "slow disk", {"node": 1, "delay_ms": 5, "ms": 1_000}),
        Fault(25_000, "slow disk", {"node": 2, "delay_ms": 5, "ms": 8_000}),
        Fault(26_000, "small queues", {"most": 8, "ms": 100}),
    )
    outcome = run_once(SCENARIOS["calm"], 1, schedule)
    assert outcome.failure == ""
    happened = {fault.kind for fault in schedule if outcome.sightings.counts[fault.kind]}
    assert happened == {"partition", "crash", "slow disk"}
    assert outcome.sightings.counts["slow disk"] == 1


def test_a_part_of_the_network_that_ends_is_noticed() -> None:
    parts = ("transport", "peers", "relay", "stem", "sync")
    schedule = tuple(
        Fault(8_000 * number, "service cancelled", {"node": number, "service": f"network.{part}"})
        for number, part in enumerate(parts)
    )
    outcome = run_once(SCENARIOS["calm"], 2, schedule)
    assert outcome.failure == ""
    stopped = [event.node for event in outcome.events if event.kind == "failed"]
    assert stopped == [f"node {number}" for number in range(len(parts))]


def test_another_seed_is_another_run() -> None:
    scenario = SCENARIOS["calm"]
    assert run_once(scenario, 1, ()).hash != run_once(scenario, 2, ()).hash
