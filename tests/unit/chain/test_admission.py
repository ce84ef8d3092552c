"""What counts and what does not (Protocol §6): the clock, and what the operator sets aside."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.chains import open_core
from tests.framework.corechain import Chain
from tests.framework.forge import Forged
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import UnknownAnchorError
from unchained.node.chain.tree import AnchorMark
from unchained.node.consensus.params import REG
from unchained.storage import schema

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
