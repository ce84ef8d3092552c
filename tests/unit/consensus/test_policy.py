"""The sums of the relay policy (§8.4) by themselves; the mempool's tests meet every limit."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from unchained.node.consensus.policy import (
    HALVING_MS,
    MAX_REPLACED,
    MIN_FEE_RATE,
    PolicyError,
    check_replacement,
    min_fee_rate,
    raised_rate,
    replacement_fee,
)


class Waiting(NamedTuple):
    fee: int
    size: int


@pytest.mark.parametrize(
    ("size", "conflicts", "more", "fee"),
    [
        (1_000, [Waiting(10_000, 1_000)], [], 12_500),  # a quarter above its rate
        (1_000, [Waiting(10_000, 999)], [], 12_513),  # rounded up
        (1_000, [Waiting(2_000, 1_000)], [], 3_000),  # its fee and one grain per byte
        (1_000, [Waiting(2_000, 1_000)], [Waiting(5_000, 500)], 8_000),  # all that go with it
        (1_000, [Waiting(2_000, 2_000), Waiting(9_000, 1_000)], [], 12_000),
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
    check_replacement(10**9, 1, evicted[:1], evicted[1:])
    with pytest.raises(PolicyError) as caught:
        check_replacement(10**9, 1, evicted[:1], evicted)
    assert caught.value.name == "REPLACEMENT_TOO_CHEAP"


def test_the_minimum_halves_hourly_down_to_one_grain_per_byte() -> None:
    assert raised_rate(2.0, 7.0) == 8.0
    assert raised_rate(20.0, 7.0) == 20.0
    assert min_fee_rate(0.0, 0) == MIN_FEE_RATE
    assert min_fee_rate(8.0, -5) == 8.0
    assert min_fee_rate(8.0, HALVING_MS) == 4.0
    assert min_fee_rate(8.0, 10 * HALVING_MS) == MIN_FEE_RATE
