"""Simulations that failed once: each file beside this one holds from now on.

A recording is what `scripts/simulate` wrote of a failure, moved here once it is mended.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.framework.simulation.command import run_once
from tests.framework.simulation.recording import load

RECORDINGS = sorted(Path(__file__).parent.glob("*.json"))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_failure_does_not_come_back(path: Path) -> None:
    recording = load(path)
    outcome = run_once(recording.scenario(), recording.seed, recording.schedule)
    assert outcome.failure == ""
