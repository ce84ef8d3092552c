"""The chain core as its callers have it: what each operation answers, and what is on disk then."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from tests.framework.chains import open_core, submit_body, submit_coin
from tests.framework.corechain import Chain
from tests.framework.deepchain import FORK, NETWORK, SETTLED_MS, Deep
from tests.framework.forge import Forged
from tests.framework.rules import rule_broken
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import (
    Outcome,
    Package,
    ProvenAnchor,
    ReorgRefused,
    UnknownAnchorError,
)
from unchained.node.chain.tree import AnchorMark, AnchorNode, AnchorStatus
from unchained.node.consensus.errors import BadMixError
from unchained.node.consensus.params import REG
from unchained.node.consensus.policy import EXPIRY_MS, FeeTooLowError
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.storage import schema
from unchained.storage.kv import Batch
from unchained.storage.schema import AnchorRecord

LIMIT_MS = REG.future_limit_ms


@pytest.fixture
def deep() -> Deep:
    return Deep()


@pytest.fixture
def chain() -> Chain:
    return Chain()


def proven(anchors: Sequence[Forged]) -> list[ProvenAnchor]:
    return [ProvenAnchor(anchor.package()) for anchor in anchors]


def count_choices(core: ChainCore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the tip's heights, one for each time that the tip is chosen."""
    heights: list[int] = []
    choose = core.tree.choose

    def counted() -> AnchorNode:
        heights.append(core.tip.height)
        return choose()

    monkeypatch.setattr(core.tree, "choose", counted)
    return heights


def test_a_batch_for_a_lowered_tree_is_chosen_from_once(
    deep: Deep, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep.lower()
    choices = count_choices(deep.core, monkeypatch)
    outcome = deep.core.submit_batch(proven(deep.branch[:2]), deep.now_ms)
    assert (outcome.error, outcome.is_full) == (None, False)
    assert len(choices) == 1
    choices.clear()
    deep.core.submit_batch(proven(deep.branch[2:]), deep.now_ms)
    assert deep.core.tip.id == deep.branch[-1].id
    # Whether there is another, which it is; and that it is the tip after it was connected.
    assert choices == [deep.poor.height, deep.poor.height, deep.core.tip.height]


def test_a_batch_on_the_tip_is_connected_anchor_by_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(NETWORK)
    anchors = chain.forge.grow(chain.genesis, 3).chain()[1:]
    choices = count_choices(chain.core, monkeypatch)
    outcome = chain.core.submit_batch(proven(anchors), chain.now_ms)
    assert (outcome.error, outcome.is_full) == (None, False)
    assert chain.core.tip.id == anchors[-1].id
    assert set(choices) == {0, 1, 2, 3}


def test_a_batch_ends_with_the_first_anchor_that_breaks_a_rule() -> None:
    chain = Chain(NETWORK)
    forge = chain.forge
    good = forge.anchor(chain.genesis)
    bad = forge.anchor(good, body_fields={"history_root": bytes(32)})
    other = forge.anchor(good)
    outcome = chain.core.submit_batch(proven([good, bad, other]), chain.now_ms)
    assert outcome.error is not None
    assert (outcome.error.name, outcome.is_full) == ("BAD_HISTORY_ROOT", False)
    assert chain.core.tip.id == good.id
    assert not chain.core.knows_coin(other.id)


def test_a_batch_tells_that_a_lowered_tree_is_full(
    deep: Deep, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep.lower()
    room = len(deep.core.tree.nodes) + 2
    monkeypatch.setattr("unchained.node.chain.reorg_window.TREE_ANCHORS_MAX", room)
    for anchors, is_full in ((deep.branch[:1], False), (deep.branch[1:2], True)):
        assert deep.core.submit_batch(proven(anchors), deep.now_ms).is_full == is_full
    wrong = deep.forge.anchor(deep.branch[1], body_fields={"history_root": bytes(32)})
    outcome = deep.core.submit_batch(proven([wrong]), deep.now_ms)
    assert outcome.error is not None
    assert not outcome.is_full, "that the branch is wrong comes first"


def reopened(chain: Chain, now_ms: int) -> ChainCore:
    """Open the chain's store at a time."""
    chain.core = open_core(chain.store(), chain.forge.network, chain._running_ms, now_ms)
    return chain.core


# Asking


def test_how_far_the_clock_is_behind_is_in_the_status(chain: Chain) -> None:
    late_ms = chain.genesis.time + 10 * LIMIT_MS
    tip = chain.take(chain.forge.anchor(chain.genesis, time=late_ms))
    assert chain.core.status(chain.now_ms).clock_behind_ms == 0
    core = reopened(chain, late_ms - LIMIT_MS)
    assert core.status(0).clock_behind_ms == 0
    core = reopened(chain, late_ms - LIMIT_MS - 1)
    assert core.status(0).clock_behind_ms == LIMIT_MS + 1
    assert core.tip.id == tip.id


def test_what_is_bound_to_an_anchor_waits_for_its_coin_and_for_its_body(chain: Chain) -> None:
    anchor = chain.forge.anchor(chain.genesis)
    assert chain.core.is_awaited(anchor.id)
    chain.coin(anchor.coin)
    assert chain.core.is_awaited(anchor.id)
    submit_body(chain.core, anchor)
    assert not chain.core.is_awaited(anchor.id)


def test_the_bytes_of_a_transfer_that_waits_are_given_out(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 1)
    paid = chain.pay(base.id, REG.subsidy)
    assert chain.core.transfer_bytes(paid.wid) is None
    chain.add_transfer(paid)
    assert chain.core.transfer_bytes(paid.wid) == paid.raw


# Several anchors


def test_a_chain_is_taken_in_up_to_the_first_anchor_that_breaks_a_rule(chain: Chain) -> None:
    forge = chain.forge
    first = forge.anchor(chain.genesis)
    for bad, rule in (("state_root", "BAD_STATE_ROOT"), ("history_root", "BAD_HISTORY_ROOT")):
        wrong = forge.anchor(first, body_fields={bad: bytes(32)})
        done, error = chain.core.submit_chain(proven([first, wrong]), chain.now_ms)
        assert error is not None
        assert (done, error.name) == (1, rule)
        assert chain.core.tip.id == first.id
    early = forge.anchor(first, time=chain.now_ms + LIMIT_MS + 1)
    done, error = chain.core.submit_chain(proven([early]), chain.now_ms)
    assert error is not None
    assert (done, error.name) == (0, "TIME_TOO_NEW")
    second = forge.anchor(first)
    assert chain.core.submit_chain(proven([first, second]), chain.now_ms) == (2, None)
    assert chain.core.tip.id == second.id


def test_a_chain_is_not_blamed_for_an_anchor_that_another_turns_out_to_be(chain: Chain) -> None:
    forge = chain.forge
    main = chain.grow(chain.genesis, 1)
    chain.vote(main, 2)
    dead = chain.take(forge.anchor(chain.genesis, body_fields={"state_root": bytes(32)}))
    chain.vote(dead, 1)
    assert not chain.is_dead(dead)
    above = forge.anchor(dead)
    chain_above = proven([above, forge.anchor(above)])
    assert chain.core.submit_chain(chain_above, chain.now_ms) == (2, None)
    assert chain.is_dead(dead)


# Bodies


def test_an_anchor_that_counts_and_is_not_connected_is_on_disk(chain: Chain) -> None:
    main = chain.grow(chain.genesis, 1)
    chain.vote(main, 3)
    side = chain.take(chain.forge.anchor(chain.genesis))
    assert schema.ANCHOR.get(chain.core.store, side.id) == AnchorRecord(
        side.coin.raw, side.body.to_bytes(), AnchorStatus.COUNTS, 0, 0, 0
    )
    # What counting has found out is at hand when it is connected.
    assert side.id in chain.core._main._mints
    chain.core.condemn(side.id, BadMixError(expected="", actual=""))
    assert chain.core.tree.nodes[side.id].status is AnchorStatus.COUNTS
    chain.core.condemn(main.id[::-1], BadMixError(expected="", actual=""))  # type: ignore[arg-type]


def test_a_body_lists_what_waits_and_shows_it(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 1)
    paid = chain.pay(base.id, REG.subsidy)
    chain.core.submit_transfer(ProvenTransfer(paid), chain.now_ms, hidden=True)
    assert paid.wid in chain.core.mempool.hidden
    chain.vote(base, 1)
    other = chain.take(chain.forge.anchor(base))
    chain.vote(other, 3)
    anchor = chain.forge.anchor(base, transfers=[paid])
    chain.coin(anchor.coin)
    # Its bytes are here: nobody brings them.
    assert chain.core.submit_package(Package(anchor.coin, anchor.body, {}, {})) is Outcome.ACCEPTED
    assert paid.wid not in chain.core.mempool.hidden
    assert chain.core.transfer_bytes(paid.wid) == paid.raw


# The clock, and the operator


def test_what_the_clock_lets_count_is_chosen_from_and_on_disk(chain: Chain) -> None:
    forge = chain.forge
    base = chain.grow(chain.genesis, 1)
    main = chain.take(forge.anchor(base))
    late_ms = main.time + 10 * LIMIT_MS
    side = chain.take(forge.anchor(base, time=late_ms))
    chain.vote(main, 1)
    votes = [forge.coin(side, time=late_ms + 1) for _ in range(3)]
    for vote in votes:
        chain.coin(vote)
    assert chain.core.tip.id == side.id
    # The clock steps back behind the tip: nothing is chosen, until it shows the time again.
    core = reopened(chain, main.time)
    chain.vote(main, 5)
    assert core.tip.id == side.id
    before = core.ledger.next_event
    core.note_clock(late_ms - LIMIT_MS - 1)
    assert core.tip.id == side.id
    core.note_clock(late_ms)
    assert core.tip.id == main.id
    assert not len(core.ledger.batch)
    assert core.ledger.next_event > before
    heights = []
    core._main.advance = lambda: heights.append(core.tip.height)  # type: ignore[method-assign]
    core.note_clock(late_ms)
    assert heights == [], "nothing has changed"
    core.note_clock(main.time)
    assert heights == [main.height], "something counts no more"


def test_what_can_be_set_aside_and_what_that_answers(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 1)
    main = chain.grow(base, 1)
    assert chain.core.set_aside(main.id) is True
    assert chain.core.tip.id == base.id
    assert chain.core.set_aside(main.id) is False
    assert chain.core.take_back(main.id) is True
    assert chain.core.tip.id == main.id
    assert chain.core.take_back(main.id) is False
    for unknown in (chain.genesis.id, chain.forge.anchor(main).id):
        for operation in (chain.core.set_aside, chain.core.take_back):
            with pytest.raises(UnknownAnchorError, match="height 1 or above"):
                operation(unknown)


def test_an_anchor_that_waits_for_the_clock_is_set_aside_on_disk(chain: Chain) -> None:
    main = chain.grow(chain.genesis, 1)
    chain.vote(main, 5)
    late_ms = main.time + 10 * LIMIT_MS
    side = chain.take(chain.forge.anchor(chain.genesis, time=late_ms))
    chain.core.note_clock(main.time)
    assert chain.core.tree.get(side.id) is None
    chain.core.begin_bulk()
    assert chain.core.set_aside(side.id) is True
    record = schema.ANCHOR.get(chain.core.store, side.id)
    assert record is not None
    assert record.marks == AnchorMark.SET_ASIDE, "also while anchors share batches"
    assert chain.core.set_aside(side.id) is False
    assert chain.core.take_back(side.id) is True
    record = schema.ANCHOR.get(chain.core.store, side.id)
    assert record is not None
    assert record.marks == 0
    with pytest.raises(UnknownAnchorError):
        chain.core.set_aside(chain.vote(main)[0].id)


def test_a_set_aside_that_was_cut_off_is_finished_on_opening(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 1)
    anchor = chain.grow(base, 1)
    chain.grow(anchor, 1)
    record = schema.ANCHOR.get(chain.core.store, anchor.id)
    assert record is not None
    marked = msgspec.structs.replace(record, marks=int(AnchorMark.SET_ASIDE))
    batch = Batch()
    batch.put(schema.ANCHOR.key(anchor.id), schema.ANCHOR.encode(marked))
    chain.store().write(batch, sync=True)
    core = reopened(chain, chain.now_ms)
    assert core.tip.id == base.id


def test_a_tree_is_lowered_and_rises_again(deep: Deep) -> None:
    ordinary = deep.core.tree.root.height
    assert deep.core.lower_root(FORK) is True
    assert (deep.core.tree.root.height, deep.core.root.held) == (FORK, True)
    assert not len(deep.core.ledger.batch)
    assert deep.core.let_root_rise() is True
    assert (deep.core.tree.root.height, deep.core.root.held) == (ordinary, False)
    assert not len(deep.core.ledger.batch)
    assert deep.core.may_undo_from(0)
    deep.ran_ms += SETTLED_MS
    assert not deep.core.may_undo_from(ordinary - 1)
    assert deep.core.may_undo_from(ordinary)


def test_a_choice_that_is_put_off_is_made_in_the_end(chain: Chain) -> None:
    anchor = chain.forge.anchor(chain.genesis)
    with chain.core.choosing_once():
        chain.take(anchor)
        assert chain.core.tip.height == 0
    assert chain.core.tip.id == anchor.id
    above = chain.forge.anchor(anchor)
    chain.coin(above.coin)
    assert chain.core.submit_package(above.package(), choose=False) is Outcome.ACCEPTED
    assert chain.core.tip.id == anchor.id
    chain.core.advance()
    assert chain.core.tip.id == above.id
    assert not len(chain.core.ledger.batch)


# Transfers


def test_a_transfer_is_checked_by_all_but_its_witness(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 1)
    paid = chain.pay(base.id, REG.subsidy)
    assert chain.core.check_transfer(paid.raw, chain.now_ms) == paid
    newer = msgspec.structs.replace(paid.transfer, version=2)
    assert rule_broken(lambda: chain.core.check_transfer(newer.to_bytes(), chain.now_ms)) == (
        "BAD_VERSION"
    )
    chain.core.begin_bulk()
    assert chain.add_transfer(paid) is Outcome.ACCEPTED
    assert paid.wid not in chain.core.mempool.hidden
    # It is acknowledged: on disk, also while anchors share batches.
    assert schema.MEMPOOL.get(chain.core.store, paid.wid) is not None
    assert chain.core.check_transfer(paid.raw, chain.now_ms) is Outcome.KNOWN


def test_a_transfer_for_which_there_is_no_room_leaves_nothing(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 2)
    coins = [anchor.id for anchor in base.chain()[1:]]
    dear = chain.pay(coins[0], REG.subsidy, fee=90_000)
    chain.add_transfer(dear)
    chain.core.mempool._capacity = dear.size
    cheap = chain.pay(coins[1], REG.subsidy)
    with pytest.raises(FeeTooLowError):
        chain.add_transfer(cheap)
    assert chain.waiting() == {dear.wid}
    assert not len(chain.core.ledger.batch)
    assert schema.TRANSFER.get(chain.core.store, cheap.wid) is None


def test_what_has_waited_too_long_is_dropped_and_what_waits_is_loaded(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 1)
    paid = chain.pay(base.id, REG.subsidy)
    chain.add_transfer(paid)
    core = chain._open()
    core.load_mempool()
    assert {entry.wid for entry in core.mempool} == {paid.wid}
    assert not len(core.ledger.batch)
    core.expire_transfers(chain.now_ms + EXPIRY_MS + 1)
    assert not list(core.mempool)
    assert schema.MEMPOOL.get(core.store, paid.wid) is None


# What each operation leaves


def test_a_better_branch_is_left_to_the_operator(chain: Chain) -> None:
    tip = chain.grow(chain.genesis, 2)
    assert chain.core.refused is None
    chain.core.refuse(1, tip.id, 7)
    assert chain.core.refused == ReorgRefused(1, 1, tip.id)


def test_a_set_aside_is_finished_on_opening_though_the_clock_is_behind(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 1)
    anchor = chain.grow(base, 1)
    record = schema.ANCHOR.get(chain.core.store, anchor.id)
    assert record is not None
    marked = msgspec.structs.replace(record, marks=int(AnchorMark.SET_ASIDE))
    batch = Batch()
    batch.put(schema.ANCHOR.key(anchor.id), schema.ANCHOR.encode(marked))
    chain.store().write(batch, sync=True)
    core = reopened(chain, base.time - LIMIT_MS - 1)
    assert core.admission.is_behind
    assert core.tip.id == base.id


def test_a_coin_that_is_stored_and_comes_again_at_its_time_is_taken_in(chain: Chain) -> None:
    tip = chain.grow(chain.genesis, 1)
    time_ms = tip.time + 1_000
    early = chain.forge.coin(tip, time=time_ms + LIMIT_MS)
    core = reopened(chain, time_ms - 10)
    chain.take(chain.forge.anchor(tip, [early], time=time_ms))
    assert submit_coin(core, early, time_ms - 10) is Outcome.KNOWN
    assert submit_coin(core, early, time_ms) is Outcome.ACCEPTED
    assert submit_coin(core, early, time_ms) is Outcome.KNOWN
    # Coins that break a rule by themselves are not kept.
    assert rule_broken(lambda: chain.coin(chain.forge.coin(tip, version=2))) == "BAD_VERSION"


def test_a_vote_moves_the_tip(chain: Chain) -> None:
    chain.take(chain.forge.anchor(chain.genesis))
    other = chain.take(chain.forge.anchor(chain.genesis))
    chain.vote(other, 1)
    assert chain.core.tip.id == other.id


def test_what_is_found_dead_by_a_choice_that_was_put_off_is_on_disk(chain: Chain) -> None:
    dead = chain.forge.anchor(chain.genesis, body_fields={"state_root": bytes(32)})
    chain.coin(dead.coin)
    chain.core.submit_package(dead.package(), choose=False)
    chain.core.advance()
    assert chain.is_dead(dead)
    record = schema.ANCHOR.get(chain.core.store, dead.id)
    assert record is not None
    assert record.marks == AnchorMark.DEAD


def test_a_clock_that_has_caught_up_lets_the_tip_be_chosen(chain: Chain) -> None:
    base = chain.grow(chain.genesis, 1)
    late_ms = base.time + 10 * LIMIT_MS
    side = chain.take(chain.forge.anchor(base, time=late_ms))
    main = chain.forge.anchor(base)
    while main.id < side.id:
        main = chain.forge.anchor(base)
    chain.take(main)
    assert chain.core.tip.id == side.id
    core = reopened(chain, main.time)
    chain.vote(main, 1)
    assert core.tip.id == side.id
    core.note_clock(late_ms)
    assert core.tip.id == main.id


def test_what_the_clock_lets_count_is_written(chain: Chain) -> None:
    tip = chain.grow(chain.genesis, 1)
    time_ms = tip.time + 1_000
    early = chain.forge.coin(tip, time=time_ms + LIMIT_MS)
    core = reopened(chain, time_ms - 10)
    chain.take(chain.forge.anchor(tip, [early], time=time_ms))
    core.note_clock(time_ms)
    assert early.id in core.tree.nodes[tip.id].bound
    assert not len(core.ledger.batch)
