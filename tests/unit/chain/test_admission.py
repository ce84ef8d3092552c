"""What counts and what does not (Protocol §6): the clock, and what the operator sets aside."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.chains import accept, open_core, submit_body, submit_coin
from tests.framework.corechain import SHALLOW, Chain
from tests.framework.forge import Forged
from tests.framework.rules import rule_broken
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import CountedAnchor, Outcome, UnknownAnchorError
from unchained.node.chain.tree import AnchorMark, AnchorStatus
from unchained.node.consensus.params import REG
from unchained.node.primitives.coin import Coin
from unchained.storage import schema
from unchained.storage.schema import AnchorRecord

LIMIT_MS = REG.future_limit_ms


@pytest.fixture
def chain() -> Chain:
    return Chain()


def reopened(chain: Chain, now_ms: int) -> ChainCore:
    """Open the chain's store at a time."""
    chain.core = open_core(chain.store(), chain.forge.network, chain._running_ms, now_ms)
    return chain.core


def votes_of(chain: Chain, anchor: Forged) -> set[bytes]:
    return set(chain.core.tree.nodes[anchor.id].bound)


def forked(chain: Chain) -> tuple[Forged, Forged, Forged]:
    """Return a fork, the tip of a branch of two anchors that wins, and a rival."""
    fork = chain.grow(chain.genesis, 2)
    rival = chain.take(chain.forge.anchor(fork))
    tip = chain.grow(chain.take(chain.forge.anchor(fork)), 1)
    chain.vote(tip, 4)
    assert chain.core.tip.id == tip.id
    return fork, tip, rival


# The clock


def test_a_listed_coin_waits_for_its_time_and_counts_then(chain: Chain) -> None:
    forge = chain.forge
    tip = chain.grow(chain.genesis, 1)
    time = tip.time + 1_000
    early = forge.coin(tip, time=time + LIMIT_MS)
    lists = forge.anchor(tip, [early], time=time)
    core = reopened(chain, time - 1)
    chain.take(lists)
    due_ms = early.header.time - LIMIT_MS
    for _ in range(2):
        assert early.id not in votes_of(chain, tip)
        assert core.admission.next_due_ms == due_ms
        assert core.tip.id == lists.id
        core = reopened(chain, due_ms - 1)
    core.note_clock(due_ms)
    assert early.id in votes_of(chain, tip)
    assert core.admission.next_due_ms is None
    assert [coin.id for coin in core.take_changes().coins] == [early.id]
    core = reopened(chain, due_ms)
    assert early.id in votes_of(chain, tip)


def test_what_a_clock_that_steps_back_does_not_allow_counts_no_more_until_its_time(
    chain: Chain,
) -> None:
    forge = chain.forge
    fork = chain.grow(chain.genesis, 1)
    main = chain.take(forge.anchor(fork))
    chain.vote(main, 5)
    late_ms = main.time + 10 * LIMIT_MS
    side = chain.take(forge.anchor(fork, time=late_ms))
    above = chain.take(forge.anchor(side, time=late_ms + 1))
    votes = chain.vote(above, 1)
    assert chain.core.tip.id == main.id
    scores = chain.core.tree.scores()
    chain.core.note_clock(main.time + 1_000)
    for _ in range(2):
        assert not {side.id, above.id} & set(chain.core.tree.nodes)
        assert side.id not in votes_of(chain, fork)
        assert chain.core.tip.id == main.id
        reopened(chain, main.time + 1_000)
    chain.core.note_clock(late_ms)
    assert votes_of(chain, above) == {vote.id for vote in votes}
    assert chain.core.tree.scores() == scores


def test_of_several_coins_the_first_due_is_told(chain: Chain) -> None:
    forge = chain.forge
    tip = chain.grow(chain.genesis, 1)
    time = tip.time + 1_000
    early = [forge.coin(tip, time=time + LIMIT_MS - after) for after in (1, 3, 0, 2)]
    core = reopened(chain, time - 10)
    chain.take(forge.anchor(tip, early, time=time))
    counted = core.admission.coins
    for after in (3, 2, 1, 0):
        assert core.admission.next_due_ms == time - after
        assert all(core.admission.awaits(coin) for coin in early)
        core.note_clock(time - after)
        assert not core.admission.awaits(early.pop(early.index(_of_time(early))))
    assert core.admission.next_due_ms is None
    assert core.admission.coins == counted + 4


def _of_time(coins: list[Coin]) -> Coin:
    """Return the coin of the earliest time."""
    return min(coins, key=lambda coin: coin.header.time)


def test_coins_that_became_votes_are_counted_since_opening(chain: Chain) -> None:
    assert chain.core.admission.coins == 0
    tip = chain.grow(chain.genesis, 2)
    chain.vote(tip, 3)
    assert chain.core.admission.coins == 5
    chain.restart()
    assert chain.core.admission.coins == 0


def test_a_look_at_the_clock_tells_whether_anything_has_changed(chain: Chain) -> None:
    forge = chain.forge
    tip = chain.grow(chain.genesis, 1)
    vote = forge.coin(tip, time=tip.time + 5_000)
    chain.coin(vote)
    core = reopened(chain, vote.header.time)
    least_ms = vote.header.time - LIMIT_MS
    # What is exactly as new as may be stays; a millisecond less takes it out.
    assert not core.admission.note_clock(least_ms)
    assert vote.id in votes_of(chain, tip)
    assert core.admission.next_due_ms is None
    assert core.admission.note_clock(least_ms - 1)
    assert vote.id not in votes_of(chain, tip)
    assert core.admission.awaits(vote)
    assert core.admission.next_due_ms == least_ms
    assert not core.admission.note_clock(least_ms - 1), "it is out already"
    assert core.admission.note_clock(least_ms)
    assert vote.id in votes_of(chain, tip)
    assert not core.admission.note_clock(least_ms)


def test_a_coin_whose_parent_has_left_is_due_for_nothing(chain: Chain) -> None:
    """It waits for its time, and for its parent to count: here the parent never does again."""
    forge = chain.forge
    fork = chain.grow(chain.genesis, 1)
    main = chain.take(forge.anchor(fork))
    chain.vote(main, 9)
    late_ms = main.time + 10 * LIMIT_MS
    side = chain.take(forge.anchor(fork, time=late_ms))
    vote = forge.coin(side, time=late_ms + 7)
    chain.coin(vote)
    core = chain.core
    assert core.admission.note_clock(main.time)
    assert core.admission.awaits(vote)
    assert not core.admission.note_clock(late_ms - LIMIT_MS - 1)
    assert core.admission.note_clock(late_ms - LIMIT_MS), "the anchor counts, its vote does not"
    assert side.id in core.tree.nodes
    assert vote.id not in votes_of(chain, side)
    assert core.admission.note_clock(late_ms - LIMIT_MS + 7)
    assert vote.id in votes_of(chain, side)


def test_a_coin_that_waits_and_comes_again_at_its_time_counts_once(chain: Chain) -> None:
    forge = chain.forge
    tip = chain.grow(chain.genesis, 1)
    time = tip.time + 1_000
    early = forge.coin(tip, time=time + LIMIT_MS)
    core = reopened(chain, time - 10)
    chain.take(forge.anchor(tip, [early], time=time))
    counted = core.admission.coins
    assert submit_coin(core, early, time) is Outcome.ACCEPTED
    assert not core.admission.awaits(early)
    assert core.admission.coins == counted + 1
    assert not core.admission.note_clock(time), "it was due, and has been taken in"
    assert core.admission.coins == counted + 1
    assert submit_coin(core, early, time) is Outcome.KNOWN


def test_what_is_due_is_found_in_order_after_opening_too(chain: Chain) -> None:
    forge = chain.forge
    tip = chain.grow(chain.genesis, 1)
    time = tip.time + 1_000
    early = [forge.coin(tip, time=time + LIMIT_MS - after) for after in range(6)]
    reopened(chain, time - 10)
    chain.take(forge.anchor(tip, early, time=time))
    for _ in range(3):
        core = reopened(chain, time - 10)
        assert all(core.admission.awaits(coin) for coin in early)
        for after in range(5, -1, -1):
            assert core.admission.next_due_ms == time - after
            core.admission.note_clock(time - after)
        assert core.admission.next_due_ms is None
        # The clock steps back: all of them are out, and on disk as before.
        assert core.admission.note_clock(time - 10)


def test_the_anchors_that_count_are_told(chain: Chain) -> None:
    chain.core.take_changes()
    tip = chain.grow(chain.genesis, 1)
    side = chain.take(chain.forge.anchor(chain.genesis))
    top = chain.take(chain.forge.anchor(side))
    assert chain.core.take_changes().counted == [
        CountedAnchor(anchor.coin, anchor.body) for anchor in (tip, side, top)
    ]


def test_what_the_main_chain_has_stays_when_the_clock_steps_back(chain: Chain) -> None:
    forge = chain.forge
    low = chain.grow(chain.genesis, 1)
    tip = low
    for _ in range(2):
        tip = chain.take(forge.anchor(tip, time=tip.time + 10 * LIMIT_MS))
    votes = [forge.coin(low, time=low.time + 1), forge.coin(low, time=low.time + 9 * LIMIT_MS)]
    for coin in votes:
        chain.coin(coin)
    core = chain.core
    assert core.admission.note_clock(low.time)
    assert core.admission.is_behind
    assert core.tip.id == tip.id
    assert votes_of(chain, low) == {tip.chain()[2].id, votes[0].id}
    assert votes_of(chain, tip.chain()[2]) == {tip.id}
    assert core.admission.awaits(votes[1])
    for _ in range(2):
        assert not core.admission.note_clock(low.time), "nothing more is too new"
    core = reopened(chain, low.time)
    assert core.tip.id == tip.id
    assert votes_of(chain, low) == {tip.chain()[2].id, votes[0].id}


def test_a_step_back_takes_out_what_is_too_new_wherever_it_hangs(chain: Chain) -> None:
    forge = chain.forge
    fork = chain.grow(chain.genesis, 1)
    main = chain.take(forge.anchor(fork))
    chain.vote(main, 12)
    late_ms = main.time + 10 * LIMIT_MS
    new_side = chain.take(forge.anchor(fork, time=late_ms))
    above = chain.take(forge.anchor(new_side, time=late_ms + 1))
    top = chain.take(forge.anchor(above, time=late_ms + 2))
    chain.vote(top, 1)
    old_side = chain.take(forge.anchor(fork))
    old_votes = chain.vote(old_side, 2)
    late_votes = {
        anchor.id: forge.coin(anchor, time=late_ms + 3) for anchor in (fork, main, old_side)
    }
    for coin in late_votes.values():
        chain.coin(coin)
    core = chain.core
    assert core.tip.id == main.id
    scores = core.tree.scores()
    assert core.admission.note_clock(main.time + 1_000)
    assert set(core.tree.nodes) == {each.id for each in (chain.genesis, fork, main, old_side)}
    assert votes_of(chain, fork) == {main.id, old_side.id}
    assert votes_of(chain, old_side) == {vote.id for vote in old_votes}
    assert len(votes_of(chain, main)) == 12
    assert core.tree.nodes[old_side.id].votes == 2
    # What waits goes with its parent when that is too far below to be voted for.
    waiting = {
        fork.id: fork.height + 1,
        main.id: main.height + 1,
        old_side.id: old_side.height + 1,
        new_side.id: new_side.height + 1,
        above.id: above.height + 1,
        top.id: top.height + 1,
    }
    for height in range(fork.height, top.height + 3):
        assert set(core.admission.stale_parents(height)) == {
            parent for parent, own in waiting.items() if own <= height
        }
    assert core.admission.note_clock(chain.now_ms)
    assert core.tree.scores() == scores
    assert core.admission.stale_parents(10**9) == []


@pytest.mark.parametrize("restarting", [False, True])
def test_a_body_is_asked_for_again_if_what_it_lists_went_while_it_did_not_count(
    restarting: bool,
) -> None:
    chain = Chain(SHALLOW)
    forge = chain.forge
    low = chain.grow(chain.genesis, 1)
    fork = chain.grow(low, 3)
    loser = forge.anchor(low)
    stray = forge.coin(loser)
    late_ms = fork.time + 10 * LIMIT_MS
    side = forge.anchor(fork, (), [loser.coin, stray], time=late_ms)
    chain.vote(chain.take(main := forge.anchor(fork)), 9)
    chain.take(side)
    core = chain.core
    core.note_clock(fork.time + 5_000)
    assert side.id not in core.tree.nodes
    assert core.knows_coin(stray.id)
    top = main
    for _ in range(3):
        top = forge.anchor(top, time=top.time + 1)
        accept(core, top, top.time)
    assert core.tree.root.height == low.height + 3
    assert not core.knows_coin(stray.id)
    if restarting:
        core = reopened(chain, chain.now_ms)
    else:
        core.note_clock(chain.now_ms)
    core.journal.flush()
    assert core.tree.nodes[side.id].status is AnchorStatus.BODYLESS
    record = schema.ANCHOR.get(core.store, side.id)
    assert record is not None
    assert record == AnchorRecord(side.coin.raw, b"", AnchorStatus.BODYLESS, 0, 0, 0)
    chain.restart()
    submit_body(chain.core, side)
    assert chain.core.tree.nodes[side.id].status is AnchorStatus.COUNTS
    chain.restart()


def test_an_anchor_that_was_to_be_chosen_is_taken_out_by_a_step_back(chain: Chain) -> None:
    tip = chain.grow(chain.genesis, 1)
    late = chain.forge.anchor(tip, time=tip.time + 10 * LIMIT_MS)
    above = chain.forge.anchor(late, time=late.time + 1)
    core = chain.core
    with core.choosing_once():
        for anchor in (late, above):
            chain.coin(anchor.coin)
            submit_body(core, anchor)
        assert core.tree.best.id == above.id
        core.note_clock(tip.time)
        assert core.tree.best.id == tip.id
    assert core.tip.id == tip.id
    side = chain.take(chain.forge.anchor(tip))
    assert core.tip.id == side.id
    chain.vote(side, 2)
    core.note_clock(chain.now_ms)
    assert late.id in core.tree.nodes
    assert core.tip.id == side.id
    chain.vote(above, 9)
    assert core.tip.id == above.id


def test_a_chain_ahead_of_the_clock_stays_as_it_is(chain: Chain) -> None:
    _, tip, rival = forked(chain)
    now_ms = tip.time - LIMIT_MS - 1
    core = reopened(chain, now_ms)
    assert core.admission.is_behind
    # Votes that the clock allows count, but nothing is chosen.
    votes = [chain.forge.coin(rival, time=rival.time + 1 + n) for n in range(20)]
    for vote in votes:
        chain.coin(vote)
    assert core.tip.id == tip.id
    assert {vote.id for vote in votes} <= votes_of(chain, rival)
    core.note_clock(now_ms + 1)
    assert not core.admission.is_behind
    assert core.tip.id == rival.id


# Set aside


@pytest.mark.parametrize("restarting", [False, True])
def test_an_anchor_is_set_aside_and_taken_back(chain: Chain, restarting: bool) -> None:
    fork, tip, rival = forked(chain)
    left = tip.chain()[-2]
    before = chain.core.tree.scores()
    assert chain.core.set_aside(left.id)
    assert chain.core.take_changes().aside == [(left.id, True)]
    assert not chain.core.set_aside(left.id)
    if restarting:
        chain.restart()
    assert chain.core.tip.id == rival.id
    scores = chain.core.tree.scores()
    assert not {left.id, tip.id} & set(scores)
    assert scores[fork.id] < before[fork.id]
    # It stays a coin, and what is above it is judged and kept for when it is taken back.
    assert left.id in votes_of(chain, fork)
    higher = chain.take(chain.forge.anchor(tip))
    assert chain.core.tip.id == rival.id
    assert chain.core.take_back(left.id)
    assert not chain.core.take_back(left.id)
    assert chain.core.tip.id == higher.id
    chain.restart()
    chain.events_fit()


def test_setting_aside_is_finished_after_a_crash(chain: Chain) -> None:
    _, tip, rival = forked(chain)
    left = tip.chain()[-2]
    record = schema.ANCHOR.get(chain.core.store, left.id)
    assert record is not None
    marked = msgspec.structs.replace(record, marks=int(AnchorMark.SET_ASIDE))
    chain.core.ledger.batch.put(schema.ANCHOR.key(left.id), schema.ANCHOR.encode(marked))
    chain.core.journal.flush()
    # Also where the clock is behind: the operator's word does not wait for that.
    assert reopened(chain, left.time - 2 * LIMIT_MS).tip.id == tip.chain()[-3].id
    assert reopened(chain, tip.time).tip.id == rival.id


def test_a_chain_whose_times_are_wrong_is_left_by_setting_them_aside(chain: Chain) -> None:
    tip = chain.grow(chain.genesis, 2)
    wrong = chain.take(chain.forge.anchor(tip, time=tip.time + 100 * LIMIT_MS))
    paid = chain.pay(tip.chain()[1].id, REG.subsidy)
    top = chain.take(chain.forge.anchor(wrong, transfers=[paid], time=wrong.time + 1))
    core = reopened(chain, tip.time)
    assert core.tip.id == top.id
    assert core.admission.is_behind
    core.set_aside(wrong.id)
    assert not core.admission.is_behind
    assert core.tip.id == tip.id
    assert chain.waiting() == {paid.wid}
    right = chain.take(chain.forge.anchor(tip))
    assert core.tip.id == right.id
    chain.events_fit()


def test_an_anchor_that_is_aside_stays_so_though_the_clock_and_its_transfers_have_left_it(
    chain: Chain,
) -> None:
    tip = chain.grow(chain.genesis, 2)
    late_ms = tip.time + 10 * LIMIT_MS
    paid = chain.pay(tip.chain()[1].id, REG.subsidy)
    wrong = chain.take(chain.forge.anchor(tip, transfers=[paid], time=late_ms))
    core = reopened(chain, tip.time)
    assert core.set_aside(wrong.id)
    # It waits for the clock, as a vote too, and what it lists goes meanwhile.
    assert wrong.id not in votes_of(chain, tip)
    assert core.tree.get(wrong.id) is None
    assert chain.waiting() == {paid.wid}
    core.expire_transfers(late_ms + 100 * 86_400_000)
    assert core.transfer_bytes(paid.wid) is None
    core.note_clock(late_ms)
    chain.core = core = reopened(chain, late_ms)
    assert core.tree.nodes[wrong.id].is_set_aside
    chain.take(wrong)
    assert core.tip.id == tip.id
    assert core.take_back(wrong.id)
    assert core.tip.id == wrong.id


@pytest.mark.parametrize("restarting", [False, True])
def test_an_anchor_that_waits_for_the_clock_is_set_aside_and_taken_back(
    chain: Chain, restarting: bool
) -> None:
    tip = chain.grow(chain.genesis, 2)
    late_ms = tip.time + 10 * LIMIT_MS
    wrong = chain.take(chain.forge.anchor(tip, time=late_ms))
    core = reopened(chain, tip.time)
    assert core.set_aside(wrong.id)
    for is_aside in (False, True, False):
        change = core.set_aside if is_aside else core.take_back
        assert core.tree.get(wrong.id) is None
        core.take_changes()
        assert change(wrong.id)
        assert core.take_changes().aside == [(wrong.id, is_aside)]
        assert not change(wrong.id)
        if restarting:
            core = reopened(chain, tip.time)
    assert core.tip.id == tip.id
    core.note_clock(late_ms)
    assert core.tip.id == wrong.id


@pytest.mark.parametrize("restarting", [False, True])
def test_what_waited_for_the_clock_too_long_is_forgotten_whole(restarting: bool) -> None:
    chain = Chain(msgspec.structs.replace(REG, max_reorg=6))
    tip = chain.grow(chain.genesis, 2)
    late_ms = tip.time + 10 * LIMIT_MS
    paid = chain.pay(tip.chain()[1].id, REG.subsidy)
    wrong = chain.take(chain.forge.anchor(tip, transfers=[paid], time=late_ms))
    above = chain.take(chain.forge.anchor(wrong, time=late_ms + 1))
    core = reopened(chain, tip.time)
    assert core.set_aside(wrong.id)
    core.expire_transfers(late_ms + 100 * 86_400_000)
    if restarting:
        core = reopened(chain, tip.time)
    assert schema.ANCHOR.get(core.store, wrong.id) is not None
    chain.grow(tip, 12)
    for gone in (wrong, above):
        assert schema.ANCHOR.get(core.store, gone.id) is None
        assert schema.COIN.get(core.store, gone.id) is None
        assert not list(schema.BOUND.scan(core.store, gone.id))
    assert schema.TRANSFER.get(core.store, paid.wid) is None


def test_only_what_can_be_undone_is_set_aside(chain: Chain) -> None:
    for unknown in (chain.genesis.id, chain.forge.anchor(chain.genesis).id):
        with pytest.raises(UnknownAnchorError):
            chain.core.set_aside(unknown)
        with pytest.raises(UnknownAnchorError):
            chain.core.take_back(unknown)


def test_an_anchor_without_a_body_is_set_aside_before_it_comes(chain: Chain) -> None:
    forge = chain.forge
    tip = chain.grow(chain.genesis, 1)
    bare = forge.anchor(tip)
    chain.coin(bare.coin)
    chain.core.set_aside(bare.id)
    chain.restart()
    chain.take(bare)
    assert chain.core.tip.id == tip.id
    chain.core.take_back(bare.id)
    assert chain.core.tip.id == bare.id


# What waits for an anchor, and what comes back with one


def test_what_waited_for_an_anchor_counts_when_that_does(chain: Chain) -> None:
    forge = chain.forge
    main = chain.grow(chain.genesis, 1)
    loser = forge.anchor(chain.genesis)
    inner = forge.anchor(loser)
    strays = [forge.coin(loser), inner.coin]
    chain.take(forge.anchor(main, (), [loser.coin, *strays]))
    assert all(chain.core.admission.awaits(coin) for coin in strays)
    submit_body(chain.core, loser)
    assert votes_of(chain, loser) == {coin.id for coin in strays}
    assert not any(chain.core.admission.awaits(coin) for coin in strays)
    # An anchor among them has its node now, and its body may come.
    submit_body(chain.core, inner)
    assert chain.core.tree.nodes[inner.id].status is AnchorStatus.COUNTS
    chain.restart()


def test_what_was_ruled_out_stays_so_after_opening(chain: Chain) -> None:
    bad = chain.forge.anchor(chain.genesis, body_fields={"history_root": bytes(32)})
    chain.coin(bad.coin)
    assert rule_broken(lambda: submit_body(chain.core, bad)) == "BAD_HISTORY_ROOT"
    for _ in range(2):
        assert chain.core.tree.nodes[bad.id].status is AnchorStatus.INVALID
        core = reopened(chain, chain.now_ms)
        assert core.tree.nodes[bad.id].status is AnchorStatus.INVALID


def test_an_anchor_comes_back_to_the_tree_with_its_votes() -> None:
    """Those that are stored are bound to it again, also such as came when it had left."""
    chain = Chain(SHALLOW)
    chain.step_ms = 0
    forge, core = chain.forge, chain.core
    parent = chain.grow(chain.genesis, 3)
    chain.vote(parent, 3)
    fresh = forge.coin(parent)
    root = chain.take(forge.anchor(parent, [fresh]))
    chain.grow(root, SHALLOW.max_reorg)
    assert core.tree.root.height == root.height
    late, other = forge.coin(parent), forge.coin(parent)
    side = chain.take(forge.anchor(root, (), [late]))
    chain.take(forge.anchor(root, (), [other]))
    for coin in (late, other):
        assert core.admission.awaits(coin), "nothing counts for what has left the tree"
    chain.vote(side, 9)
    assert core.tip.id == side.id
    counted = core.admission.coins
    while not core.lower_root(parent.height):
        pass
    assert core.admission.coins == counted + 1, "the one that the main chain does not list"
    for _ in range(2):
        bound = votes_of(chain, parent)
        assert bound == {root.id, fresh.id, late.id, other.id}
        # Five were counted before it left; of the four that are bound again three may be others.
        assert chain.core.tree.nodes[parent.id].votes == 5
        assert not any(chain.core.admission.awaits(coin) for coin in (late, other))
        chain.restart()


def test_what_is_set_aside_while_the_clock_is_behind_lets_its_transfers_wait() -> None:
    """Nothing is chosen then, and nothing that was undone is lost."""
    chain = Chain(SHALLOW)
    base = chain.grow(chain.genesis, 1)
    late_ms = base.time + 10 * LIMIT_MS
    high = chain.take(chain.forge.anchor(base, time=late_ms))
    paid = chain.pay(base.id, REG.subsidy)
    tip = chain.take(chain.forge.anchor(high, transfers=[paid], time=late_ms + 1))
    core = reopened(chain, base.time)
    assert core.tip.id == tip.id
    assert core.admission.is_behind
    assert core.set_aside(tip.id)
    assert core.tip.id == high.id
    assert core.admission.is_behind
    assert chain.waiting() == {paid.wid}
    chain.events_fit()
