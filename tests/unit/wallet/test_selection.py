"""Which coins a payment spends."""

from __future__ import annotations

import random

import pytest

from unchained.node.primitives.types import CoinId
from unchained.node.wallet.errors import ConsolidationNeededError, InsufficientFundsError
from unchained.node.wallet.selection import Candidate, Selection, SelectionCosts, select

COSTS = SelectionCosts(bare=100, per_input=10, change=50, waste=60, least=20, max_inputs=16)


def coins(*values: int) -> list[Candidate]:
    made = [(CoinId(at.to_bytes(32, "big")), value) for at, value in enumerate(values)]
    return sorted(made, key=lambda coin: -coin[1])


def choose(amount: int, *values: int, costs: SelectionCosts = COSTS) -> Selection:
    return select(amount, coins(*values), coins(*values), costs)


def test_finds_coins_that_need_no_change() -> None:
    # 300 + 100 for the transfer + 2 * 10 for the inputs
    found = choose(300, 1_000, 220, 200, 500)
    assert found.total == 420
    assert found.change == 0


def test_takes_the_largest_first_otherwise() -> None:
    found = choose(300, 2_000, 900, 100)
    assert found.total == 2_000
    assert found.change == 2_000 - 300 - 100 - 10 - 50


def test_change_below_the_least_joins_the_fee_or_another_coin() -> None:
    found = choose(300, 300 + 100 + 10 + 60)
    assert (found.change, found.total) == (0, 470)
    found = choose(300, 300 + 100 + 10 + 65, 300)
    assert found.change >= COSTS.least


def test_says_what_is_missing() -> None:
    with pytest.raises(InsufficientFundsError) as caught:
        choose(300, 100, 100)
    assert (caught.value.needed, caught.value.available) == (420, 200)
    with pytest.raises(InsufficientFundsError):
        select(300, [], [], COSTS)


def test_says_when_the_coins_are_too_small() -> None:
    with pytest.raises(ConsolidationNeededError):
        choose(1_000, *[50] * 40)


def test_many_equal_coins_end_the_search_at_once() -> None:
    found = choose(100_000, *[10_000] * 1_000, costs=SelectionCosts(100, 10, 50, 60, 20, 1_024))
    assert len(found.coins) == 11


def test_an_exact_fee_is_met_exactly() -> None:
    exact = SelectionCosts(bare=500, per_input=0, change=0, waste=0, least=1_000, max_inputs=16)
    assert choose(1_000, 700, 800, 5_000, costs=exact).change == 0
    assert choose(1_000, 5_000, costs=exact).change == 3_500
    with pytest.raises(InsufficientFundsError):
        choose(1_000, 1_600, costs=exact)


@pytest.mark.parametrize("seed", range(50))
def test_pays_in_full_whatever_there_is(seed: int) -> None:
    rng = random.Random(seed)
    values = [rng.randrange(1, 10_000) for _ in range(rng.randrange(1, 60))]
    amount = rng.randrange(1, 20_000)
    costs = SelectionCosts(100, 10, 50, 60, 20, 1_024)
    try:
        found = choose(amount, *values, costs=costs)
    except InsufficientFundsError:
        assert sum(values) < amount + 100 + 10 * len(values) + 70
        return
    by_id = dict(coins(*values))
    assert len(set(found.coins)) == len(found.coins)
    assert sum(by_id[coin] for coin in found.coins) == found.total
    fee = found.total - amount - found.change
    least = 100 + 10 * len(found.coins)
    if found.change:
        assert fee == least + 50
        assert found.change >= 20
    else:
        assert least <= fee <= least + 60
