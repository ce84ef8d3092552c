from __future__ import annotations

import pytest

from unchained.node.base.number_words import between, duration


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (None, None, ""),
        (1, None, "at least 1"),
        (None, 604_800.0, "at most 604800"),
        (0.1, 60, "0.1 to 60"),
        (0, 2**31, "0 to 2147483648"),
    ],
)
def test_bounds_are_told_in_words(low: float | None, high: float | None, said: str) -> None:
    assert between(low, high) == said


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(999, "999 ms"), (65_000, "1 min 5 s"), (769_107_000, "8 d 21 h"), (3_600_000, "1 h 0 min")],
)
def test_a_duration_has_its_two_largest_units(ms: int, shown: str) -> None:
    assert duration(ms) == shown
