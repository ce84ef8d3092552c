from __future__ import annotations

import pytest

from unchained.node.base.number_words import between


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
