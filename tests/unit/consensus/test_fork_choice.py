"""The fork choice of §6 over a tree made by hand; random trees are compared with the model."""

from __future__ import annotations

from collections.abc import Sequence

from unchained.node.consensus.fork_choice import (
    count_plain,
    descend,
    is_settled,
    score,
    vote_work,
)
from unchained.node.consensus.params import REG, work
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
