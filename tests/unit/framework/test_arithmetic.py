"""Private branches by arithmetic, and that races with leaning luck end as it has them."""

from __future__ import annotations

from random import Random

import pytest

from tests.framework.economics.arithmetic import undone
from tests.framework.economics.command import run
from tests.framework.economics.experiments import DEPTHS
from tests.framework.economics.figures import Sums
from tests.framework.economics.plan import Row
from tests.framework.economics.records import DOCUMENT
from tests.framework.economics.shared import Parameters
from unchained.node.consensus.params import MAIN


def _is_undone(rng: Random, share: float, votes: int, bait: bool) -> bool:
    """Play one attempt with dice and scores alone."""
    ends = 1 / MAIN.coins_per_epoch
    wins_ties = rng.random() < 0.5
    plain = plain_of_others = theirs = mine = 0
    paying: int | None = None
    """What the anchor that pays has in its score, by its list."""
    own: int | None = None
    if bait:
        while rng.random() >= ends:
            plain += 1
        paying = 0
    while True:
        if paying is not None:
            behind = paying + 2 * theirs - (plain if own is None else own + 2 * mine)
            if own is not None and theirs >= votes and behind < wins_ties:
                return True
            if behind > 30:
                return False
        is_own, is_anchor = rng.random() < share, rng.random() < ends
        if is_own and own is None:
            own = plain if is_anchor else None
            plain += not is_anchor
        elif is_own:
            mine += 1
        elif paying is not None:
            theirs += 1
        elif is_anchor:
            paying = plain_of_others
        else:
            plain_of_others += 1
            plain += 1


@pytest.mark.parametrize("bait", [False, True])
def test_dice_and_scores_alone_give_what_arithmetic_gives(bait: bool) -> None:
    rng, sums = Random(1), Sums()
    for _ in range(6_000):
        sums.add_cases(_is_undone(rng, 0.4, 8, bait), 1)
    low, high = sums.interval()
    assert low <= undone(0.4, 8, bait) <= high
    assert high - low < 0.04


def test_the_document_says_what_arithmetic_gives() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for depth in DEPTHS:
        assert f"{undone(0.25, depth):.1e}" in text


@pytest.mark.parametrize(("share", "bait"), [(0.33, False), (0.25, True)])
def test_races_with_leaning_luck_end_as_arithmetic_has_it(share: float, bait: bool) -> None:
    outcome = run(Row("race", Parameters(600, share=share, delay=0.0, leans=True, bait=bait)))
    for depth, figure in zip(DEPTHS, outcome.figures, strict=True):
        assert figure.name == f"undone after {depth} votes"
        assert figure.sums.events > 10
        low, high = figure.interval()
        assert low <= undone(share, depth, bait) <= high
