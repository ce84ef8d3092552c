"""Inputs that a decoder or a program failed on once: each file beside this one holds from now on.

A `.fuzzed` file is what `scripts/fuzz` wrote of a failure, moved here once it is mended.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.failures import load
from tests.fuzz.targets import all_targets

FAILURES = sorted(Path(__file__).parent.glob("*.fuzzed"))


@pytest.mark.parametrize("path", FAILURES, ids=lambda path: path.stem)
def test_a_failure_does_not_come_back(path: Path) -> None:
    target, raw = load(path, all_targets())
    target.check(raw)
