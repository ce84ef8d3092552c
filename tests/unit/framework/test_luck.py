"""Luck that leans: its weights are checked against what is known by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.framework.economics.figures import Sums
from tests.framework.economics.luck import Leaning, Luck, Odds, leanings
from tests.framework.economics.shared import Parameters, network_of
from tests.framework.economics.world import Miner, steady
from unchained.node.consensus.params import MAIN

SHARE = 0.25
"""Of the coins, the attacker's."""
DEPTHS = (16, 32)
WAYS = {
    "racer": leanings(SHARE, DEPTHS),
    "returns": leanings(SHARE, DEPTHS, returns=True),
    "bait": leanings(SHARE, DEPTHS, bait=True),
    "discounts": leanings(SHARE, DEPTHS, bait=True, discounts=True),
}


def _leaning_luck(attempts: int, among: list[Leaning], ripe: int = 0) -> Iterator[Luck]:
    """Give luck that leans each way in turn, for two miners."""
    world = network_of(Parameters(0), 8, [1 - SHARE, SHARE])
    world.miners = [Miner(world, 0), Miner(world, 1)]
    for attempt in range(attempts):
        yield Luck(world, SHARE, among, attempt % len(among), ripe)


def _holds(sums: Sums, exact: float, events: float) -> bool:
    low, high = sums.interval()
    return low <= exact <= high and sums.events > events


@pytest.mark.parametrize("name", WAYS)
def test_the_weights_of_leaning_luck_are_one_on_average(name: str) -> None:
    sums = Sums()
    for luck in _leaning_luck(1_500, WAYS[name]):
        for step in range(40):
            # Whatever state the attack is in, and whatever has come of it.
            luck.is_armed = step % 10 >= 5
            luck.is_paid = step >= 20
            luck.votes = max(0, step - 18)
            luck.undone = (16,) if step >= 38 else ()
            luck.draw()
        sums.add(luck.weight)
    assert _holds(sums, 1.0, 100)


def test_leaning_luck_finds_a_gamblers_ruin_as_often_as_it_is() -> None:
    far = 5
    sums = Sums()
    for luck in _leaning_luck(2_000, WAYS["racer"]):
        luck.is_paid = luck.is_armed = True
        place = 0
        while -far < place < far:
            finder, _ = luck.draw()
            place += 1 if finder == 1 else -1
        sums.add(luck.weight if place == far else 0.0)
    odds = (1 - SHARE) / SHARE
    assert _holds(sums, (odds**far - 1) / (odds ** (2 * far) - 1), 50)


@pytest.mark.parametrize("name", ["racer", "returns"])
def test_leaning_luck_finds_a_long_epoch_as_often_as_it_is(name: str) -> None:
    coins = 48
    grade = MAIN.grade_target(steady().target0)
    sums = Sums()
    for luck in _leaning_luck(2_000, WAYS[name]):
        drawn = [luck.draw() for _ in range(coins)]
        # An attacker that returns to the root does not care for its own anchors.
        ended = [id_ <= grade and (who == 0 or name == "racer") for who, id_ in drawn]
        sums.add(0.0 if any(ended) else luck.weight)
    ends = (1 - SHARE if name == "returns" else 1) / MAIN.coins_per_epoch
    assert _holds(sums, (1 - ends) ** coins, 50)


def test_leaning_luck_finds_a_bait_before_anchors_of_others_as_often_as_it_is() -> None:
    grade = MAIN.grade_target(steady().target0)
    sums = Sums()
    for luck in _leaning_luck(1_500, WAYS["bait"]):
        finder, number = luck.draw()
        while number > grade:
            finder, number = luck.draw()
        sums.add(luck.weight if finder == 1 else 0.0)
    assert _holds(sums, SHARE, 100)


def test_no_anchor_comes_before_the_epoch_is_ripe_and_nothing_is_weighed_for_that() -> None:
    grade = MAIN.grade_target(steady().target0)
    anchors = 0
    for luck in _leaning_luck(200, leanings(SHARE, ()), ripe=12):
        assert all(luck.draw()[1] > grade for _ in range(12))
        assert luck.weight == 1.0
        anchors += luck.draw()[1] <= grade
    assert anchors > 0


@pytest.mark.parametrize("share", [0.1, 0.25, 0.33])
def test_more_votes_lean_to_longer_epochs_and_to_no_share_that_wins(share: float) -> None:
    even, *ways = leanings(share, (16, 32, 64))
    assert {even.hoarding, even.ahead, even.unarmed, even.racing, *even.late} == {Odds(share)}
    kept = [way.hoarding.others for way in ways]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] <= 0.3
    assert all(share < way.racing.share < 0.5 for way in ways)
