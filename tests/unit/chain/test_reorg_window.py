"""Branches that leave the main chain below the tree: weighed, followed, or left to the operator."""

from __future__ import annotations

import pytest

from tests.framework.chains import submit_coin, tree_of
from tests.framework.corechain import Chain
from tests.framework.deepchain import FORK, NETWORK, POOR, SETTLED_MS, Deep
from tests.framework.forge import Forged
from tests.framework.rules import rule_broken
from unchained.node.chain import reorg_window
from unchained.node.chain.anchor_reads import missing_votes
from unchained.node.chain.results import Outcome
from unchained.node.chain.tree import AnchorMark, AnchorStatus
from unchained.node.consensus.fork_choice import work
from unchained.node.primitives.types import CoinId
from unchained.storage.check import check
from unchained.storage.errors import StoreFullError
from unchained.storage.memory import MemoryStore


@pytest.fixture
def deep() -> Deep:
    return Deep()


def ids(anchor: Forged) -> list[bytes]:
    return [step.id for step in anchor.chain()]


def test_a_better_branch_from_below_the_tree_wins(deep: Deep) -> None:
    first = deep.branch[0]
    assert rule_broken(lambda: deep.coin(first.coin)) == "STALE_PARENT"
    deep.lower()
    deep.restart()
    deep.take_branch(deep.branch[:2])
    assert deep.core.tip.id == deep.poor.id
    deep.restart()
    deep.take_branch(deep.branch[2:])
    assert deep.core.tip.id == deep.branch[-1].id
    assert deep.main() == ids(deep.branch[-1])
    assert not deep.core.root.held
    deep.restart()
    deep.is_sound()
    # The lost branch goes when it is too deep to come back.
    deep.grow(deep.branch[-1], NETWORK.max_reorg)
    assert deep.core.tree.root.height == deep.core.tip.height - NETWORK.max_reorg
    assert len(deep.core.tree.nodes) == NETWORK.max_reorg + 1
    assert not deep.core.knows_coin(deep.poor.id)
    deep.restart()
    deep.is_sound()


def test_scores_of_a_lowered_tree_are_those_of_the_protocol(deep: Deep) -> None:
    extra = deep.vote(deep.poor, 3)
    upper = deep.grow(deep.poor, NETWORK.max_reorg + 1)
    assert deep.core.tree.get(deep.poor.id) is None
    deep.lower()
    deep.take_branch(deep.branch[:2])
    tree = deep.core.tree
    unit = work(NETWORK.target0)
    node = tree.nodes[deep.poor.id]
    assert (node.votes, len(node.bound)) == (4, 1)
    poor = tree.main_at(FORK + 1)
    assert poor is not None
    # Each anchor is a vote for the one before, the tip has none.
    anchors = upper.height - (FORK + 1)
    assert tree.scores()[poor.id] == 2 * unit * (anchors + len(extra))
    assert tree.scores()[deep.branch[0].id] == 2 * unit * 5 + 4 * unit
    for coin in extra:
        deep.coin(coin)
    assert node.votes == 4
    deep.vote(deep.poor)
    assert node.votes == 5
    assert tree.scores()[poor.id] == 2 * unit * (anchors + len(extra) + 1)
    deep.restart()
    assert deep.core.tree.nodes[deep.poor.id].votes == 5


def test_late_coins_are_bound_again(deep: Deep) -> None:
    late = [deep.forge.coin(deep.poor) for _ in range(2)]
    low = deep.poor
    step = deep.take(deep.forge.anchor(low))
    step = deep.take(deep.forge.anchor(step, uncles=late))
    deep.grow(step, NETWORK.max_reorg + 1)
    deep.lower(low.height)
    assert {coin.id for coin in late} < set(deep.core.tree.nodes[low.id].bound)
    assert deep.core.tree.root.forgotten == 0


def test_a_branch_that_does_not_win_leaves_nothing(deep: Deep) -> None:
    deep.lower()
    deep.take_branch(deep.branch[:2])
    held = deep.grow(deep.poor, 1)
    assert deep.core.tree.root.height == FORK
    deep.rise()
    assert deep.core.tip.id == held.id
    assert len(deep.core.tree.nodes) == NETWORK.max_reorg + 1
    for anchor in deep.branch[:2]:
        for coin_id in (anchor.id, *anchor.body.fresh):
            assert not deep.core.knows_coin(CoinId(coin_id))
    bound = [key for key in deep.disk.values if key[:1] == b"b"]
    assert len(bound) == NETWORK.max_reorg
    deep.restart()
    deep.is_sound()


def test_what_has_been_ours_for_long_is_not_undone(deep: Deep) -> None:
    deep.ran_ms += SETTLED_MS
    assert not deep.core.may_undo_from(FORK)
    winner = deep.branch[-1].id
    assert deep.refused() is None
    deep.core.refuse(FORK, winner, 3 * 4 * work(NETWORK.target0))
    changes = deep.core.take_changes()
    assert changes.refused == deep.refused()
    assert changes.refused is not None
    assert (changes.refused.fork_height, changes.refused.depth) == (FORK, POOR)
    deep.core.refuse(FORK, winner, 3 * 4 * work(NETWORK.target0))
    assert deep.core.take_changes().refused is None
    # It stands until the main chain has made up for it.
    upper = deep.grow(deep.poor, 3)
    assert deep.refused() is not None
    deep.grow(upper, 1)
    assert deep.refused() is None


def test_the_age_of_the_oldest_decides() -> None:
    deep = Deep()
    deep.ran_ms += SETTLED_MS - 1
    younger = deep.grow(deep.poor, NETWORK.max_reorg + 2)
    assert deep.core.may_undo_from(FORK)
    deep.ran_ms += 1
    assert not deep.core.may_undo_from(deep.poor.height - 1)
    assert deep.core.may_undo_from(deep.poor.height)
    assert deep.core.root.floor(deep.ran_ms) == deep.poor.height
    deep.ran_ms += SETTLED_MS
    assert deep.core.root.floor(deep.ran_ms) == deep.core.tree.root.height
    assert younger.height > deep.poor.height


def test_a_branch_that_wins_too_late_is_refused_and_the_chain_goes_on(deep: Deep) -> None:
    deep.lower()
    deep.take_branch(deep.branch[:2])
    deep.ran_ms += SETTLED_MS
    before = deep.main()
    deep.core.take_changes()
    deep.take_branch(deep.branch[2:])
    assert deep.main() == before
    changes = deep.core.take_changes()
    assert changes.refused is not None
    assert changes.refused.winner == deep.branch[-1].id
    assert not changes.disconnected
    assert deep.branch[0].id in changes.barren
    # By its headers it has less work than the main chain: one anchor more makes up for it.
    assert deep.refused() is not None
    upper = deep.grow(deep.poor, 1)
    assert deep.refused() is None
    upper = deep.grow(upper, 1)
    assert deep.core.tip.id == upper.id
    assert len(deep.core.tree.nodes) == NETWORK.max_reorg + 1
    deep.restart()
    deep.is_sound()


def test_a_deep_branch_is_followed_up_to_what_cannot_be_connected(deep: Deep) -> None:
    good = deep.rich(2)
    bad = deep.forge.anchor(good[-1], body_fields={"state_root": bytes(32)})
    branch = [*good, bad, *deep.rich(3, bad)]
    deep.lower()
    deep.take_branch(branch)
    # What is above the dead anchor counts for those below it: they win, and nothing above them.
    assert deep.core.tip.id == good[-1].id
    assert deep.core.tree.nodes[bad.id].marks is AnchorMark.DEAD
    assert deep.core.tree.nodes[good[-1].id].status is AnchorStatus.COUNTS
    deep.restart()
    deep.is_sound()


def test_undone_transfers_wait_again_and_no_more_than_fit(
    deep: Deep, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Coins of the common part, each spent on the poor chain.
    paid = [deep.pay(anchor.id, NETWORK.subsidy) for anchor in deep.base.chain()[1:]]
    upper = deep.poor
    for sized in paid:
        upper = deep.take(deep.forge.anchor(upper, transfers=[sized]))
    deep.grow(upper, NETWORK.max_reorg + 1)
    deep.lower()
    room = sum(len(sized.raw) for sized in paid[:2])
    monkeypatch.setattr("unchained.node.chain.mempool.waiting_transfers.UNDONE_BYTES", room)
    deep.take_branch(deep.rich(9))
    assert deep.core.tip.height == FORK + 9
    assert deep.waiting() == {sized.wid for sized in paid[:2]}
    deep.events_fit()
    deep.restart()
    deep.is_sound()


@pytest.mark.parametrize("bulk", [False, True])
def test_a_crash_at_any_write_leaves_a_chain_that_gets_there(bulk: bool) -> None:
    writes = 0
    while True:
        writes += 1
        deep = Deep()
        deep.core = deep.reopened(fail_at=writes)
        try:
            if bulk:
                deep.core.begin_bulk()
            deep.lower()
            deep.take_branch(deep.branch)
            deep.core.end_bulk()
            deep.rise()
            break
        except StoreFullError:
            deep.core = deep.reopened()
        deep.is_sound()
        if deep.core.tip.id == deep.branch[-1].id:
            continue
        # What is on disk by then is one of the chains or a part of one.
        assert deep.main() in (ids(deep.poor), ids(deep.branch[-1])[: len(deep.main())])
        deep.lower()
        deep.take_branch(deep.branch)
        assert deep.core.tip.id == deep.branch[-1].id
        deep.restart()
        deep.is_sound()
    assert deep.core.tip.id == deep.branch[-1].id
    assert writes > (1 if bulk else 10)


def test_a_lowered_tree_is_bounded(deep: Deep, monkeypatch: pytest.MonkeyPatch) -> None:
    # Room for the tree, and as much again on either side.
    monkeypatch.setattr(
        "unchained.node.chain.reorg_window.TREE_ANCHORS_MAX", NETWORK.max_reorg + 1 + 4
    )
    lowest = deep.core.tree.root.height - 2
    assert deep.core.root.floor(deep.ran_ms) == lowest
    assert not deep.core.may_undo_from(lowest - 1)
    deep.lower(lowest)
    assert not deep.is_full()
    deep.take_branch(deep.forge.grow(deep.poor.chain()[lowest], 2).chain()[-2:])
    assert deep.is_full()
    deep.rise()
    assert not deep.is_full()


def test_a_tree_is_lowered_little_by_little(deep: Deep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unchained.node.chain.reorg_window.ANCHORS_PER_STEP_MAX", 2)
    steps = 1
    while not deep.core.lower_root(FORK):
        steps += 1
        deep.restart()
    assert steps == 4
    before = tree_of(deep.core)
    assert len(before) == POOR + 1
    while not deep.core.let_root_rise():
        steps -= 1
        deep.restart()
    assert steps == 1


@pytest.mark.parametrize("restarting", [False, True])
def test_a_deep_branch_begins_with_an_anchor_that_the_main_chain_lists(restarting: bool) -> None:
    """Both sides of a split saw its first anchors, and each lists what the other is built on."""
    chain = Deep.__new__(Deep)
    Chain.__init__(chain, NETWORK)
    chain.step_ms = 0
    forge = chain.forge
    base = chain.grow(chain.genesis, FORK)
    first = forge.anchor(base)
    vote, later = forge.coin(first), forge.coin(first)
    other = chain.take(forge.anchor(base))
    chain.take(first)
    chain.coin(vote)
    poor = chain.take(forge.anchor(other, uncles=[first.coin, vote]))
    for _ in range(POOR):
        poor = chain.take(forge.anchor(poor))
    assert chain.core.tree.get(first.id) is None
    branch = [first, *chain.rich(4, first)]
    chain.lower()
    if restarting:
        chain.restart()
    # What is known is asked for all the same where it is no vote (yet).
    chain.take_branch(branch[:1])
    assert missing_votes(chain.core.view, [vote, later]) == [vote, later]
    for coin in (vote, later):
        assert submit_coin(chain.core, coin, chain.now_ms) is Outcome.ACCEPTED
    assert missing_votes(chain.core.view, [vote, later]) == []
    chain.take_branch(branch[1:])
    assert chain.core.tip.id == branch[-1].id
    assert {vote.id, later.id} <= set(chain.core.tree.nodes[first.id].bound)
    chain.restart()
    assert {vote.id, later.id} <= set(chain.core.tree.nodes[first.id].bound)
    assert check(MemoryStore(chain.disk), NETWORK).problems == ()


def test_a_known_coin_that_a_body_lists_is_a_vote_again_for_an_anchor_that_came_back() -> None:
    chain = Deep.__new__(Deep)
    Chain.__init__(chain, NETWORK)
    chain.step_ms = 0
    forge = chain.forge
    base = chain.grow(chain.genesis, FORK)
    first = forge.anchor(base)
    vote = forge.coin(first)
    other = chain.take(forge.anchor(base))
    chain.take(first)
    chain.coin(vote)
    poor = chain.take(forge.anchor(other, uncles=[first.coin, vote]))
    for _ in range(POOR):
        poor = chain.take(forge.anchor(poor))
    branch = [first, forge.anchor(first, [vote])]
    branch += chain.rich(4, branch[-1])
    chain.lower()
    chain.take_branch(branch)
    assert chain.core.tip.id == branch[-1].id
    assert vote.id in chain.core.tree.nodes[first.id].bound


def test_room_in_the_tree_is_for_both_branches(deep: Deep, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, root = len(deep.core.tree.nodes), deep.core.tree.root.height
    for spare, lower in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (-3, 0)):
        monkeypatch.setattr("unchained.node.chain.reorg_window.TREE_ANCHORS_MAX", nodes + spare)
        assert deep.core.root.floor(deep.ran_ms) == root - lower
    monkeypatch.setattr("unchained.node.chain.reorg_window.TREE_ANCHORS_MAX", 10_000)
    assert deep.core.root.floor(deep.ran_ms) == deep.core.root.undo_floor == 0


def test_the_floor_is_the_lowest_that_has_not_settled() -> None:
    """Each height of the chain with another age, and the floor looked for at each moment."""
    chain = Chain(NETWORK)
    chain.step_ms = 0
    tip = chain.genesis
    for _ in range(9):
        chain.ran_ms += 100
        tip = chain.grow(tip, 1)
    root = chain.core.tree.root.height
    assert (root, chain.core.root.undo_floor) == (5, 0)
    for age_ms in range(0, 1_000, 50):
        now_ms = SETTLED_MS + age_ms
        # The anchor at a height was connected when that many tenths of a second had passed.
        wanted = [h for h in range(root) if now_ms - 100 * (h + 1) < SETTLED_MS]
        assert chain.core.root.floor(now_ms) == min([*wanted, root])
    with_ms = 300 + SETTLED_MS
    assert chain.core.root.is_settled(3, with_ms)
    assert not chain.core.root.is_settled(3, with_ms - 1)


def test_how_long_anchors_have_been_there_outlives_a_restart_and_their_leaving_the_tree() -> None:
    chain = Chain(NETWORK)
    chain.step_ms, chain.ran_ms = 0, 100
    tip = chain.grow(chain.genesis, NETWORK.max_reorg)
    chain.restart()
    chain.grow(tip, NETWORK.max_reorg)
    root = chain.core.root
    assert [root.floor(now_ms) for now_ms in (99 + SETTLED_MS, 100 + SETTLED_MS)] == [0, 4]


def test_as_many_anchors_are_in_a_lowered_tree_as_is_written_down() -> None:
    assert reorg_window.TREE_ANCHORS_MAX == 8_192
    assert reorg_window.ANCHORS_PER_STEP_MAX == 64
