"""Of which anchors of old branches bodies and votes are asked for (Protocol §11)."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.chains import Feeder, open_core
from tests.framework.forge import Forge, Forged
from unchained.node.chain.anchor_reads import above_fork, deserves_body, main_weight
from unchained.node.chain.core import ChainCore
from unchained.node.consensus.params import REG
from unchained.storage.memory import MemoryStore

STEEP = msgspec.structs.replace(REG, tau_ms=500, window=2)
"""A coin that comes at once takes half a bit off the next target."""


class OldBranch:
    """A main chain whose targets fall, and a branch from genesis whose targets stay: up to height 4
    they are at most twice the main chain's."""

    def __init__(self, main: int = 12, branch: int = 6) -> None:
        self.forge = Forge(STEEP)
        self.main = self._grow(main, 1)
        self.branch = self._grow(branch, 10 * STEEP.epoch_ms)
        self.feeder = Feeder(open_core(MemoryStore(), STEEP), self.forge.now_ms)
        self.feed(self.main)

    def _grow(self, count: int, epoch_ms: int) -> list[Forged]:
        grown = [self.forge.genesis]
        for _ in range(count):
            grown.append(self.forge.anchor(grown[-1], time=grown[-1].time + epoch_ms))
        return grown[1:]

    @property
    def core(self) -> ChainCore:
        return self.feeder.core

    def feed(self, anchors: list[Forged], votes: int = 1) -> None:
        for anchor in anchors:
            items = [anchor.coin, anchor, *(self.forge.coin(anchor) for _ in range(votes))]
            assert self.feeder.submit_all(items) == []


@pytest.fixture(scope="module")
def old() -> OldBranch:
    return OldBranch()


def test_the_weights_are_those_of_the_headers(old: OldBranch) -> None:
    weight = main_weight(old.core.view, 0)
    assert weight.depth == 12
    assert weight.targets == [
        *(anchor.coin.header.target for anchor in old.main),
        old.core.tip.context.child_target,
    ]
    assert not weight.is_deep


def test_bodies_are_asked_for_as_far_as_the_targets_allow(old: OldBranch) -> None:
    found = []
    for anchor in old.branch:
        assert old.feeder.submit(anchor.coin)
        found.append(deserves_body(old.core.view, anchor.id, 0))
        assert not deserves_body(old.core.view, anchor.parent.id if anchor.parent else b"", 0)
        old.feed([anchor])
    # The target of its children, at height 5, keeps the anchor of height 4 out.
    assert found == [True, True, True, False, False, False]
    assert old.core.tip.id == old.main[-1].id


def test_votes_of_the_whole_tree_are_asked_for_as_far_as_the_targets_allow() -> None:
    old = OldBranch()
    old.feed(old.branch)
    beside = old.forge.anchor(old.main[-2])
    old.feed([beside])
    found = above_fork(old.core.view, old.main[-1].id, old.branch[-1].id)
    expected = {anchor.id for anchor in (*old.main, *old.branch[:3], beside)}
    assert set(found) == expected
    assert len(found) == len(expected)
    heights = [old.core.tree.nodes[anchor_id].height for anchor_id in found]
    assert heights == sorted(heights)


def test_near_the_tip_all_are_asked_for_whatever_their_targets() -> None:
    old = OldBranch(main=2)
    old.feed(old.branch[:1])
    found = above_fork(old.core.view, old.main[-1].id, old.branch[0].id)
    assert set(found) == {anchor.id for anchor in (*old.main, old.branch[0])}


def test_of_one_chain_what_grows_from_w_below_its_end() -> None:
    old = OldBranch()
    beside = old.forge.anchor(old.main[-2])
    old.feed([beside])
    tip = old.main[-1].id
    for other in (tip, old.main[0].id):
        found = above_fork(old.core.view, other, tip)
        assert set(found) == {anchor.id for anchor in (*old.main[-3:], beside)}


def test_votes_for_dead_anchors_are_asked_for() -> None:
    old = OldBranch(main=3)
    dead = old.forge.anchor(old.main[1], body_fields={"state_root": bytes(32)})
    above = old.forge.anchor(dead)
    old.feed([dead, above], votes=9)
    assert old.core.tip.id == old.main[-1].id
    found = above_fork(old.core.view, old.main[-1].id, above.id)
    assert set(found) == {old.main[-1].id, dead.id, above.id}
