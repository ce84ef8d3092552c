"""The fork choice of §6 over a tree made by hand; random trees are compared with the model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from unchained.node.consensus.fork_choice import (
    HeaderTargets,
    anchor_work,
    count_asked_for,
    count_plain,
    descend,
    is_settled,
    score,
    vote_work,
    work,
)
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId

TARGET = REG.target0


class Anchor:
    """An anchor of a score, and its children."""

    def __init__(self, number: int, points: int, *children: Anchor) -> None:
        self.id = CoinId(number.to_bytes(32, "big"))
        self._points = points
        self._children = children

    def contenders(self) -> Sequence[Anchor]:
        return self._children

    def score(self) -> int:
        return self._points


def winner(root: Anchor) -> list[int]:
    return [int.from_bytes(anchor.id, "big") for anchor in descend(root)]


def test_an_anchor_without_children_has_nothing_above() -> None:
    assert winner(Anchor(1, 0)) == []


def test_the_descent_follows_the_greatest_score_at_each_step() -> None:
    light = Anchor(2, 10, Anchor(4, 99))
    heavy = Anchor(3, 11, Anchor(5, 1), Anchor(6, 2))
    assert winner(Anchor(1, 0, light, heavy)) == [3, 6]


def test_an_only_child_needs_no_score() -> None:
    assert winner(Anchor(1, 0, Anchor(3, -1, Anchor(2, 0)))) == [3, 2]


def test_a_tie_goes_to_the_lower_id() -> None:
    assert winner(Anchor(1, 0, Anchor(9, 7), Anchor(2, 7), Anchor(5, 7))) == [2]


def test_work_is_how_many_hashes_a_target_takes_on_average() -> None:
    """§2: `floor(2**256 / (target + 1))`"""
    for target, hashes in (
        (0, 2**256),
        (1, 2**255),
        (2, 2**256 // 3),
        (3, 2**254),
        (2**255, 1),
        (2**256 - 2, 1),
        (2**256 - 1, 1),
    ):
        assert work(target) == hashes


def test_a_score_is_twice_the_votes_and_once_the_plain_fresh_coins() -> None:
    assert vote_work(TARGET) == work(TARGET)
    assert score(10, 0, TARGET) == 20
    assert score(10, 3, TARGET) == 20 + 3 * work(TARGET)


def test_a_fresh_coin_of_exactly_anchor_grade_is_not_plain() -> None:
    grade = REG.grade_target(TARGET)
    ids = [number.to_bytes(32, "big") for number in (grade - 1, grade, grade + 1)]
    assert count_plain(ids, TARGET, REG) == 1


def test_an_anchor_settles_after_max_reorg_epochs_of_running_time() -> None:
    limit = REG.max_reorg * REG.epoch_ms
    assert not is_settled(limit - 1, REG)
    assert is_settled(limit, REG)


# What headers alone show (Protocol §11)

DEEP = REG.window + 1
FULL = 1_000_000
"""A target; its double is half of its work."""


def branch(*targets: int) -> list[HeaderTargets]:
    """Return anchors of such targets, and of children of the last one's."""
    return [HeaderTargets(*pair) for pair in pairwise(targets)]


def work_of(*targets: int) -> int:
    return sum(anchor_work(target, REG) for target in targets)


def test_a_header_shows_the_work_of_its_epoch() -> None:
    assert anchor_work(REG.target0, REG) == 4 * work(REG.target0)


def test_what_leaves_the_chain_near_the_tip_is_asked_for() -> None:
    weak = branch(*(FULL * 10,) * 4)
    assert count_asked_for(weak, 0, [FULL] * 10, 10**9, REG.window, REG) == 3
    assert count_asked_for(weak, 0, [FULL] * 10, 10**9, DEEP, REG) == 0


def test_a_quarter_of_the_work_is_enough() -> None:
    weak = branch(*(FULL * 10,) * 4)
    assert count_asked_for(weak, 25, [FULL] * 10, 100, DEEP, REG) == 3
    assert count_asked_for(weak, 24, [FULL] * 10, 100, DEEP, REG) == 0


def test_targets_of_at_most_twice_the_main_chains_are_enough() -> None:
    main = [FULL, FULL, 3 * FULL, *(FULL,) * 20]

    def asked(*targets: int) -> int:
        return count_asked_for(branch(*targets), 0, main, 100, DEEP, REG)

    assert asked(FULL, 2 * FULL, 6 * FULL, 2 * FULL) == 3
    # The first target that is more, the last one's children's included, ends it.
    assert asked(FULL, 2 * FULL, 6 * FULL, 2 * FULL + 1) == 2
    assert asked(FULL, 2 * FULL, 6 * FULL + 1, 2 * FULL) == 1
    assert asked(2 * FULL + 1, FULL, FULL) == 0
    assert asked(FULL) == 0


def test_a_branch_that_outgrows_the_main_chain_has_work_enough() -> None:
    """The rule of the targets needs no word on heights that the main chain does not have."""
    for length in (1, 2, 40):
        main = [FULL] * length
        twice = [2 * FULL] * (length + 5)
        assert 4 * work_of(*twice) >= work_of(*main)
        found = count_asked_for(
            branch(*twice, 2 * FULL), work_of(*twice), [*main, FULL], work_of(*main), DEEP, REG
        )
        assert found == length + 5
