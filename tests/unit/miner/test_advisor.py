"""What a miner may expect, against exact sums."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from unchained.miner.advisor import (
    DAY_S,
    Wait,
    advise,
    at_least,
    at_most,
    coin_chance,
    expect,
    luck,
    network_rate,
    poisson,
    wait_for_first,
)
from unchained.node.consensus.params import LOCAL, MAIN


def exact(mean: Fraction, count: int) -> float:
    """The sum of the first terms, exactly but for the one factor that is no fraction."""
    total = sum((mean**k / math.factorial(k) for k in range(count + 1)), Fraction(0))
    return float(total) * math.exp(-mean)


@pytest.mark.parametrize("mean", [Fraction(1, 1000), Fraction(1, 3), Fraction(4), Fraction(60)])
def test_sums_are_those_of_the_distribution(mean: Fraction) -> None:
    for count in range(int(mean) * 2 + 5):
        assert at_most(float(mean), count) == pytest.approx(exact(mean, count), rel=1e-9)
        above = 1 - (exact(mean, count - 1) if count else 0.0)
        assert at_least(float(mean), count) == pytest.approx(above, rel=1e-6, abs=1e-12)
    assert sum(poisson(float(mean), k) for k in range(300)) == pytest.approx(1)


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.06, 1.0, 4.0, 17.5, 300.0, 43_200.0, 1e7])
def test_an_interval_leaves_at_most_five_percent_on_either_side(mean: float) -> None:
    found = expect(mean)
    assert found.mean == mean
    assert found.least <= mean <= found.most or mean < 1
    assert at_most(mean, found.most) >= 0.95 - 1e-9
    assert found.most == 0 or at_most(mean, found.most - 1) < 0.95
    assert found.least == 0 or at_most(mean, found.least - 1) <= 0.05 + 1e-9
    assert at_most(mean, found.least) > 0.05


def test_a_known_interval() -> None:
    # P(X <= 0) = 0.0183, P(X <= 1) = 0.0916; P(X <= 7) = 0.9489, P(X <= 8) = 0.9786.
    assert (expect(4.0).least, expect(4.0).most) == (1, 8)


def test_far_from_the_mean_nothing_overflows() -> None:
    assert at_most(1e6, 0) == 0.0
    assert at_most(1e6, 2_000_000) == 1.0
    assert at_least(1e6, 2_000_000) == 0.0
    assert at_least(1e6, 0) == 1.0
    assert at_least(0.0, 1) == 0.0
    assert at_most(0.0, 0) == 1.0


def test_the_wait_for_the_first_coin_is_exponential() -> None:
    wait = wait_for_first(0.5)
    assert wait.mean_s == 2
    assert wait.half_s is not None
    assert wait.most_s is not None
    assert 1 - math.exp(-0.5 * wait.half_s) == pytest.approx(0.5)
    assert 1 - math.exp(-0.5 * wait.most_s) == pytest.approx(0.9)
    assert wait_for_first(0) == Wait(None, None, None)


def test_a_network_on_schedule_finds_k_coins_in_t() -> None:
    rate = network_rate(MAIN.target0, MAIN)
    # 2**12 hashes a coin, 16 coins in 120 s.
    assert rate == pytest.approx(4096 * 16 / 120)
    advice = advise(MAIN, MAIN.target0, rate=rate, workers=2, most_workers=4, mining=True)
    assert advice.share == pytest.approx(1)
    assert advice.per_epoch.mean == pytest.approx(MAIN.coins_per_epoch)
    assert advice.per_day.mean == pytest.approx(16 * DAY_S / 120)
    assert advice.hashes_per_coin == pytest.approx(4096)
    assert advice.anchor_per_day == pytest.approx(1)
    assert advice.luck is None


def test_whoever_joins_adds_to_the_network_and_whoever_is_faster_than_it_is_all_of_it() -> None:
    rate = network_rate(MAIN.target0, MAIN)
    joining = advise(MAIN, MAIN.target0, rate=rate, workers=1, most_workers=1)
    assert joining.share == pytest.approx(0.5)
    alone = advise(LOCAL, LOCAL.target0, rate=1e9, workers=1, most_workers=1, mining=True)
    assert alone.share == 1


def test_other_numbers_of_workers() -> None:
    advice = advise(
        MAIN, MAIN.target0, rate=100, workers=2, most_workers=4, measured={1: 60, 8: 150}
    )
    assert [(a.workers, a.hashrate, a.measured) for a in advice.alternatives] == [
        (1, 60, True),
        (2, 100, True),
        (3, 150, False),
        (4, 200, False),
        (8, 150, True),
    ]
    assert advice.alternatives[1].coins_per_day == pytest.approx(advice.per_day.mean)


def test_the_chance_of_an_anchor() -> None:
    # So slow that one anchor in ten days is to be expected.
    rate = MAIN.coins_per_epoch / coin_chance(MAIN.target0) / DAY_S / 10
    advice = advise(MAIN, MAIN.target0, rate=rate, workers=1, most_workers=1)
    assert advice.anchor_per_day == pytest.approx(1 - math.exp(-0.1))


def test_without_a_rate_nothing_is_expected() -> None:
    advice = advise(MAIN, MAIN.target0, rate=0.0, workers=1, most_workers=2)
    assert advice.per_day == expect(0.0)
    assert (advice.per_day.least, advice.per_day.most) == (0, 0)
    assert advice.first_coin.mean_s is None
    assert advice.share == 0


def test_luck() -> None:
    good = luck(4.0, 8)
    assert good.ratio == 2
    assert good.probability == pytest.approx(1 - exact(Fraction(4), 7))
    bad = luck(4.0, 1)
    assert bad.probability == pytest.approx(exact(Fraction(4), 1))
    assert luck(0.0, 0).ratio is None
    advice = advise(MAIN, MAIN.target0, rate=1, workers=1, most_workers=1, expected=4.0, found=8)
    assert advice.luck == good
