"""How often a private branch undoes a payment where messages take no time, by arithmetic alone.

What simulations are checked against: nothing of the product and no luck is in here. The attacker is
`Racer` with none of its options but the bait, and never gives up.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from unchained.node.consensus.params import MAIN

Values = NDArray[np.float64]
"""A probability for each lead from LEAST to MOST, in coins that count once: a vote counts twice."""

LEAST: Final = -320
MOST: Final = 480
STEPS: Final = 1_500
"""Coins after which a game that has not ended has no part in any sum that can be seen."""


def undone(share: float, votes: int, bait: bool = False) -> float:
    """Return how often a payment is undone after so many votes, of those that are made."""
    part = 1 / MAIN.coins_per_epoch
    raced = _raced(share, votes)
    hoarded = _hoarded(share, raced)
    if bait:
        # Each coin before the bait is one that it leaves out.
        return _after_coins(hoarded, part)
    # Coins of others before the first anchor are listed by both: only its own change the lead.
    ends = part / (part + share * (1 - part))
    first = (1 - share) * hoarded + share * _ahead(share, raced[-1])
    return _after_coins(first, ends)


def _after_coins(values: Values, ends: float) -> float:
    """Return the value after as many coins as come before one that ends it."""
    from_none = values[-LEAST:]
    return float(sum(from_none * ends * (1 - ends) ** np.arange(len(from_none))))


def _moved(values: Values, step: int) -> Values:
    """Return the values after a step of the lead; from the greatest on nothing changes any more."""
    leads = np.arange(LEAST, MOST + 1) + step
    moved: Values = values[np.minimum(leads, MOST) - LEAST]
    moved[leads < LEAST] = 0.0
    return moved


def _raced(share: float, votes: int) -> list[Values]:
    """Return the values while both branches are voted for, when 0, 1, … votes are still to come."""
    odds = share / (1 - share)
    leads = np.arange(LEAST, MOST + 1)
    # A gambler's ruin, of so many votes; at no lead the lower id decides.
    short = np.maximum(0, (1 - leads) // 2)
    caught = odds**short
    caught[leads % 2 == 0] *= (1 + odds) / 2
    found = [np.where(leads > 0, 1.0, caught)]
    for _ in range(votes):
        less = _moved(found[-1], -2)
        now = np.ones_like(less)
        for at in range(len(now) - 3, -1, -1):
            now[at] = share * now[at + 2] + (1 - share) * less[at]
        found.append(now)
    return found


def _hoarded(share: float, raced: list[Values]) -> Values:
    """Return the values when the payment has come, and the attacker has no anchor yet."""
    part = 1 / MAIN.coins_per_epoch
    hoards, wins, loses = share * (1 - part), share * part, 1 - share
    values = np.zeros_like(raced[0])
    for _ in range(STEPS):
        values = wins * raced[0] + hoards * _moved(values, 1) + loses * _moved(values, -2)
    for game in raced[1:]:
        less = _moved(values, -2)
        values = game.copy()
        for at in range(len(values) - 2, -1, -1):
            values[at] = wins * game[at] + hoards * values[at + 1] + loses * less[at]
    return values


def _ahead(share: float, raced: Values) -> Values:
    """Return the values when the attacker has an anchor, and nobody else has one yet."""
    part = 1 / MAIN.coins_per_epoch
    values = np.zeros_like(raced)
    for _ in range(STEPS):
        values = share * _moved(values, 2) + (1 - share) * (
            part * raced + (1 - part) * _moved(values, -1)
        )
    return values
