from __future__ import annotations

import msgspec
import pytest

from tests.framework.chains import Feeder, open_core
from tests.framework.forge import Forge, Forged
from tests.framework.wallets import WalletChain
from unchained.node.chain.anchor_reads import (
    above_fork,
    anchors_above,
    deserves_body,
    header_page,
    locator,
    locator_heights,
    main_weight,
    targets_through,
)
from unchained.node.chain.core import ChainCore
from unchained.node.chain.tree import AnchorNode
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId
from unchained.node.wire.limits import MAX_LOCATOR
from unchained.storage.memory import MemoryStore

COINS = 3
"""Bound to each anchor but the last: two fresh coins, and the next anchor."""


def grown(anchors: int) -> WalletChain:
    chain = WalletChain()
    chain.grow(anchors, *[chain._nobody] * COINS)
    return chain


def test_locators_are_dense_at_the_tip_and_end_with_genesis() -> None:
    assert locator_heights(0) == [0]
    assert locator_heights(3) == [3, 2, 1, 0]
    for tip in (9, 10, 11, 12, 500, 2**32):
        heights = locator_heights(tip)
        assert heights[0] == tip
        assert heights[-1] == 0
        assert heights == sorted(set(heights), reverse=True)
        assert len(heights) <= MAX_LOCATOR
        assert heights[: min(10, tip)] == list(range(tip, tip - min(10, tip), -1))


def test_headers_begin_above_the_first_anchor_of_a_locator_that_is_known() -> None:
    chain = grown(12)
    view = chain.core.view
    root = view.tree.root.height
    ids = [view.archive.main_id(height) for height in range(chain.height + 1)]
    assert locator(view) == tuple(ids[height] for height in locator_heights(chain.height))

    def heights_above(known: list[CoinId], tip: CoinId, limit: int) -> list[int]:
        found = anchors_above(view, known, tip, limit)
        assert found is not None
        below = [anchor for anchor in found if isinstance(anchor, int)]
        assert all(height < root for height in below)
        held = [anchor for anchor in found if not isinstance(anchor, int)]
        for coin, body in held:
            assert body == view.archive.body(coin.id)
        return below + [ids.index(coin.id) for coin, _ in held]

    unknown = CoinId(bytes(32))
    at, tip = ids[7], chain.core.tip.id
    assert at is not None
    assert heights_above([unknown, at], tip, 100) == list(range(8, chain.height + 1))
    assert heights_above([unknown], at, 3) == [1, 2, 3]
    assert anchors_above(view, [], unknown, 100) is None
    base, standings = header_page(view, at, [at, unknown])
    assert base is not None
    assert (base.context.height, base.fork_height) == (7, 7)
    assert standings == ["main", None]


def test_targets_are_those_of_an_anchor_and_of_those_before_it() -> None:
    old = OldBranch()
    old.feed(old.branch)
    view = old.core.view
    targets = {step.height: step.coin.header.target for step in old.branch}
    assert targets_through(view, old.branch[-1].id, 3) == {at: targets[at] for at in (4, 5, 6)}
    main = {step.height: step.coin.header.target for step in old.main[-1].chain()}
    assert targets_through(view, old.main[-1].id, 100) == main
    assert len(set(main.values())) > 5
    assert targets_through(view, CoinId(bytes(32)), 3) == {}


def test_targets_below_the_tree_are_those_of_the_main_chain() -> None:
    chain = WalletChain()
    chain.grow(chain.core.network.max_reorg + 5, chain._nobody)
    view = chain.core.view
    anchor_id = view.archive.main_id(3)
    assert anchor_id is not None
    assert view.tree.get(anchor_id) is None
    assert targets_through(view, anchor_id, 2) == dict.fromkeys((2, 3), REG.target0)


# Protocol §11: of which anchors of old branches bodies and votes are asked for

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


def test_nothing_of_the_main_chain_is_above_a_height_that_it_has_left(old: OldBranch) -> None:
    # Whoever walked a peer's headers on a longer chain, and weighs them on a shorter one.
    tip = old.core.tip
    for height in (tip.height + 1, tip.height + 40):
        weight = main_weight(old.core.view, height)
        assert (weight.work, weight.depth, weight.is_deep) == (0, 0, False)
        assert weight.targets == [tip.context.child_target]
    assert main_weight(old.core.view, tip.height) == weight


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


class CountedReads(dict[int, AnchorNode]):
    """The main chain's anchors by height, and how often one was looked up."""

    reads = 0

    def get(self, height: int, default: object = None) -> AnchorNode | None:  # type: ignore[override]
        self.reads += 1
        return super().get(height)


def test_each_short_branch_is_weighed_against_as_little_of_the_main_chain() -> None:
    old = OldBranch(branch=1)
    beside = [old.forge.anchor(anchor, time=anchor.time + 2) for anchor in old.main[:8]]
    old.feed([old.branch[0], *beside])
    counted = old.core.tree._main = CountedReads(old.core.tree._main)
    found = above_fork(old.core.view, old.main[-1].id, old.branch[0].id)
    assert {anchor.id for anchor in beside} <= set(found)
    # Of each branch of one anchor: both ends of the main chain's work, and what is beside it and
    # beside its children.
    assert counted.reads <= 4 * 9


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
