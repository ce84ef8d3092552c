"""The chain core: which coins and bodies it takes in, and what is left after each of them."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.chains import (
    open_core,
    submit_body,
    submit_coin,
)
from tests.framework.corechain import SHALLOW, Chain
from tests.framework.forge import Forge, Forged, key_lock, of
from tests.framework.rules import rule_broken
from unchained.node.chain import journal
from unchained.node.chain.results import NeedsProof, Outcome, Package, ProvenAnchor
from unchained.node.chain.template import build_template
from unchained.node.chain.tree import AnchorStatus
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import validate_transfer
from unchained.node.primitives.transfer import output_id, wid_of
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.memory import MemoryStore


@pytest.fixture
def chain() -> Chain:
    return Chain()


# Coins


def test_a_known_coin_is_known(chain: Chain) -> None:
    coin = chain.vote(chain.genesis)[0]
    assert chain.coin(coin) is Outcome.KNOWN
    assert chain.core.submit_coin(coin, chain.now_ms) is Outcome.KNOWN
    chain.restart()
    assert chain.coin(coin) is Outcome.KNOWN


def test_what_is_not_proven_is_judged_but_not_kept(chain: Chain) -> None:
    coin = chain.forge.coin(chain.genesis)
    assert chain.core.submit_coin(coin, chain.now_ms) == NeedsProof((coin,))
    assert not chain.core.knows_coin(coin.id)
    forged = chain.forge.forged_mix(chain.genesis)
    assert rule_broken(lambda: chain.coin(forged)) == "BAD_MIX"
    assert not chain.core.knows_coin(forged.id)


def test_why_a_parent_is_no_parent(chain: Chain) -> None:
    forge = chain.forge
    unknown = forge.anchor(chain.genesis)
    child = forge.coin(unknown)
    assert rule_broken(lambda: chain.coin(child)) == "UNKNOWN_PARENT"
    chain.coin(unknown.coin)
    # its coin is there, its body is not
    assert rule_broken(lambda: chain.coin(child)) == "UNKNOWN_PARENT"
    submit_body(chain.core, unknown)
    assert chain.coin(child) is Outcome.ACCEPTED
    as_parent = forge.adopt(unknown, child, forge.body(unknown))
    assert rule_broken(lambda: chain.coin(forge.coin(as_parent))) == "PARENT_NOT_ANCHOR"
    chain.restart()
    assert rule_broken(lambda: chain.coin(forge.coin(as_parent))) == "PARENT_NOT_ANCHOR"


def test_nothing_is_built_on_an_invalid_anchor(chain: Chain) -> None:
    forge = chain.forge
    bad = forge.anchor(chain.genesis, body_fields={"history_root": bytes(32)})
    chain.coin(bad.coin)
    assert rule_broken(lambda: submit_body(chain.core, bad)) == "BAD_HISTORY_ROOT"
    assert chain.core.tip.height == 0
    for _ in range(2):
        assert rule_broken(lambda: chain.coin(forge.coin(bad))) == "PARENT_INVALID"
        assert submit_body(chain.core, bad) is Outcome.KNOWN
        chain.restart()
    # it stays a coin: a vote for its parent, and fresh for a child of it
    assert bad.id in chain.core.tree.root.bound
    anchor = chain.take(forge.anchor(chain.genesis, [bad.coin]))
    assert chain.core.tip.id == anchor.id


def test_old_parents_are_stale() -> None:
    chain = Chain(SHALLOW)
    low = chain.grow(chain.genesis, 2)
    chain.grow(low, 4)
    chain.vote(low)
    top = chain.core.tip
    assert top.height - low.height == SHALLOW.max_reorg
    for _ in range(2):
        genesis_coin = chain.forge.coin(chain.genesis)
        assert rule_broken(lambda c=genesis_coin: chain.coin(c)) == "STALE_PARENT"
        wrong = chain.forge.coin(chain.genesis, height=9)
        assert rule_broken(lambda c=wrong: chain.coin(c)) == "BAD_HEIGHT"
        chain.restart()
    chain.vote(low)


def test_a_coin_ahead_of_the_clock_is_not_kept(chain: Chain) -> None:
    coin = chain.forge.coin(chain.genesis, time=chain.now_ms + REG.future_limit_ms + 1)
    assert rule_broken(lambda: chain.coin(coin)) == "TIME_TOO_NEW"
    assert submit_coin(chain.core, coin, chain.now_ms + 1) is Outcome.ACCEPTED


# Bodies


def test_a_body_of_another_root_leaves_the_anchor_unjudged(chain: Chain) -> None:
    anchor = chain.forge.anchor(chain.genesis)
    chain.coin(anchor.coin)
    other = msgspec.structs.replace(anchor.body, state_root=bytes(32))
    package = Package(anchor.coin, other, {}, {})
    rule = rule_broken(lambda: chain.core.submit_proven_anchor(ProvenAnchor(package)))
    assert rule == "BAD_BODY_ROOT"
    assert submit_body(chain.core, anchor) is Outcome.ACCEPTED


def test_a_package_waits_for_its_anchor_and_for_what_it_lists(chain: Chain) -> None:
    forge = chain.forge
    fresh = forge.coin(chain.genesis)
    anchor = forge.anchor(chain.genesis, [fresh])
    assert rule_broken(lambda: submit_body(chain.core, anchor)) == "UNKNOWN_PARENT"
    plain = forge.adopt(chain.genesis, fresh, forge.body(chain.genesis))
    assert rule_broken(lambda: submit_body(chain.core, plain)) == "NOT_ANCHOR"
    chain.coin(anchor.coin)
    bare = Package(anchor.coin, anchor.body, {}, {})
    assert (
        rule_broken(lambda: chain.core.submit_proven_anchor(ProvenAnchor(bare))) == "BODY_MISSING"
    )
    chain.coin(fresh)
    assert chain.core.submit_package(bare) is Outcome.ACCEPTED


def test_a_package_of_unproven_coins_needs_proof_and_is_condemned_for_a_forged_one(
    chain: Chain,
) -> None:
    forge = chain.forge
    good, forged = forge.coin(chain.genesis), forge.forged_mix(chain.genesis)
    anchor = forge.anchor(chain.genesis, [good, forged])
    chain.coin(anchor.coin)
    answer = chain.core.submit_package(anchor.package())
    assert isinstance(answer, NeedsProof)
    assert set(answer.coins) == {good, forged}
    assert rule_broken(lambda: submit_body(chain.core, anchor)) == "BAD_MIX"
    assert chain.core.tree.nodes[anchor.id].status is AnchorStatus.INVALID
    assert not chain.core.knows_coin(good.id)
    chain.restart()


@pytest.mark.parametrize("raw", [b"", b"\xc0", bytes(256 * 1024)])
def test_bytes_that_are_no_transfer_make_the_anchor_dead(chain: Chain, raw: bytes) -> None:
    listed = wid_of(raw)
    anchor = chain.forge.anchor(
        chain.genesis, raw_transfers={listed: raw}, body_fields={"transfers": (listed,)}
    )
    chain.coin(anchor.coin)
    submit_body(chain.core, anchor)
    ((anchor_id, error),) = chain.core.take_changes().dead
    assert (anchor_id, error.name) == (anchor.id, "NON_CANONICAL")
    chain.restart()


def test_bytes_that_are_too_long_are_not_read(chain: Chain) -> None:
    raw = bytes(256 * 1024 + 1)
    anchor = chain.forge.anchor(
        chain.genesis,
        raw_transfers={wid_of(raw): raw},
        body_fields={"transfers": (wid_of(raw),)},
    )
    chain.coin(anchor.coin)
    assert rule_broken(lambda: submit_body(chain.core, anchor)) == "BODY_MISSING"


def why_dead(chain: Chain, anchor: Forged) -> str:
    chain.core.take_changes()
    chain.coin(anchor.coin)
    submit_body(chain.core, anchor)
    ((anchor_id, error),) = chain.core.take_changes().dead
    assert anchor_id == anchor.id
    return error.name


@pytest.mark.parametrize("remembered", [False, True])
def test_sizes_are_added_up_before_transfers_are_judged(remembered: bool) -> None:
    chain = Chain(msgspec.structs.replace(REG, max_body_size=20_000))
    first = chain.grow(chain.genesis, 1)
    value = REG.subsidy - 13
    sized = chain.forge.transfer([(first.id, 0)], [(value, 1)] + [(1, 1)] * 13)
    # by its own faults it would break BAD_VERSION, and its outputs make it too large
    broken = of(msgspec.structs.replace(sized.transfer, version=2))
    assert len(broken.raw) < 20_000 < broken.size
    if remembered:
        found = validate_transfer(broken.raw, chain.forge.network)
        chain.core.transfers.remember(broken.wid, found)
    anchor = chain.forge.anchor(first, (), (), [broken])
    assert why_dead(chain, anchor) == "BODY_TOO_LARGE"


def test_a_body_may_be_exactly_full() -> None:
    for spare, rule in ((0, None), (-1, "BODY_TOO_LARGE")):
        forge = Forge()
        first = forge.anchor(forge.genesis)
        sized = forge.transfer([(first.id, 0)], [(REG.subsidy, 1)])
        network = msgspec.structs.replace(REG, max_body_size=sized.size + spare)
        chain = Chain(network)
        first = chain.grow(chain.genesis, 1)
        sized = chain.forge.transfer([(first.id, 0)], [(REG.subsidy, 1)])
        anchor = chain.forge.anchor(first, (), (), [sized])
        if rule is None:
            assert chain.core.tip.id == first.id
            chain.take(anchor)
            assert chain.core.tip.id == anchor.id
        else:
            assert why_dead(chain, anchor) == rule


def test_transfers_are_judged_in_order(chain: Chain) -> None:
    first = chain.grow(chain.genesis, 1)
    parent = chain.pay(first.id, REG.subsidy, fee=0)
    child = chain.forge.transfer([(output_id(parent.txid, 0), 1)], [(REG.subsidy, 2)])
    wrong = chain.forge.anchor(first, (), (), [child, parent])
    assert why_dead(chain, wrong) == "COIN_UNKNOWN"
    twice = chain.forge.anchor(first, (), (), [parent, parent])
    assert why_dead(chain, twice) == "COIN_SPENT"
    right = chain.take(chain.forge.anchor(first, (), (), [parent, child]))
    assert chain.core.tip.id == right.id
    mine = chain.forge.transfer([(right.id, 0)], [(REG.subsidy, 2)])
    after = chain.forge.anchor(right, (), (), [mine])
    chain.take(after)
    assert chain.core.tip.id == after.id
    assert chain.core.ledger.supply == 3 * REG.subsidy


# Branches that end


def test_what_leaves_with_a_branch_can_come_back_as_a_stray() -> None:
    chain = Chain(msgspec.structs.replace(REG, max_reorg=3, window=8))
    forge = chain.forge
    loser = forge.anchor(chain.genesis)
    second = forge.anchor(loser)
    main = chain.grow(chain.genesis, 1)
    chain.vote(main, 8)
    chain.take(loser, second)
    (vote,) = chain.vote(second, 1)
    listed = chain.take(forge.anchor(main, (), [loser.coin, second.coin]))
    top = chain.grow(listed, 3)
    assert chain.core.tree.root.height > 0
    assert not chain.core.knows_coin(vote.id)
    anchor = forge.anchor(top, (), [vote])
    chain.take(anchor)
    assert chain.core.tip.id == anchor.id
    assert schema.COIN.get(chain.core.store, vote.id) == vote.raw
    chain.restart()


def test_a_vote_that_was_first_a_stray_counts_when_its_parent_does(chain: Chain) -> None:
    forge = chain.forge
    main = chain.grow(chain.genesis, 1)
    loser = forge.anchor(chain.genesis)
    stray = forge.coin(loser)
    bad = forge.anchor(main, (), [loser.coin, stray], body_fields={"state_root": bytes(32)})
    chain.take(bad)
    assert chain.core.knows_coin(stray.id)
    # whoever lists it is invalid, and the node has forgotten why it knows the coin
    chain.restart()
    submit_body(chain.core, loser)
    chain.coin(stray)
    assert stray.id in chain.core.tree.nodes[loser.id].bound
    assert chain.coin(stray) is Outcome.KNOWN
    chain.restart()


@pytest.mark.parametrize("restarting", [False, True])
def test_a_listed_stray_becomes_a_vote_by_itself(chain: Chain, restarting: bool) -> None:
    forge = chain.forge
    main = chain.grow(chain.genesis, 1)
    loser = forge.anchor(chain.genesis)
    stray = forge.coin(loser)
    chain.take(forge.anchor(main, (), [loser.coin, stray]))
    if restarting:
        chain.restart()
    submit_body(chain.core, loser)
    assert stray.id in chain.core.tree.nodes[loser.id].bound


# Templates


def test_a_template_holds_all_that_may_be_listed(chain: Chain) -> None:
    forge = chain.forge
    base = chain.grow(chain.genesis, 1)
    chain.vote(base, 2)
    side = forge.anchor(base)
    main = chain.take(forge.anchor(base))
    chain.vote(main, 3)
    chain.take(side)
    strays = chain.vote(side, 2)
    template = build_template(chain.core, chain.now_ms)
    assert set(template.body.uncles) >= {coin.id for coin in strays} | {side.id}
    assert set(template.body.fresh) == set(chain.core.tip.bound)
    header = template.header(lock=key_lock(0), time=template.parent_time + 1)
    coin = forge.mine(header, grade=True)
    listed = [chain.core.archive.coin(CoinId(i)) for i in template.body.uncles]
    anchor = forge.adopt(main, coin, template.body, [c for c in listed if c is not None])
    chain.take(anchor)
    assert chain.core.tip.id == anchor.id


def test_a_template_finds_strays_of_a_branch_that_left_long_ago() -> None:
    chain = Chain(msgspec.structs.replace(REG, window=3))
    forge = chain.forge
    base = chain.grow(chain.genesis, 1)
    side, main = base, base
    chain.vote(base, 1)
    for _ in range(6):
        losing = forge.anchor(side)
        main = chain.take(forge.anchor(main, (), [side.coin] if side is not base else []))
        chain.vote(main, 3)
        side = chain.take(losing)
    (stray,) = chain.vote(side, 1)
    assert chain.core.tip.id == main.id
    template = build_template(chain.core, chain.now_ms)
    assert side.id in template.body.uncles
    assert stray.id in template.body.uncles


# Events and writing


def test_events_are_numbered_without_gaps_in_bulk_too(chain: Chain) -> None:
    forge = chain.forge
    seen: list[tuple[int, int]] = []

    def take() -> None:
        changes = chain.core.take_changes()
        if changes.events:
            seen.append((changes.first_event, len(changes.events)))

    tip = chain.grow(chain.genesis, 2)
    take()
    chain.core.begin_bulk()
    for _ in range(3):
        tip = chain.take(forge.anchor(tip))
        take()
    assert len(seen) == 1
    chain.core.end_bulk()
    take()
    chain.grow(tip, 1)
    take()
    expected = 0
    for first, count in seen:
        assert first == expected
        expected += count
    assert expected == chain.core.ledger.next_event
    chain.events_fit()


def test_bulk_is_written_in_batches(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BULK_BATCH_BYTES", 20_000)
    chain.core.begin_bulk()
    batches = chain.core.store.statistics().batches
    tip = chain.grow(chain.genesis, 30)
    while not len(chain.core.ledger.batch):
        tip = chain.grow(tip, 1)
    written = chain.core.store.statistics().batches - batches
    assert 0 < written < 30
    on_disk = schema.meta_id(chain.core.store, schema.META_TIP)
    assert on_disk != tip.id
    half = open_core(MemoryStore(chain.disk), REG)
    assert half.tip.id == on_disk
    chain.core.end_bulk()
    chain.restart()
