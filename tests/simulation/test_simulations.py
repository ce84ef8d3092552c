"""Whole simulations: the fixed set, fresh seeds, and that a seed decides everything.

A failure is cut down and kept as a file; moved to `tests/regressions` that is a test.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests.framework.simulation.command import (
    SHRINK_TRIES,
    keep_failure,
    run_once,
    tell,
    tell_failure,
)
from tests.framework.simulation.scenario import SCENARIOS
from tests.framework.simulation.schedule import draw_schedule
from tests.framework.simulation.sightings import FAULTS, STATES, Sightings

FIXED = (
    ("main", 88),
    ("shallow", 12),
    ("shallow", 65),
    ("deep", 40),
    ("siege", 6),
    ("weather", 16),
    ("wallets", 2),
    ("storm", 21),
    ("siege", 39),
    ("storm", 6),
    ("hostile", 1),
    ("disks", 36),
    ("main", 203),
)
"""Scenarios and seeds that every run has, so that each kind of fault and each state of interest is
there each time."""

COMMAND = "tests.framework.simulation.command"

FRESH_SCENARIOS = ("storm", "weather", "disks", "wallets", "deep", "siege", "main")
FRESH = int(os.environ.get("UNCHAINED_FRESH_SIMULATIONS", "4"))
"""Simulations with seeds that nobody has seen before."""
TRIES = int(os.environ.get("UNCHAINED_SHRINK_TRIES", str(SHRINK_TRIES)))
"""Runs that cutting a failure down may take."""


def assert_holds(name: str, seed: int) -> Sightings:
    """Run a simulation; fail with what it takes to see the failure again."""
    scenario = SCENARIOS[name]
    outcome = run_once(scenario, seed, draw_schedule(scenario, seed))
    print(tell(outcome))
    if outcome.failure:
        pytest.fail(tell_failure(*keep_failure(outcome, tries=TRIES)), pytrace=False)
    return outcome.sightings


def test_the_fixed_set_holds_and_meets_every_fault_and_state() -> None:
    seen = Sightings()
    for name, seed in FIXED:
        seen.add(assert_holds(name, seed))
    print(sorted(seen.counts.items()))
    assert seen.never(FAULTS) == []
    assert seen.never(STATES) == []


@pytest.mark.parametrize("number", range(FRESH))
def test_a_fresh_seed_holds(number: int) -> None:
    seed = random.SystemRandom().randrange(2**31)
    assert_holds(FRESH_SCENARIOS[number % len(FRESH_SCENARIOS)], seed)


@pytest.mark.parametrize(("name", "seed"), [("wallets", 5), ("storm", 11)])
def test_one_seed_is_one_run_in_any_process(name: str, seed: int) -> None:
    hashes = [
        subprocess.run(
            [sys.executable, "-m", COMMAND, name, "--seed", str(seed), "--hash"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert len(set(hashes)) == 1
    assert len(hashes[0].strip()) == 64


def test_another_seed_is_another_run() -> None:
    scenario = SCENARIOS["calm"]
    assert run_once(scenario, 1, ()).hash != run_once(scenario, 2, ()).hash
