"""The sums and limits of the relay policy (§8.4) by themselves, as numbers of the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.framework.forge import Forge
from unchained.node.consensus.policy import (
    CAPACITY,
    EXPIRY_MS,
    HALVING_MS,
    MAX_REPLACED,
    MIN_FEE_RATE,
    PolicyError,
    check_ancestors,
    check_descendants,
    check_dust,
    check_fee_rate,
    check_replacement,
    min_fee_rate,
    raised_rate,
    replacement_fee,
)


class Waiting(NamedTuple):
    fee: int
    size: int


def refused(check: Callable[[], None]) -> str:
    """Return by which name a check refuses, empty if it does not."""
    try:
        check()
    except PolicyError as error:
        return error.name
    return ""


def test_outputs_under_a_thousand_grains_are_not_relayed() -> None:
    forge = Forge()

    def name_of(*values: int) -> str:
        spent = [(forge.genesis.id, 0)]
        sized = forge.transfer(spent, [(value, 0) for value in values], sign=False)
        return refused(lambda: check_dust(sized))

    assert name_of(1_000) == ""
    assert name_of(999) == "DUST"
    assert name_of(5_000, 1_000) == ""
    assert name_of(5_000, 999) == "DUST"
    assert name_of(999, 5_000) == "DUST"


def test_the_minimum_is_a_grain_for_each_byte() -> None:
    assert MIN_FEE_RATE == 1
    assert refused(lambda: check_fee_rate(1_000, 1_000, MIN_FEE_RATE)) == ""
    assert refused(lambda: check_fee_rate(999, 1_000, MIN_FEE_RATE)) == "FEE_TOO_LOW"
    assert refused(lambda: check_fee_rate(2_500, 1_000, 2.5)) == ""
    assert refused(lambda: check_fee_rate(2_499, 1_000, 2.5)) == "FEE_TOO_LOW"


def test_a_refused_fee_is_told_what_would_do() -> None:
    with pytest.raises(PolicyError, match="at least 2503 grains, got 2499"):
        check_fee_rate(2_499, 1_001, 2.5)  # 2,502.5 grains
    check_fee_rate(2_503, 1_001, 2.5)


def test_at_most_25_build_on_one_another() -> None:
    assert refused(lambda: check_ancestors(25)) == ""
    assert refused(lambda: check_ancestors(26)) == "TOO_MANY_ANCESTORS"
    assert refused(lambda: check_descendants(25)) == ""
    assert refused(lambda: check_descendants(26)) == "TOO_MANY_DESCENDANTS"


def test_the_other_numbers_of_the_text() -> None:
    assert MAX_REPLACED == 100
    assert CAPACITY == 67_108_864  # 64 MiB
    assert EXPIRY_MS == 259_200_000  # 72 h
    assert HALVING_MS == 3_600_000


@pytest.mark.parametrize(
    ("size", "conflicts", "more", "fee"),
    [
        (1_000, [Waiting(10_000, 1_000)], [], 12_500),  # a quarter above its rate
        (1_000, [Waiting(10_000, 999)], [], 12_513),  # rounded up
        (1_000, [Waiting(2_000, 1_000)], [], 3_000),  # its fee and one grain per byte
        (1_000, [Waiting(2_000, 1_000)], [Waiting(5_000, 500)], 8_000),  # all that go with it
        (1_000, [Waiting(2_000, 2_000), Waiting(9_000, 1_000)], [], 12_000),
        (1_000, [Waiting(8_003, 1_000)], [], 10_004),  # 10,003.75
        (1_000, [Waiting(4_000, 1_000)], [], 5_000),  # both come to the same
    ],
)
def test_the_least_fee_of_a_replacement(
    size: int, conflicts: list[Waiting], more: list[Waiting], fee: int
) -> None:
    evicted = [*conflicts, *more]
    assert replacement_fee(size, conflicts, evicted) == fee
    check_replacement(fee, size, conflicts, evicted)
    with pytest.raises(PolicyError) as caught:
        check_replacement(fee - 1, size, conflicts, evicted)
    assert caught.value.name == "REPLACEMENT_TOO_CHEAP"


def test_a_replacement_evicts_no_more_than_a_hundred() -> None:
    evicted = [Waiting(1, 1)] * (MAX_REPLACED + 1)
    check_replacement(10**9, 1, evicted[:1], evicted[1:])  # a hundred
    with pytest.raises(PolicyError) as caught:
        check_replacement(10**9, 1, evicted[:1], evicted)
    assert caught.value.name == "REPLACEMENT_TOO_CHEAP"


def test_the_minimum_halves_hourly_down_to_one_grain_per_byte() -> None:
    assert raised_rate(2.0, 7.0) == 8.0
    assert raised_rate(20.0, 7.0) == 20.0
    assert min_fee_rate(0.0, 0) == MIN_FEE_RATE
    assert min_fee_rate(1.5, 0) == 1.5
    assert min_fee_rate(8.0, 0) == 8.0
    assert min_fee_rate(8.0, -5) == 8.0
    assert min_fee_rate(8.0, HALVING_MS // 2) == pytest.approx(8 / 2**0.5)
    assert min_fee_rate(8.0, HALVING_MS) == 4.0
    assert min_fee_rate(8.0, 10 * HALVING_MS) == MIN_FEE_RATE
