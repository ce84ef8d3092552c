"""The difficulty rule against exact rationals, and its distance from a true power (Protocol §7)."""

from __future__ import annotations

import random
from decimal import Decimal, localcontext

import msgspec
import pytest

from tests.framework.slow import SlowNetwork, slow_child_target, slow_exponent
from unchained.node.consensus.difficulty import child_target
from unchained.node.consensus.params import LOCAL, MAIN, REG, TEST, Network

RETARGETING = [MAIN, TEST, LOCAL]

# Over all 65,536 fractions aserti3-2d's cubic, rounded, is 9.1e-5 too low to 1.18e-4 too high; an
# exponent cut to 16 bits makes it up to 1.06e-5 lower.
ERROR_BOUND = Decimal("1.2e-4")


def slow(network: Network) -> SlowNetwork:
    return SlowNetwork(
        network.target0,
        network.max_target,
        network.epoch_ms,
        network.coins_per_epoch,
        network.tau_ms,
    )


def cases(network: Network, count: int, *, doublings: int) -> list[tuple[int, int]]:
    """Pairs of elapsed_ms and N whose exponents are spread over +-doublings."""
    rng = random.Random(network.chain_id)
    found: list[tuple[int, int]] = []
    while len(found) < count:
        n = rng.getrandbits(rng.choice([1, 8, 20]))
        scheduled = n * network.epoch_ms // network.coins_per_epoch
        elapsed = scheduled + rng.randint(-doublings * network.tau_ms, doublings * network.tau_ms)
        if elapsed >= 0:
            found.append((elapsed, n))
    return found


def target_of(network: Network, elapsed_ms: int, n: int) -> int:
    return child_target(network, anchor_height=1, elapsed_ms=elapsed_ms, n=n)


@pytest.mark.parametrize("network", RETARGETING, ids=lambda network: network.name)
@pytest.mark.parametrize("doublings", [3, 300])
def test_equals_exact_rationals(network: Network, doublings: int) -> None:
    for elapsed_ms, n in cases(network, 200, doublings=doublings):
        expected = slow_child_target(slow(network), elapsed_ms, n)
        assert target_of(network, elapsed_ms, n) == expected


@pytest.mark.parametrize("network", RETARGETING, ids=lambda network: network.name)
def test_stays_near_the_true_power(network: Network) -> None:
    compared = 0
    with localcontext(prec=80):
        for elapsed_ms, n in cases(network, 300, doublings=20):
            exponent = slow_exponent(slow(network), elapsed_ms, n)
            power = Decimal(exponent.numerator) / Decimal(exponent.denominator)
            exact = Decimal(network.target0) * Decimal(2) ** power
            if exact < network.max_target:
                error = Decimal(target_of(network, elapsed_ms, n)) / exact - 1
                assert abs(error) < ERROR_BOUND
                compared += 1
    assert compared > 50


@pytest.mark.parametrize("network", RETARGETING, ids=lambda network: network.name)
def test_never_falls_as_time_passes_and_never_rises_as_coins_come(network: Network) -> None:
    step = network.tau_ms // 37
    at_times = [target_of(network, step * tick, 5_000) for tick in range(400)]
    assert at_times == sorted(at_times)
    at_coins = [target_of(network, 10 * network.tau_ms, n) for n in range(0, 4_000, 7)]
    assert at_coins == sorted(at_coins, reverse=True)


@pytest.mark.parametrize("network", RETARGETING, ids=lambda network: network.name)
def test_on_schedule_the_target_stays(network: Network) -> None:
    for epochs in (0, 1, 1_000_000):
        elapsed_ms = epochs * network.epoch_ms
        n = epochs * network.coins_per_epoch
        assert target_of(network, elapsed_ms, n) == network.target0


@pytest.mark.parametrize("network", [MAIN, TEST, LOCAL, REG], ids=lambda network: network.name)
def test_children_of_genesis(network: Network) -> None:
    target = child_target(network, anchor_height=0, elapsed_ms=10**12, n=0)
    assert target == network.target0


def test_no_retarget_where_tau_is_zero() -> None:
    assert target_of(REG, 10**12, 1) == REG.target0


def test_clamps() -> None:
    for lags in (5, 255, 256, 257, 10_000):
        assert target_of(MAIN, lags * MAIN.tau_ms, 0) == MAIN.max_target
    for leads in (245, 255, 256, 257, 10_000):
        n = leads * MAIN.tau_ms * MAIN.coins_per_epoch // MAIN.epoch_ms
        assert target_of(MAIN, 0, n) == 1


ONE_BY_ONE = msgspec.structs.replace(
    MAIN, coins_per_epoch=1, tau_ms=65_536, target0=2**255, max_target=2**256 - 1
)
"""A network whose exponent e is the milliseconds that it is behind, so that any e can be had."""


def test_the_cubic_is_rounded_as_the_text_has_it() -> None:
    """Where rounding is closest to going the other way: one unit more or less would show there."""
    network = msgspec.structs.replace(ONE_BY_ONE, target0=2**200)

    def distance(fraction: int) -> int:
        cubic = 195_766_423_245_049 * fraction + 971_821_376 * fraction**2 + 5_127 * fraction**3
        return -abs((cubic + 2**47) % 2**48 - 2**47)

    for fraction in sorted(range(65_536), key=distance)[:300]:
        expected = slow_child_target(slow(network), fraction, 0)
        assert target_of(network, fraction, 0) == expected


def test_from_which_shift_on_the_target_is_clamped_at_once() -> None:
    """ "s > 255: MAX_TARGET;  s < -255: 1", whatever the first target is."""
    least = msgspec.structs.replace(ONE_BY_ONE, target0=1)
    for fraction in (0, 1, 65_535):
        upper = (255 << 16) + fraction
        assert target_of(least, upper, 0) == slow_child_target(slow(least), upper, 0)
    assert target_of(least, 255 << 16, 0) == 2**255 < least.max_target
    assert target_of(least, 256 << 16, 0) == least.max_target
    most = msgspec.structs.replace(ONE_BY_ONE, target0=2**256 - 1, epoch_ms=1)
    # -255 doublings and the greatest fraction: 3; one doubling less: 1.
    assert target_of(most, 0, (255 << 16) - 65_535) == 3
    assert target_of(most, 0, 255 << 16) == 1
    assert target_of(most, 0, (255 << 16) + 1) == 1
