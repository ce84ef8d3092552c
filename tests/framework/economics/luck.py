"""Luck that leans towards rare courses of events, and knows how likely they were without it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from math import exp, log, sqrt
from typing import Final, NamedTuple

from tests.framework.economics.world import World
from unchained.node.consensus.params import MAIN

PART: Final = 1 / MAIN.coins_per_epoch
"""Of the coins are anchors."""

SELDOM: Final = 0.3
"""Of the anchors that would end an epoch come at most, where luck leans."""


class Odds(NamedTuple):
    """How coins are drawn: the attacker's share of them, and how many times as often as usual
    others' coins and its own are anchors."""

    share: float
    others: float = 1.0
    own: float = 1.0


class Leaning(NamedTuple):
    """How luck leans towards a payment that is undone after so many votes. Once it is, it leans no
    more."""

    votes: int
    hoarding: Odds
    """Before the payment."""
    ahead: Odds
    """Before the payment, while the attacker mines on an anchor of its own."""
    unarmed: Odds
    """From the payment on, while it mines on the root."""
    racing: Odds
    """From then on, while it mines on an anchor of its own."""
    late: tuple[Odds, Odds]
    """Once so many votes have come: on the root, and on an anchor of its own."""


def leanings(
    share: float,
    depths: Sequence[int],
    *,
    returns: bool = False,
    bait: bool = False,
    discounts: bool = False,
) -> list[Leaning]:
    """Return no leaning, and for each number of votes the likeliest way to undo a payment."""
    even = Odds(share)
    ways = (_likeliest(share, one, returns, bait, discounts) for one in depths)
    return [Leaning(0, even, even, even, even, (even, even)), *ways]


def _likeliest(share: float, depth: int, returns: bool, bait: bool, discounts: bool) -> Leaning:
    """Return the likeliest way to undo so many votes, by large deviations.

    Two things cost probability: a long epoch before the payment, in which each coin that the
    attacker hoards is worth half a vote (each coin at all if it baits); and a greater share of the
    coins after it. What the likeliest way costs is the least sum of both. A coin that takes the
    attacker forward is then drawn as many times oftener as it takes it forward.
    """
    usual = share / (1 - share)
    steps = [share + (0.6 - share) * step / 200 for step in range(200)]

    def lasting(tilt: float) -> float:
        """Return what it costs that a coin does not end the epoch: an attacker that does not need
        its anchors for something else lets them pass."""
        ending = PART * (1 - tilt) if returns or bait else PART
        return _cost(tilt, share) - log(1 - ending)

    def gain(tilt: float) -> float:
        """Return by how many votes a coin before the payment takes it forward."""
        if not bait:
            return tilt / 2
        # Where the payee discounts, each coin of others has it wait for one vote more.
        return 0.5 - (1 - tilt) * (1 - usual) if discounts else 0.5

    before = min((one for one in steps if gain(one) > 0), key=lambda one: lasting(one) / gain(one))
    a_vote = lasting(before) / gain(before)

    def behind(tilt: float) -> float:
        """Return how many votes it falls back after the payment for each that comes."""
        return 1 - tilt / (1 - tilt)

    after = min(
        (tilt for tilt in steps if tilt < 0.5),
        key=lambda tilt: _cost(tilt, share) / (1 - tilt) + a_vote * behind(tilt),
    )
    coins = depth * behind(after) / gain(before)
    # Epochs longer than the likeliest have their part: they must not be so rare that one that comes
    # weighs more than all others.
    kept = min(SELDOM, 1 / (PART * coins))
    hoarding = Odds(before, kept, 1.0 if returns else kept)
    if bait:
        # The attacker's own anchor is to end the epoch.
        hoarding = Odds(before, 0.05, min(1.0, 1 / (PART * before * coins)))
    # Ahead of the payment each coin of others takes back half a vote.
    plain = (1 - share) * (1 - PART) * exp(-a_vote / 2)
    ends = max((1 - after - plain) / (1 - after) / PART, kept)
    # Who is behind comes back likeliest as if the shares were the other way round.
    back = 1 - share
    return Leaning(
        depth,
        hoarding,
        Odds(after, min(1.0, ends)),
        Odds(after, own=_arming(exp(-a_vote / 2))),
        Odds(after),
        (Odds(back, own=_arming(sqrt(usual))), Odds(back)),
    )


def _arming(worth: float) -> float:
    """Return how many times as often as usual a coin of the attacker on the root is an anchor,
    where one that is none is worth so much of a vote."""
    return (1 - (1 - PART) * worth) / PART


def _cost(tilt: float, share: float) -> float:
    """Return what it costs that a coin is the attacker's by `tilt` instead of by its share: the
    relative entropy, in nats."""
    return tilt * log(tilt / share) + (1 - tilt) * log((1 - tilt) / (1 - share))


class Luck:
    """Draws coins as one of several leanings has it, and knows how likely all had them.

    What comes out is weighed by its likelihood without a leaning, over the mean of that with each
    (importance sampling from a mixture: Veach, Guibas 1995): no weight exceeds their number. How
    they lean may hang on all that has happened.
    """

    def __init__(
        self, world: World, share: float, among: Sequence[Leaning], chosen: int, ripe: int = 0
    ) -> None:
        """`ripe`: how many coins come before the first anchor may."""
        self._world = world
        self._share = share
        self._among = among
        self._chosen = chosen
        self._ripening = ripe
        self._ratios = [1.0] * len(among)
        self._most = world.network.target0
        self._grade = world.network.grade_target(self._most)
        self.is_paid = False
        self.is_armed = False
        """Whether the attacker mines on an anchor of its own."""
        self.votes = 0.0
        """That the payment has."""
        self.undone: Collection[int] = ()
        """Numbers of votes after which it was undone."""

    @property
    def weight(self) -> float:
        return len(self._ratios) / math.fsum(self._ratios)

    def draw(self) -> tuple[int, int]:
        """Return who has found the next coin, and its id."""
        rng, honest = self._world.rng, len(self._world.miners) - 1
        odds = self._now(self._among[self._chosen])
        mine = rng.random() < odds.share
        settled = self._ripening > 0
        is_anchor = not settled and rng.random() < PART * (odds.own if mine else odds.others)
        for at, leaning in enumerate(self._among):
            odds = self._now(leaning)
            drawn = odds.share / self._share if mine else (1 - odds.share) / (1 - self._share)
            if not settled:
                times = odds.own if mine else odds.others
                drawn *= times if is_anchor else (1 - times * PART) / (1 - PART)
            self._ratios[at] *= drawn
        self._ripening -= settled
        number = (
            rng.randrange(self._grade + 1)
            if is_anchor
            else rng.randrange(self._grade + 1, self._most)
        )
        return honest if mine else rng.randrange(honest), number

    def _now(self, leaning: Leaning) -> Odds:
        if not self.is_paid:
            return leaning.ahead if self.is_armed else leaning.hoarding
        if leaning.votes in self.undone:
            return self._among[0].racing
        if self.votes >= leaning.votes:
            return leaning.late[self.is_armed]
        return leaning.racing if self.is_armed else leaning.unarmed
