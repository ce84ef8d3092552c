"""Amounts in UNC, as people write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchained.node.primitives.amounts import AMOUNT_PATTERN, full, grains_of, shortest
from unchained.node.primitives.types import MAX_AMOUNT


@given(st.integers(0, MAX_AMOUNT))
def test_both_forms_are_read_back(grains: int) -> None:
    for text in (full(grains), shortest(grains)):
        assert grains_of(text) == grains
        assert re.search(AMOUNT_PATTERN, text)


@given(st.text("0123456789.+-e ", max_size=14))
def test_the_pattern_in_schemas_is_the_reader(text: str) -> None:
    try:
        grains_of(text)
    except ValueError as error:
        above = "is too large" in str(error)
        assert above or re.search(AMOUNT_PATTERN, text) is None
    else:
        assert re.search(AMOUNT_PATTERN, text)


@pytest.mark.parametrize(
    ("grains", "short", "long"),
    [(0, "0", "0.00000000"), (10**9, "10", "10.00000000"), (-1, "-0.00000001", "-0.00000001")],
)
def test_forms(grains: int, short: str, long: str) -> None:
    assert (shortest(grains), full(grains)) == (short, long)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "21000000000000",
            "21000000000000 UNC is too large: expected at most 92233720368.54775807",
        ),
        ("92233720368.54775808", "is too large"),
        ("9" * 5_000, "9… UNC is too large"),
        ("1.123456789", "is no amount"),
        ("0123", "is no amount"),
        ("1e3", "is no amount"),
    ],
)
def test_an_amount_that_is_too_large_is_called_that(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        grains_of(text)
    assert len(str(caught.value)) < 160
