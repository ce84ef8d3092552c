"""What a miner may expect: coins, times and luck, from a target and a rate.

Coins come one by one, each hash with the same chance whatever came before: their number in a
given time is Poisson-distributed, the wait for the next one exponentially. Pure arithmetic; rates
are in hashes per second, times in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.consensus.params import Network

DAY_S: Final = 86_400.0

INTERVAL: Final = 0.9
"""Probability of the intervals that are shown."""

_TAIL: Final = 12
"""Standard deviations beyond which a Poisson distribution holds less than a double can show."""


@user_text("Coins in some time: the mean, and how few and how many with a probability of 90 %.")
class Expectation(msgspec.Struct, frozen=True, gc=False):
    mean: float
    least: int
    most: int


@user_text(
    """Seconds until the first coin: on average, and within which half and 90 % of miners have it.
    None where there is no rate."""
)
class Wait(msgspec.Struct, frozen=True, gc=False):
    mean_s: float | None
    half_s: float | None
    most_s: float | None


@user_text(
    "Another number of workers; `measured` is false where its hashrate was derived from another's."
)
class Alternative(msgspec.Struct, frozen=True, gc=False):
    workers: int
    hashrate: float
    coins_per_day: float
    measured: bool


@user_text(
    """Found against expected. `ratio` is their quotient, None while nothing was expected;
    `probability` that of finding so many or more if `found` is above the mean, else so many or
    fewer."""
)
class Luck(msgspec.Struct, frozen=True, gc=False):
    expected: float
    found: int
    ratio: float | None
    probability: float


@user_text(
    """What to expect at a target and a rate.

    `network_hashrate` follows from the target: what keeps the schedule of K coins per T. `share`
    is this miner's part of the network, its own hashrate included. `per_epoch` is for the mean
    epoch T. `anchor_per_day` is the chance of at least one anchor in a day.
    """
)
class Advice(msgspec.Struct, frozen=True):
    network: str
    hashrate: float
    workers: int
    hashes_per_coin: float
    network_hashrate: float
    share: float
    per_epoch: Expectation
    per_day: Expectation
    first_coin: Wait
    anchor_per_day: float
    alternatives: tuple[Alternative, ...]
    luck: Luck | None


def coin_chance(target: int) -> float:
    """Return the probability that one hash is a coin (Protocol §3.2)."""
    return (target + 1) / 2**256


def poisson(mean: float, count: int) -> float:
    """Return the probability of exactly `count` events where `mean` are expected."""
    if mean == 0:
        return float(count == 0)
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))


def _span(mean: float) -> tuple[int, int]:
    """Return from where to where the distribution has any weight."""
    reach = _TAIL * math.sqrt(mean) + 4 * _TAIL
    return max(0, math.floor(mean - reach)), math.ceil(mean + reach)


def at_most(mean: float, count: int) -> float:
    """Return the probability of `count` or fewer events where `mean` are expected."""
    first, last = _span(mean)
    if count >= last:
        return 1.0
    weight, total = poisson(mean, first), 0.0
    for k in range(first, count + 1):
        total += weight
        weight *= mean / (k + 1)
    return min(1.0, total)


def at_least(mean: float, count: int) -> float:
    """Return the probability of `count` or more events where `mean` are expected."""
    first, last = _span(mean)
    if count <= first:
        return 1.0
    if count > last:
        return 0.0
    weight, total = poisson(mean, count), 0.0
    for k in range(count, last + 1):
        total += weight
        weight *= mean / (k + 1)
    return min(1.0, total)


def expect(mean: float) -> Expectation:
    """Return the mean and the central interval of 90 %: less, and more, have at most 5 % each."""
    tail = (1 - INTERVAL) / 2
    count, last = _span(mean)
    weight = total = poisson(mean, count)
    least: int | None = None
    while True:
        if least is None and total > tail:
            least = count
        if total >= 1 - tail or count >= last:
            return Expectation(mean, count if least is None else least, count)
        count += 1
        weight *= mean / count
        total += weight


def wait_for_first(coins_per_s: float) -> Wait:
    """Return how long the first coin takes."""
    if coins_per_s <= 0:
        return Wait(None, None, None)
    mean = 1 / coins_per_s
    return Wait(mean, mean * math.log(2), mean * math.log(10))


def luck(expected: float, found: int) -> Luck:
    """Return how found coins compare with the number that the hashes made likely."""
    chance = at_least(expected, found) if found > expected else at_most(expected, found)
    return Luck(expected, found, found / expected if expected > 0 else None, chance)


def network_rate(target: int, network: Network) -> float:
    """Return the hashes per second that keep the schedule: K coins in T (Protocol §7)."""
    return network.coins_per_epoch / (network.epoch_ms / 1000) / coin_chance(target)


def advise(
    network: Network,
    target: int,
    *,
    rate: float,
    workers: int,
    most_workers: int,
    measured: Mapping[int, float] | None = None,
    mining: bool = False,
    expected: float = 0.0,
    found: int | None = None,
) -> Advice:
    """Return what a miner may expect that hashes at `rate` with so many workers.

    `measured` holds rates of other numbers of workers; up to `most_workers` the rest is derived
    from the present one. `mining`: whether the rate is in what the network does already.
    `expected` and `found` are the coins so far; None: nothing mined yet.
    """
    chance = coin_chance(target)
    coins_per_s = rate * chance
    epoch_s = network.epoch_ms / 1000
    on_schedule = network_rate(target, network)
    # A network that is behind its schedule has less; alone, it is all that there is.
    whole = max(on_schedule, rate) if mining else on_schedule + rate
    known = dict(measured or {}) | {workers: rate}
    counts = sorted({*known, *range(1, most_workers + 1)})
    return Advice(
        network=network.name,
        hashrate=rate,
        workers=workers,
        hashes_per_coin=1 / chance,
        network_hashrate=on_schedule,
        share=rate / whole,
        per_epoch=expect(coins_per_s * epoch_s),
        per_day=expect(coins_per_s * DAY_S),
        first_coin=wait_for_first(coins_per_s),
        anchor_per_day=-math.expm1(-coins_per_s * DAY_S / network.coins_per_epoch),
        alternatives=tuple(
            Alternative(
                count,
                other := known.get(count, rate / workers * count),
                other * chance * DAY_S,
                count in known,
            )
            for count in counts
        ),
        luck=None if found is None else luck(expected, found),
    )
