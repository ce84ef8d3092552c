"""What the attackers do that undo payments: coins are found by hand."""

from __future__ import annotations

from itertools import count

import pytest

from tests.framework.economics.balance import Balancer
from tests.framework.economics.luck import Luck, leanings
from tests.framework.economics.race import Attempt, Racer
from tests.framework.economics.scores import shipping
from tests.framework.economics.shared import Parameters, network_of
from tests.framework.economics.world import Miner, World

SHARE = 0.25


class Game:
    """An honest node and an attacker, who hear each other at once."""

    def __init__(self, policy: type[Racer] = Racer) -> None:
        self.world: World = network_of(Parameters(0), 3, [1 - SHARE, SHARE])
        self.honest = Miner(self.world, 0)
        self.attacker = policy(self.world, 1, shipping)
        self.world.miners = [self.honest, self.attacker]
        self.world.delays = [[0.0, 0.0], [0.0, 0.0]]
        most = self.world.network.target0
        self._plain = count(most // 2)
        self._anchors = count(self.world.network.grade_target(most) // 2)

    def plain(self, miner: Miner, coins: int) -> None:
        for _ in range(coins):
            miner.found(next(self._plain))

    def anchor(self, miner: Miner) -> None:
        miner.found(next(self._anchors))

    def bound(self) -> list[int]:
        """Return how many coins each first anchor has that the attacker knows."""
        return [node.votes for node in self.attacker.view.tree.root.children]


def test_who_has_no_anchor_yet_leads_by_what_one_would_list() -> None:
    game = Game()
    game.plain(game.attacker, 6)
    game.anchor(game.honest)
    assert game.attacker.lead() == 3.0
    game.plain(game.honest, 4)
    assert game.attacker.lead() == -1.0


def test_a_balancer_without_an_anchor_trails_by_no_more_than_one_would_not_list() -> None:
    game = Game(Balancer)
    assert isinstance(game.attacker, Balancer)
    game.plain(game.attacker, 6)
    game.anchor(game.honest)
    assert game.attacker.behind() == 0.0
    game.plain(game.honest, 5)
    assert game.attacker.behind() == 2.0


def test_a_hoard_counts_no_more_coins_than_an_anchor_may_list() -> None:
    game = Game()
    most = game.world.network.max_listed
    game.plain(game.attacker, most + 10)
    game.anchor(game.honest)
    assert game.attacker.lead() == most / 2
    game.anchor(game.attacker)
    assert game.attacker.lead() == most / 2


@pytest.mark.parametrize("returns", [False, True])
def test_who_returns_looks_for_a_first_anchor_that_lists_what_has_come_since(returns: bool) -> None:
    game = Game()
    game.attacker.returns = returns
    game.anchor(game.attacker)
    game.plain(game.honest, 3)
    game.plain(game.attacker, 2)
    game.anchor(game.attacker)
    assert game.bound() == ([0, 0] if returns else [3])
    # It votes for the newest, which lists all or stands on the first one.
    game.plain(game.attacker, 1)
    assert game.bound() == ([0, 1] if returns else [3])


def test_who_returns_stays_after_the_payment_unless_it_would_lead_by_much() -> None:
    game = Game()
    game.attacker.returns = True
    game.anchor(game.attacker)
    game.plain(game.honest, 8)
    game.anchor(game.honest)
    game.plain(game.attacker, 1)
    assert game.bound() == [1, 0], "eight coins are not worth another anchor"
    late = Game()
    late.attacker.returns = True
    late.anchor(late.attacker)
    late.plain(late.honest, 9)
    late.anchor(late.honest)
    late.plain(late.attacker, 1)
    assert late.bound() == [0, 0]


def _baited() -> Game:
    """An attacker whose bait leaves out three coins of others, and that has a rival of it."""
    game = Game()
    game.attacker.baits = True
    game.plain(game.honest, 3)
    game.anchor(game.attacker)
    return game


def test_a_bait_lists_nothing_and_everybody_follows_it() -> None:
    game = _baited()
    (bait,) = game.attacker.view.tree.root.children
    assert bait.validated.body.fresh == ()
    assert game.honest.view.tip.id == bait.id
    assert game.attacker.lead() == 1.5
    game.plain(game.honest, 1)
    assert not game.attacker.is_ahead()
    game.anchor(game.attacker)
    assert game.attacker.is_ahead()
    assert game.honest.view.tip.id == bait.id, "nobody sees the rival"


@pytest.mark.parametrize("discounts", [False, True])
def test_a_payee_that_discounts_takes_a_vote_off_for_each_coin_left_out(discounts: bool) -> None:
    game = _baited()
    game.anchor(game.attacker)
    game.plain(game.attacker, 4)
    luck = Luck(game.world, SHARE, leanings(SHARE, ()), 0)
    attempt = Attempt(game.world, game.attacker, (2, 8), luck)
    attempt.discounts = discounts
    game.plain(game.honest, 4)
    assert attempt.is_going(16.0)
    assert attempt.undone == ({} if discounts else {2: 1.0})
    game.plain(game.honest, 1)
    assert attempt.is_going(16.0)
    assert attempt.undone == {2: 1.0}


def test_a_bait_that_comes_second_pays_nobody() -> None:
    game = Game()
    game.attacker.baits = True
    game.plain(game.attacker, 5)
    game.anchor(game.honest)
    luck = Luck(game.world, SHARE, leanings(SHARE, ()), 0)
    assert not Attempt(game.world, game.attacker, (2,), luck).is_going(16.0)
