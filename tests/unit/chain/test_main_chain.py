"""The main chain: which anchors are connected and undone, what of them is told, and what waits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.framework.chains import (
    accept,
    open_core,
    replay_events,
    submit_body,
    submit_coin,
)
from tests.framework.corechain import SHALLOW, Chain
from tests.framework.forge import Forge, Forged
from tests.framework.rules import rule_broken
from unchained.node.chain import main_chain
from unchained.node.chain.core import ChainCore
from unchained.node.chain.mempool.waiting_transfers import UndoneTransfers
from unchained.node.chain.results import ConnectedAnchor, Outcome
from unchained.node.chain.template import build_template
from unchained.node.chain.tree import AnchorMark, AnchorStatus
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.params import REG, Network
from unchained.node.primitives.transfer import output_id, wid_of
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.errors import StoreFullError
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryDisk, MemoryStore
from unchained.storage.schema import AnchorRecord, TransferEntered


@pytest.fixture
def chain() -> Chain:
    return Chain()


def test_a_dead_anchor_and_what_descends_from_it_go_on_counting(chain: Chain) -> None:
    forge = chain.forge
    good = chain.grow(chain.genesis, 1)
    chain.vote(good, 3)
    bad = chain.take(forge.anchor(chain.genesis, body_fields={"state_root": bytes(32)}))
    # Not tried yet: nothing has won that leads through it.
    assert not chain.is_dead(bad)
    chain.core.take_changes()
    chain.vote_until_dead(bad)
    ((dead, error),) = chain.core.take_changes().dead
    assert (dead, error.name) == (bad.id, "BAD_STATE_ROOT")
    for _ in range(2):
        assert chain.core.tip.id == good.id
        child = chain.take(forge.anchor(bad))
        votes = chain.vote(child, 2)
        assert set(chain.core.tree.nodes[child.id].bound) == {vote.id for vote in votes}
        assert chain.core.tree.scores()[bad.id] > chain.core.tree.scores()[good.id]
        chain.restart()
        assert chain.is_dead(bad)
    # It is not tried again, and so told once.
    assert not chain.core.take_changes().dead
    chain.events_fit()


def test_when_an_anchor_of_the_best_path_fails_votes_elsewhere_still_count(chain: Chain) -> None:
    forge = chain.forge
    trunk = forge.anchor(chain.genesis)
    chain.take(trunk)
    left, right = sorted((forge.anchor(trunk) for _ in range(2)), key=lambda a: a.id)
    chain.take(left, right)
    chain.vote(left, 1)
    high = forge.anchor(left)
    chain.take(high)
    bad = forge.anchor(high, body_fields={"state_root": bytes(32)})
    chain.take(bad)
    assert chain.core.tip.id == high.id
    # two votes make the right branch win, and two more on the left win it back
    chain.vote(right, 4)
    assert chain.core.tip.id == right.id
    chain.vote(high, 2)
    chain.vote(left, 2)
    assert chain.core.tip.id == high.id


def test_votes_above_a_dead_anchor_count_for_its_ancestors(chain: Chain) -> None:
    forge = chain.forge
    main = chain.grow(chain.genesis, 1)
    chain.vote(main, 3)
    side = forge.anchor(chain.genesis)
    chain.take(side)
    a1 = forge.anchor(side)
    a2 = forge.anchor(a1, body_fields={"state_root": bytes(32)})
    a3 = forge.anchor(a2)
    chain.take(a1, a2, a3)
    assert chain.core.tip.id == main.id
    chain.vote_until_dead(a2, a3)
    # The side branch won by votes above an anchor that turned out dead: they count as before.
    assert chain.core.tip.id == a1.id
    chain.restart()
    chain.vote(main, 9)
    assert chain.core.tip.id == main.id


def test_a_chain_opens_again_after_its_tip_was_higher() -> None:
    chain = Chain(SHALLOW)
    fork = chain.grow(chain.genesis, 6)
    tall = chain.grow(fork, 3)
    assert chain.core.tip.id == tall.id
    short = chain.take(chain.forge.anchor(fork))
    chain.vote(short, 5)
    assert chain.core.tip.id == short.id
    assert chain.core.tip.height < tall.height
    chain.restart()
    chain.grow(short, 6)
    chain.restart()
    chain.events_fit()


def test_a_transfer_of_two_branches_outlives_one_of_them() -> None:
    chain = Chain(SHALLOW)
    forge = chain.forge
    base = chain.grow(chain.genesis, 1)
    paid = chain.pay(base.id, REG.subsidy)
    main = chain.grow(base, 3)
    chain.vote(main, 9)
    chain.take(forge.anchor(base, (), (), [paid]))
    side = forge.anchor(main, (), (), [paid])
    main = chain.take(forge.anchor(main))
    chain.vote(main, 3)
    chain.take(side)
    main = chain.grow(main, 1)
    assert chain.core.tip.id == main.id
    # the anchor that the first branch left has gone, and the second branch has not
    assert chain.core.tree.root.height == base.height + 1
    assert chain.core.transfer_bytes(paid.wid) is not None
    chain.vote(side, 9)
    assert chain.core.tip.id == side.id
    assert chain.waiting() == set()
    chain.restart()


def test_what_only_dead_anchors_listed_goes_with_their_branch() -> None:
    chain = Chain(msgspec.structs.replace(REG, max_reorg=6, window=3))
    forge = chain.forge
    coins = [chain.grow(chain.genesis, 1)]
    coins.append(chain.grow(coins[-1], 1))
    base = chain.grow(coins[-1], REG.maturity)
    alone, shared, waiting = (
        chain.pay(coins[0].id, REG.subsidy),
        chain.pay(coins[1].id, REG.subsidy, to=2),
        chain.pay(coins[1].id, REG.subsidy, to=3),
    )
    chain.add_transfer(waiting)
    good = chain.take(forge.anchor(base, transfers=[shared]))
    raw = b"no transfer"
    bad = forge.anchor(
        base,
        transfers=[alone, shared],
        raw_transfers={wid_of(raw): raw},
        body_fields={"transfers": (alone.wid, shared.wid, wid_of(raw))},
    )
    child = forge.anchor(bad, transfers=[waiting])
    chain.vote(good, 3)
    chain.take(bad, child)
    assert chain.core.transfer_bytes(alone.wid) is not None
    chain.vote_until_dead(bad)
    assert chain.core.tip.id == good.id
    for sized in (alone, shared, waiting):
        assert chain.core.transfer_bytes(sized.wid) is not None
    chain.restart()
    chain.grow(good, 8)
    assert bad.id not in chain.core.tree.nodes
    assert chain.core.transfer_bytes(alone.wid) is None
    assert chain.core.transfer_bytes(wid_of(raw)) is None
    assert chain.core.transfer_bytes(shared.wid) is not None
    # It conflicts with the main chain, and nothing lists it any more.
    assert chain.core.transfer_bytes(waiting.wid) is None
    chain.restart()
    chain.events_fit()


def test_an_undone_transfer_waits_again_and_once(chain: Chain) -> None:
    forge = chain.forge
    base = chain.grow(chain.genesis, 1)
    paid = chain.pay(base.id, REG.subsidy)
    first = chain.take(forge.anchor(base, (), (), [paid]))
    second = forge.anchor(base, (), (), [paid])
    second_bad = forge.anchor(second, body_fields={"state_root": bytes(32)})
    third = forge.anchor(base)
    chain.take(third)
    chain.vote(third, 2)
    assert chain.core.tip.id == third.id
    assert chain.waiting() == {paid.wid}
    chain.vote(first, 4)
    assert chain.core.tip.id == first.id
    assert chain.waiting() == set()
    # the second branch wins by votes above an anchor that fails; then the third does
    chain.take(second, second_bad)
    chain.vote_until_dead(second_bad)
    assert chain.core.tip.id == second.id
    while chain.core.tip.id != third.id:
        chain.vote(third)
    assert chain.waiting() == {paid.wid}
    chain.events_fit()
    chain.core = chain._open()
    assert chain.waiting() == {paid.wid}
    assert build_template(chain.core, chain.now_ms).body.transfers == (paid.wid,)


def test_what_a_reorganisation_makes_impossible_leaves_the_mempool(chain: Chain) -> None:
    forge = chain.forge
    base = chain.grow(chain.genesis, 1)
    first = chain.grow(base, 1)
    # it spends a coin that only this branch has, and no anchor holds a transfer
    assert chain.add_transfer(chain.pay(first.id, REG.subsidy)) is Outcome.ACCEPTED
    second = chain.take(forge.anchor(base))
    chain.vote(second, 3)
    assert chain.core.tip.id == second.id
    assert chain.waiting() == set()
    assert build_template(chain.core, chain.now_ms).body.transfers == ()
    chain.events_fit()


def test_a_chain_of_undone_transfers_waits_after_a_crash(chain: Chain) -> None:
    forge = chain.forge
    base = chain.grow(chain.genesis, 1)
    spent = [chain.pay(base.id, REG.subsidy, to=0)]
    for _ in range(5):
        value = spent[-1].transfer.outputs[0].value
        spent.append(chain.pay(output_id(spent[-1].txid, 0), value, to=0))
    first = chain.take(forge.anchor(base, (), (), spent))
    second = chain.take(forge.anchor(base))
    # what a crash leaves: the first anchor is off the chain, the mempool not judged anew
    undone = UndoneTransfers(chain.core._waiting, chain.core.tip.height)
    chain.core._main._disconnect(undone)
    assert chain.core.tip.id == base.id
    chain.core = chain._open()
    assert chain.core.tip.id in {first.id, second.id}
    chain.vote(second, 3)
    assert chain.waiting() == {sized.wid for sized in spent}
    chain.core = chain._open()
    assert chain.waiting() == {sized.wid for sized in spent}
    chain.events_fit()


def test_mints_are_worked_out_again_when_they_were_forgotten(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_chain, "REMEMBERED_MINTS", 1)
    forge = chain.forge
    base = chain.grow(chain.genesis, 2)
    loser = forge.anchor(base)
    first = forge.anchor(base)
    second = forge.anchor(first, [forge.coin(first)], [loser.coin, forge.coin(loser)])
    third = forge.anchor(second, [forge.coin(second)], [forge.coin(base), forge.coin(first)])
    chain.take(first, second, third)
    root = chain.core.ledger.state_root()
    other = chain.take(forge.anchor(base))
    chain.vote(other, 9)
    assert chain.core.tip.id == other.id
    chain.vote(third, 9)
    assert chain.core.tip.id == third.id
    assert chain.core.ledger.state_root() == root
    chain.restart()
    chain.vote(other, 9)
    assert chain.core.tip.id == other.id


class FailingStore(MemoryStore):
    """Fails at one write, and at all that come after it."""

    def __init__(self, disk: MemoryDisk, writes: int) -> None:
        super().__init__(disk)
        self._left = writes

    def write(self, batch: Batch, *, sync: bool) -> None:
        if self._left == 0:
            raise StoreFullError("no space left")
        self._left -= 1
        super().write(batch, sync=sync)


def busy_work(chain: Chain) -> list[Callable[[ChainCore], Any]]:
    forge = chain.forge
    base = forge.grow(chain.genesis, 1)
    paid = chain.pay(base.id, REG.subsidy)
    first = forge.anchor(base, [forge.coin(base)], (), [paid])
    first_child = forge.anchor(first)
    second = forge.anchor(base, (), ())
    second_child = forge.anchor(second, (), [first.coin])
    votes = [forge.coin(second) for _ in range(6)]
    now_ms = chain.now_ms
    work: list[Callable[[ChainCore], Any]] = [
        lambda core, a=anchor: accept(core, a, now_ms)  # type: ignore[misc]
        for anchor in (base, first, first_child, second, second_child)
    ]
    work += [lambda core, c=coin: submit_coin(core, c, now_ms) for coin in votes]  # type: ignore[misc]
    return work


@pytest.mark.parametrize("writes", range(1, 24, 2))
def test_a_store_that_fails_at_any_write_opens_again(chain: Chain, writes: int) -> None:
    work = busy_work(chain)
    disk = MemoryDisk()
    failing = FailingStore(disk, writes)
    core = None
    done = 0
    try:
        core = open_core(failing, REG)
        for step in work:
            step(core)
            done += 1
    except StoreFullError:
        pass
    again = open_core(MemoryStore(disk), REG)
    main, _, waiting = replay_events(again.store, chain.genesis.id)
    assert main[-1] == again.tip.id
    assert waiting == {entry.wid for entry in again.mempool}
    for step in work[max(0, done - 1) :]:
        step(again)
    fresh = open_core(MemoryStore(), REG)
    for step in work:
        step(fresh)
    assert again.tip.id == fresh.tip.id
    assert again.ledger.state_root() == fresh.ledger.state_root()


def test_any_order_of_votes_ends_in_one_tip() -> None:
    rng = random.Random(5)
    forge = Forge()
    base = forge.anchor(forge.genesis)
    sides = [forge.anchor(base) for _ in range(3)]
    votes = [forge.coin(rng.choice(sides)) for _ in range(12)]
    tips = set()
    for _ in range(6):
        core = open_core(MemoryStore(), REG)
        for anchor in (base, *rng.sample(sides, 3)):
            accept(core, anchor, forge.now_ms)
        for vote in rng.sample(votes, len(votes)):
            submit_coin(core, vote, forge.now_ms)
        tips.add(core.tip.id)
    assert len(tips) == 1


def test_as_many_mints_are_remembered_as_is_written_down(chain: Chain) -> None:
    assert main_chain.REMEMBERED_MINTS == 128
    ids = [CoinId(number.to_bytes(32, "big")) for number in range(130)]
    for anchor_id in ids[:128]:
        chain.core._main.remember_mints(anchor_id, [])
    assert list(chain.core._main._mints) == ids[:128]
    for anchor_id in ids[128:]:
        chain.core._main.remember_mints(anchor_id, [])
    assert list(chain.core._main._mints) == ids[2:]


def test_what_is_undone_twice_is_told_once(chain: Chain) -> None:
    """A crash may leave an anchor connected whose transfer waits already, and it may be undone on
    opening."""
    base = chain.grow(chain.genesis, 2)
    coins = [anchor.id for anchor in base.chain()[1:]]
    paid, other = (chain.pay(coin, REG.subsidy) for coin in coins)
    first = chain.take(chain.forge.anchor(base, transfers=[paid]))
    chain.vote(first, 2)
    second = chain.take(chain.forge.anchor(base, transfers=[paid, other]))
    core, main = chain.core, chain.core._main
    assert core.tip.id == first.id
    main._disconnect(UndoneTransfers(core._waiting, core.tip.height))
    main._connect_up_to(core.tree.nodes[second.id], core.tip)
    assert core.tip.id == second.id
    main._disconnect(UndoneTransfers(core._waiting, core.tip.height))
    assert core.tip.id == base.id
    rows = dict(schema.MEMPOOL.scan(core.store))
    # Before all that waits otherwise, in whatever order: each is judged when its parents are there.
    assert rows.keys() == {paid.wid, other.wid}
    assert {row.arrival for row in rows.values()} == {0}
    entered = Counter(
        event.wid
        for _, event in schema.EVENT.scan(core.store)
        if isinstance(event, TransferEntered)
    )
    assert entered == {paid.wid: 1, other.wid: 1}


# What is told, and what is on disk


def record_of(chain: Chain, anchor: Forged) -> AnchorRecord:
    found = schema.ANCHOR.get(chain.core.store, anchor.id)
    assert found is not None
    return found


def test_what_is_connected_is_told_with_what_it_lists(chain: Chain) -> None:
    forge = chain.forge
    base = chain.grow(chain.genesis, 2)
    chain.vote(base, 1)
    side, main = forge.anchor(base), chain.take(forge.anchor(base))
    chain.vote(main, 3)
    chain.take(side)
    strays = chain.vote(side, 2)
    fresh = chain.vote(main, 1)
    late = chain.vote(base, 2)
    paid = chain.pay(base.id, REG.subsidy)
    chain.core.take_changes()
    anchor = chain.take(
        forge.anchor(main, fresh, uncles=[*late, side.coin, *strays], transfers=[paid])
    )
    changes = chain.core.take_changes()
    assert changes.connected == [ConnectedAnchor(anchor.coin, 1, 3, 2, 1)]
    assert [counted.coin for counted in changes.counted] == [anchor.coin]
    assert (changes.disconnected, changes.dead, changes.ruled_out) == ([], [], [])
    record = record_of(chain, anchor)
    assert record == AnchorRecord(
        anchor.coin.raw,
        anchor.body.to_bytes(),
        AnchorStatus.COUNTS,
        0,
        record.connected_running_ms,
        0,
    )
    assert 0 < record.connected_running_ms <= chain.ran_ms
    chain.core.set_aside(anchor.id)
    changes = chain.core.take_changes()
    assert (changes.disconnected, changes.aside) == (
        [(anchor.height, anchor.id)],
        [(anchor.id, True)],
    )
    row = schema.MEMPOOL.get(chain.core.store, paid.wid)
    assert row is not None
    assert (row.added_ms, row.fee, row.size) == (main.time, paid.transfer.fee, paid.size)


def test_what_a_dead_and_an_invalid_anchor_leave_on_disk(chain: Chain) -> None:
    forge = chain.forge
    good = chain.grow(chain.genesis, 1)
    dead = chain.take(forge.anchor(good, body_fields={"state_root": bytes(32)}))
    assert record_of(chain, dead) == AnchorRecord(
        dead.coin.raw, dead.body.to_bytes(), AnchorStatus.COUNTS, 0, 0, AnchorMark.DEAD
    )
    invalid = forge.anchor(good, body_fields={"history_root": bytes(32)})
    chain.coin(invalid.coin)
    chain.core.take_changes()
    assert rule_broken(lambda: submit_body(chain.core, invalid)) == "BAD_HISTORY_ROOT"
    changes = chain.core.take_changes()
    assert [(anchor_id, error.name) for anchor_id, error in changes.ruled_out] == [
        (invalid.id, "BAD_HISTORY_ROOT")
    ]
    assert changes.barren == [invalid.id]
    assert record_of(chain, invalid) == AnchorRecord(
        invalid.coin.raw, b"", AnchorStatus.INVALID, 0, 0, 0
    )


def test_a_side_branch_is_set_aside_and_taken_back_on_disk(chain: Chain) -> None:
    main = chain.grow(chain.genesis, 1)
    chain.vote(main, 3)
    side = chain.take(chain.forge.anchor(chain.genesis))
    chain.core.take_changes()
    assert chain.core.set_aside(side.id)
    assert record_of(chain, side).marks == AnchorMark.SET_ASIDE
    assert chain.core.take_changes().aside == [(side.id, True)]
    assert chain.core.take_back(side.id)
    assert record_of(chain, side).marks == 0
    assert chain.core.take_changes().aside == [(side.id, False)]
    assert chain.core.tip.id == main.id


def test_each_step_of_the_tip_is_a_synced_batch_of_its_own(chain: Chain) -> None:
    def written() -> tuple[int, int]:
        found = chain.core.store.statistics()
        return found.batches, found.synced_batches

    base = chain.grow(chain.genesis, 1)
    anchors = [chain.forge.anchor(base)]
    anchors += [chain.forge.anchor(anchors[0])]
    before = written()
    with chain.core.choosing_once():
        chain.take(*anchors)
        # What only counts need not outlive the loss of power: it can be had again.
        assert written() == (before[0] + 4, before[1])
        before = written()
    assert chain.core.tip.id == anchors[1].id
    assert written() == (before[0] + 2, before[1] + 2)
    before = written()
    chain.core.set_aside(anchors[0].id)
    assert chain.core.tip.id == base.id
    assert written() == (before[0] + 2, before[1] + 2)


# What is left to the operator, and what is not

SETTLED_MS = SHALLOW.max_reorg * SHALLOW.epoch_ms


def still(network: Network = SHALLOW) -> Chain:
    """Return a chain whose running time stands still unless it is told."""
    chain = Chain(network)
    chain.step_ms = 0
    return chain


def test_a_reorganisation_of_just_max_reorg_is_followed_however_old() -> None:
    chain = still()
    fork = chain.grow(chain.genesis, 3)
    chain.grow(fork, SHALLOW.max_reorg)
    chain.ran_ms += 10 * SETTLED_MS
    side = chain.take(chain.forge.anchor(fork))
    chain.vote_until_tip(side)
    assert chain.core.refused is None


@pytest.mark.parametrize(("age_ms", "is_followed"), [(-1, True), (0, False)])
def test_the_oldest_anchor_that_would_be_undone_decides(age_ms: int, is_followed: bool) -> None:
    chain = still()
    fork = chain.grow(chain.genesis, 3)
    chain.ran_ms = 100
    oldest = chain.grow(fork, 1)
    chain.ran_ms = 200
    main = chain.grow(oldest, SHALLOW.max_reorg)
    while not chain.core.lower_root(fork.height):
        pass
    side = chain.take(chain.forge.anchor(fork))
    chain.ran_ms = 100 + SETTLED_MS + age_ms
    chain.core.take_changes()
    for _ in range(12):
        if chain.core.tip.id == side.id or chain.core.refused is not None:
            break
        chain.vote(side)
    assert (chain.core.tip.id == side.id) == is_followed
    assert (chain.core.tip.id == main.id) != is_followed
    assert (chain.core.refused is None) == is_followed
    # The tree is as deep as ever once the branch that it was held for has won or was refused.
    assert not chain.core.root.held


def test_what_is_left_when_a_deep_branch_is_refused_is_chosen_from_at_once() -> None:
    chain = still()
    fork = chain.grow(chain.genesis, 3)
    below = chain.grow(fork, SHALLOW.max_reorg)
    chain.grow(below, 1)
    while not chain.core.lower_root(fork.height):
        pass
    chain.ran_ms += SETTLED_MS
    with chain.core.choosing_once():
        deep = chain.take(chain.forge.anchor(fork))
        chain.vote(deep, 30)
        near = chain.take(chain.forge.anchor(below))
        chain.vote(near, 5)
    refused = chain.core.take_changes().refused
    assert refused is not None
    assert refused.winner == deep.id
    assert chain.core.tip.id == near.id


def test_a_refusal_ends_when_the_main_chain_has_made_up_for_it() -> None:
    chain = still()
    unit = anchor_work(SHALLOW.target0, SHALLOW)
    tip = chain.grow(chain.genesis, 3)
    chain.core.refuse(1, tip.id, unit - 1)
    tip = chain.grow(tip, 1)
    assert chain.core.refused is None
    chain.core.refuse(1, tip.id, unit)
    tip = chain.grow(tip, 1)
    assert chain.core.refused is not None, "as much is not more"
    tip = chain.grow(tip, 1)
    assert chain.core.refused is None
    # What is undone has to be made up for again.
    chain.core.refuse(1, tip.id, 2 * unit - 1)
    tip = chain.grow(tip, 1)
    chain.core.set_aside(tip.id)
    chain.core.take_back(tip.id)
    assert chain.core.tip.id == tip.id
    assert chain.core.refused is not None
    chain.grow(tip, 1)
    assert chain.core.refused is None


@pytest.mark.parametrize(("depth", "is_held"), [(0, True), (4, True), (5, False)])
def test_a_lowered_tree_is_held_until_more_than_max_reorg_has_been_undone(
    depth: int, is_held: bool
) -> None:
    chain = still()
    fork = chain.grow(chain.genesis, 3)
    side = chain.take(chain.forge.anchor(fork))
    main = chain.take(chain.forge.anchor(fork))
    chain.vote(main, 3)
    top = chain.grow(main, 6)
    while not chain.core.lower_root(fork.height):
        pass
    chain.coin(side.coin)
    submit_body(chain.core, side)
    assert chain.core.root.held
    chain.core.set_aside(side.id if depth == 0 else top.chain()[top.height - depth + 1].id)
    assert chain.core.tip.height == top.height - depth
    assert chain.core.root.held == is_held


def test_a_reorganisation_of_max_reorg_leaves_a_lowered_tree_as_it_is() -> None:
    chain = still()
    fork = chain.grow(chain.genesis, 4)
    chain.grow(fork, SHALLOW.max_reorg)
    while not chain.core.lower_root(2):
        pass
    side = chain.take(chain.forge.anchor(fork))
    chain.vote_until_tip(side)
    assert chain.core.root.held


def test_votes_that_are_in_the_tree_are_not_on_record(chain: Chain) -> None:
    chain.vote(chain.take(chain.forge.anchor(chain.genesis)), 2)
    side = chain.take(chain.forge.anchor(chain.genesis))
    chain.vote_until_tip(side)
    assert chain.core.tree.nodes[side.id].votes >= 2
    assert record_of(chain, side).votes == 0


def test_a_refusal_is_told_once_for_each_fork(chain: Chain) -> None:
    tip = chain.grow(chain.genesis, 3)
    told = []
    for fork_height in (1, 1, 2, 2):
        chain.core.refuse(fork_height, tip.id, 10**9)
        told.append(chain.core.take_changes().refused is not None)
    assert told == [True, False, True, False]
