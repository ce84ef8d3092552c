from __future__ import annotations

import pytest

from unchained.node.base.number_words import between, duration, number_of


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


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((0, "coin"), "0 coins"),
        ((1, "coin"), "1 coin"),
        ((1_234, "coin"), "1,234 coins"),
        ((1, "entry", "entries"), "1 entry"),
        ((2, "entry", "entries"), "2 entries"),
    ],
)
def test_one_thing_is_told_as_one(words: tuple[int, str], shown: str) -> None:
    assert number_of(*words) == shown
