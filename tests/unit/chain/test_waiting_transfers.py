"""What of the mempool is on disk: rows, bytes, events, also where it was not loaded in between."""

from __future__ import annotations

from typing import NoReturn

import msgspec
import pytest

from tests.framework.chains import accept
from tests.framework.corechain import Chain
from tests.framework.forge import Forged
from tests.framework.rules import rule_broken
from unchained.node.chain.coin_reads import transfers
from unchained.node.chain.core import ChainCore
from unchained.node.chain.mempool import waiting_transfers
from unchained.node.chain.mempool.mempool import PoolEntry, Reason
from unchained.node.chain.results import Outcome, Package
from unchained.node.consensus.params import REG, Network
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transfers import ProvenTransfer, TransferVerdict
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.transfer import SizedTransfer, output_id, wid_of
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.schema import TransferEntered, TransferLeft


class Rich(Chain):
    """A chain whose tip's state has ten coins to spend."""

    def __init__(self, network: Network = REG) -> None:
        super().__init__(network)
        self.coins = [self.forge.coin(self.genesis) for _ in range(10)]
        for coin in self.coins:
            self.coin(coin)
        first = self.take(self.forge.anchor(self.genesis, self.coins))
        self.base = self.grow(first, network.maturity)

    def paying(self, at: int, fee: int = 20_000) -> SizedTransfer:
        """Return a transfer of the coin of a number."""
        return self.pay(self.coins[at].id, REG.subsidy, fee=fee)

    def rows(self) -> set[bytes]:
        """Return the wids that wait on disk."""
        return {wid for wid, _ in schema.MEMPOOL.scan(self.core.store)}

    def stored(self, sized: SizedTransfer) -> bool:
        return schema.TRANSFER.get(self.core.store, sized.wid) is not None

    def left(self) -> list[tuple[bytes, Reason]]:
        """Return what has left, and why, by the event log."""
        return [
            (event.wid, Reason(event.reason))
            for _, event in schema.EVENT.scan(self.core.store)
            if isinstance(event, TransferLeft)
        ]

    def entered(self) -> list[bytes]:
        """Return what has entered, by the event log."""
        return [
            event.wid
            for _, event in schema.EVENT.scan(self.core.store)
            if isinstance(event, TransferEntered)
        ]

    def open_without_mempool(self) -> ChainCore:
        """Open the store as the command line does for a word of the operator."""
        self.core = ChainCore(self.store(), self.forge.network, self._running_ms, self.now_ms)
        return self.core

    def is_sound(self, *waiting: SizedTransfer) -> None:
        """Check that these wait, in memory, on disk and by the event log."""
        wids = {sized.wid for sized in waiting}
        assert self.waiting() == wids
        assert self.rows() == wids
        assert all(self.stored(sized) for sized in waiting)
        self.events_fit()


@pytest.fixture
def chain() -> Rich:
    return Rich()


def test_a_transfer_that_waits_is_on_disk_and_gone_when_it_leaves(chain: Rich) -> None:
    one, two = chain.paying(0), chain.paying(1)
    assert chain.add_transfer(one) is Outcome.ACCEPTED
    assert chain.add_transfer(one) is Outcome.KNOWN
    chain.add_transfer(two)
    chain.is_sound(one, two)
    record = schema.MEMPOOL.get(chain.core.store, one.wid)
    assert record is not None
    entry = chain.core.mempool.get(one.wid)
    assert entry is not None
    assert (record.arrival, record.added_ms) == (entry.arrival, chain.now_ms)
    assert (record.fee, record.size) == (one.transfer.fee, one.size)
    chain.take(chain.forge.anchor(chain.base, transfers=[one]))
    chain.is_sound(two)
    assert chain.stored(one), "an anchor lists it"
    assert chain.left() == [(one.wid, Reason.INCLUDED)]
    assert chain.add_transfer(one) is Outcome.KNOWN
    chain.core.expire_transfers(chain.now_ms + 10**9)
    chain.is_sound()
    assert not chain.stored(two)
    assert chain.left()[1:] == [(two.wid, Reason.EXPIRED)]


def test_what_a_full_mempool_does_not_take_leaves_nothing(chain: Rich) -> None:
    first = chain.paying(0, fee=900_000)
    chain.core.mempool._capacity = len(first.raw) + 10
    chain.add_transfer(first)
    cheap = chain.paying(1, fee=300_000)
    with pytest.raises(PolicyError) as caught:
        chain.add_transfer(cheap)
    assert caught.value.name == "FEE_TOO_LOW"
    chain.is_sound(first)
    assert not chain.stored(cheap)
    assert chain.entered() == [first.wid, cheap.wid]
    assert chain.left() == [(cheap.wid, Reason.EVICTED)]
    dear = chain.paying(2, fee=5_000_000)
    chain.add_transfer(dear)
    chain.is_sound(dear)


def test_what_waits_is_judged_when_it_is_loaded(chain: Rich) -> None:
    sized = [chain.paying(at) for at in range(4)]
    for one in sized:
        chain.add_transfer(one)
    order = [entry.wid for entry in chain.core.mempool]
    core = chain.open_without_mempool()
    assert chain.waiting() == set()
    # Two of them become impossible meanwhile: one is included, the coin of one is spent.
    rival = chain.paying(2, fee=77_000)
    accept(core, chain.forge.anchor(chain.base, transfers=[sized[1], rival]), chain.now_ms)
    core.load_mempool()
    chain.is_sound(sized[0], sized[3])
    assert chain.left() == [(sized[1].wid, Reason.INCLUDED), (sized[2].wid, Reason.INVALID)]
    assert [entry.wid for entry in core.mempool] == [order[0], order[3]]
    assert not chain.stored(sized[2])
    entry = core.mempool.get(sized[0].wid)
    assert entry is not None
    assert entry.added_ms == chain.now_ms
    chain.restart()


def set_aside(chain: Rich, *transfers: SizedTransfer) -> Forged:
    """Connect an anchor and set it aside, with the mempool not loaded."""
    core = chain.open_without_mempool()
    anchor = chain.forge.anchor(chain.base, transfers=transfers)
    accept(core, anchor, chain.now_ms)
    assert core.tip.id == anchor.id
    core.set_aside(anchor.id)
    assert core.tip.id == chain.base.id
    return anchor


def test_what_waited_on_disk_and_is_undone_waits_once(chain: Rich) -> None:
    waiting, other, third = chain.paying(0), chain.paying(1), chain.paying(2)
    chain.add_transfer(waiting)
    set_aside(chain, waiting, other, third)
    assert chain.entered() == [waiting.wid, other.wid, third.wid]
    chain.core.load_mempool()
    chain.is_sound(waiting, other, third)
    assert chain.left() == []


def test_all_that_waited_is_loaded_beside_what_was_undone(chain: Rich) -> None:
    before = [chain.paying(at) for at in range(5)]
    for one in before:
        chain.add_transfer(one)
    set_aside(chain, before[3], before[0])
    chain.core.load_mempool()
    chain.is_sound(*before)
    chain.restart()
    chain.is_sound(*before)


def test_of_one_transfer_that_was_signed_twice_one_waits(chain: Rich) -> None:
    waiting = chain.paying(0)
    twin = chain.forge.signed(waiting.transfer, {0})
    assert (twin.txid, twin.wid != waiting.wid) == (waiting.txid, True)
    more = chain.paying(1)
    chain.add_transfer(waiting)
    chain.add_transfer(more)
    set_aside(chain, twin)
    chain.core.load_mempool()
    chain.is_sound(twin, more)
    assert chain.left() == [(waiting.wid, Reason.CONFLICT)]
    assert not chain.stored(waiting)


def test_what_builds_on_an_undone_transfer_waits_on_after_it(chain: Rich) -> None:
    parent = chain.pay(chain.coins[0].id, REG.subsidy, to=0)
    value = parent.transfer.outputs[0].value
    child = chain.pay(output_id(parent.txid, 0), value, to=0)
    other = chain.paying(1)
    anchor = chain.take(chain.forge.anchor(chain.base, transfers=[parent]))
    for sized in (other, child):
        chain.add_transfer(sized)
    entry = chain.core.mempool.get(child.wid)
    assert entry is not None
    before = entry.arrival, entry.added_ms
    chain.core.set_aside(anchor.id)
    chain.is_sound(parent, other, child)
    entry = chain.core.mempool.get(child.wid)
    assert entry is not None
    assert (entry.arrival, entry.added_ms) == before
    assert entry.parents == {parent.wid}
    wids = [sized.wid for sized in (parent, other, child)]
    assert [entry.wid for entry in sorted(chain.core.mempool, key=_arrival)] == wids
    chain.restart()
    chain.is_sound(parent, other, child)


def _arrival(entry: PoolEntry) -> int:
    return entry.arrival


def test_bytes_that_a_job_lists_are_at_hand_when_they_have_left(chain: Rich) -> None:
    listed, unlisted = chain.paying(0), chain.paying(1)
    for sized in (listed, unlisted):
        chain.add_transfer(sized)
    anchor = chain.forge.anchor(chain.base, transfers=[listed])
    job = chain.core.hold_listed(anchor.body)
    chain.core.expire_transfers(chain.now_ms + 10**9)
    chain.is_sound()
    assert not chain.stored(listed)
    # The anchor found on that job brings no bytes along.
    chain.coin(anchor.coin)
    bare = Package(anchor.coin, anchor.body, {}, {})
    assert chain.core.submit_package(bare) is Outcome.ACCEPTED
    assert chain.core.tip.id == anchor.id
    assert chain.stored(listed)
    assert len(job) == 1
    other = chain.forge.anchor(chain.base, transfers=[unlisted])
    chain.coin(other.coin)
    bare = Package(other.coin, other.body, {}, {})
    assert rule_broken(lambda: chain.core.submit_package(bare)) == "BODY_MISSING"


@pytest.mark.parametrize(("kept", "spare"), [(4, 0), (3, 0), (3, 1)])
def test_undone_transfers_are_kept_up_to_a_bound_the_lowest_first(
    chain: Rich, monkeypatch: pytest.MonkeyPatch, kept: int, spare: int
) -> None:
    assert waiting_transfers.UNDONE_BYTES == 67_108_864, "64 MiB, as many as the mempool holds"
    sized = [chain.paying(at) for at in range(4)]
    low = chain.take(chain.forge.anchor(chain.base, transfers=sized[:2]))
    chain.take(chain.forge.anchor(low, transfers=sized[2:]))
    size = len(sized[0].raw)
    assert all(len(one.raw) == size for one in sized)
    monkeypatch.setattr(waiting_transfers, "UNDONE_BYTES", kept * size - spare)
    chain.core.set_aside(low.id)
    kept -= 1 if spare else 0
    chain.is_sound(*sized[:kept])
    gone = [(one.wid, Reason.EVICTED) for one in sized[: kept - 1 : -1]]
    assert chain.left() == gone
    assert [entry.wid for entry in chain.core.mempool] == [one.wid for one in sized[:kept]]


def test_a_known_transfer_is_not_judged_again(chain: Rich) -> None:
    one = chain.paying(0)
    chain.take(chain.forge.anchor(chain.base, transfers=[one]))
    assert chain.add_transfer(one) is Outcome.KNOWN
    again = chain.paying(0, fee=33_000)
    assert rule_broken(lambda: chain.add_transfer(again)) == "COIN_SPENT"


# Where the chain has become shorter, or another


SLOW = msgspec.structs.replace(REG, maturity=3)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_coins_that_are_immature_again_are_spent_by_nothing(depth: int) -> None:
    chain = Rich(SLOW)
    forge = chain.forge
    tip = chain.base
    minted: dict[int, list[CoinId]] = {}
    for _ in range(7):
        fresh = [forge.coin(tip)]
        late = [forge.coin(tip.chain()[-3])]
        tip = chain.take(forge.anchor(tip, fresh, late))
        minted[tip.height] = [tip.id, fresh[0].id, late[0].id]
    waiting: dict[bytes, int] = {}
    for height, coins in minted.items():
        if tip.height + 1 - height >= SLOW.maturity:
            for coin_id in coins:
                sized = chain.pay(coin_id, tip.unspent[coin_id].value)
                chain.add_transfer(sized)
                waiting[sized.wid] = height
    assert len(waiting) == 15
    chain.core.set_aside(tip.chain()[-depth].id)
    now = chain.core.tip.height
    assert now == tip.height - depth
    left = {wid for wid, height in waiting.items() if now + 1 - height < SLOW.maturity}
    assert len(left) == 3 * depth
    assert chain.waiting() == chain.rows() == waiting.keys() - left
    assert sorted(chain.left()) == sorted((wid, Reason.INVALID) for wid in left)
    chain.events_fit()
    chain.restart()


def locked(chain: Rich, at: int, height: int) -> SizedTransfer:
    """Return a transfer of the coin of a number that is locked until a height."""
    coin_id = chain.coins[at].id
    outputs = [(REG.subsidy - 20_000, 1)]
    return chain.forge.transfer([(coin_id, 0)], outputs, fee=20_000, lock_height=height)


def test_a_transfer_waits_for_the_next_anchor_and_for_none_after_that(chain: Rich) -> None:
    height = chain.base.height + 1
    late = locked(chain, 0, height + 1)
    assert rule_broken(lambda: chain.add_transfer(late)) == "LOCKED_UNTIL_HEIGHT"
    chain.add_transfer(locked(chain, 0, height))
    assert len(chain.waiting()) == 1


def test_what_is_locked_again_leaves(chain: Rich) -> None:
    top = chain.grow(chain.base, 1)
    last = chain.take(
        chain.forge.anchor(top, transfers=[undone := locked(chain, 3, top.height + 1)])
    )
    now, before = locked(chain, 0, last.height + 1), locked(chain, 1, last.height)
    free = chain.paying(2)
    for sized in (now, before, free):
        chain.add_transfer(sized)
    chain.core.set_aside(last.id)
    chain.is_sound(before, free, undone)
    assert chain.left() == [(now.wid, Reason.INVALID)]


def test_what_spends_a_coin_that_an_undone_anchor_minted_leaves(chain: Rich) -> None:
    fresh = chain.forge.coin(chain.base)
    anchor = chain.take(chain.forge.anchor(chain.base, [fresh]))
    gone = [chain.pay(coin_id, REG.subsidy) for coin_id in (anchor.id, fresh.id)]
    stays = chain.paying(0)
    for sized in (*gone, stays):
        chain.add_transfer(sized)
    rival = chain.take(chain.forge.anchor(chain.base))
    chain.vote(rival, 9)
    assert chain.core.tip.id == rival.id
    chain.is_sound(stays)
    assert sorted(chain.left()) == sorted((sized.wid, Reason.INVALID) for sized in gone)


def test_what_spends_an_output_that_an_undone_transfer_made_leaves_with_it(chain: Rich) -> None:
    parent = chain.pay(chain.coins[0].id, REG.subsidy, to=0)
    value = parent.transfer.outputs[0].value
    child = chain.pay(output_id(parent.txid, 0), value)
    stays = chain.paying(1)
    chain.take(chain.forge.anchor(chain.base, transfers=[parent]))
    for sized in (child, stays):
        chain.add_transfer(sized)
    rival = chain.take(chain.forge.anchor(chain.base, transfers=[chain.paying(0, fee=55_000)]))
    chain.vote(rival, 9)
    assert chain.core.tip.id == rival.id
    chain.is_sound(stays)
    assert sorted(chain.left()) == sorted((one.wid, Reason.INVALID) for one in (parent, child))


# Bytes and verdicts


def test_a_body_may_list_what_waits_without_bringing_it(chain: Rich) -> None:
    waiting = chain.paying(0)
    chain.add_transfer(waiting)
    anchor = chain.forge.anchor(chain.base, transfers=[waiting])
    chain.coin(anchor.coin)
    bare = Package(anchor.coin, anchor.body, {}, {})
    assert chain.core.submit_package(bare) is Outcome.ACCEPTED
    assert chain.core.tip.id == anchor.id
    chain.is_sound()


def test_what_a_transfer_is_found_to_be_is_remembered(chain: Rich) -> None:
    one = chain.paying(0)
    memory = chain.core.transfers
    assert memory.verdict(one.wid) is None
    chain.take(chain.forge.anchor(chain.base, transfers=[one]))
    assert memory.verdict(one.wid) == TransferVerdict(None, None)
    found = chain.core._waiting.validated(one.wid)
    assert (found.sized, found.verdict, found.length) == (
        one,
        TransferVerdict(None, None),
        len(one.raw),
    )
    raw = b"no transfer"
    bad = chain.forge.anchor(
        chain.base, raw_transfers={wid_of(raw): raw}, body_fields={"transfers": (wid_of(raw),)}
    )
    chain.take(bad)
    chain.vote_until_dead(bad)
    for _ in range(2):
        found = chain.core._waiting.validated(wid_of(raw))
        assert found.sized is None
        assert found.verdict.alone is not None
        assert (found.verdict.alone.name, found.length) == ("NON_CANONICAL", len(raw))


def test_a_transfer_that_is_not_kept_decoded_is_decoded_anew(chain: Rich) -> None:
    chain.core.transfers._decoded_bytes_max = 0
    one = chain.paying(0)
    chain.take(chain.forge.anchor(chain.base, transfers=[one]))
    assert chain.core.transfers.proven(one.wid) is None
    assert chain.core.transfers.verdict(one.wid) == TransferVerdict(None, None)
    for _ in range(2):
        found = chain.core._waiting.validated(one.wid)
        assert (found.sized, found.length) == (one, len(one.raw))
    assert chain.core._waiting.decoded(one.wid) == one


def test_of_what_is_known_no_more_is_looked_at_than_that(
    chain: Rich, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = chain.paying(0), chain.paying(1)
    chain.take(chain.forge.anchor(chain.base, transfers=[one]))
    core = chain.core
    assert core.check_transfer(two.raw, chain.now_ms) == two
    assert core.submit_transfer(ProvenTransfer(two), chain.now_ms) is Outcome.ACCEPTED

    def look(*_: object) -> NoReturn:
        raise AssertionError("looked at")

    monkeypatch.setattr(waiting_transfers, "check_transfer_alone", look)
    assert core.check_transfer(one.raw, chain.now_ms) is Outcome.KNOWN
    monkeypatch.setattr(waiting_transfers, "decode_transfer", look)
    assert core.check_transfer(two.raw, chain.now_ms) is Outcome.KNOWN


def test_what_is_hidden_waits_and_is_listed_once_it_is_shown(chain: Rich) -> None:
    one, two = ProvenTransfer(chain.paying(0)), ProvenTransfer(chain.paying(1))
    core = chain.core
    assert core.submit_transfer(one, chain.now_ms, hidden=True) is Outcome.ACCEPTED
    assert core.submit_transfer(two, chain.now_ms) is Outcome.ACCEPTED
    chain.is_sound(one.sized, two.sized)
    assert core.mempool.select(10**6) == [two.sized.wid]
    assert core.submit_transfer(one, chain.now_ms, hidden=True) is Outcome.KNOWN
    assert core.submit_transfer(one, chain.now_ms) is Outcome.ACCEPTED
    assert core.mempool.select(10**6) == [one.sized.wid, two.sized.wid]
    assert core.submit_transfer(one, chain.now_ms) is Outcome.KNOWN
    assert core.submit_transfer(two, chain.now_ms, hidden=True) is Outcome.KNOWN
    assert core.mempool.select(10**6) == [one.sized.wid, two.sized.wid], "once shown, it stays so"


@pytest.mark.parametrize("what", ["child", "conflict", "twin", "itself", "of a child", "sibling"])
@pytest.mark.parametrize("shown", ["open", "other's", "its own"])
def test_nobody_can_tell_what_is_hidden_by_what_he_sends(what: str, shown: str) -> None:
    """A node that holds a hidden transfer answers like one that has never heard of it, but to who
    handed it in."""
    answers = []
    for holds in (True, False):
        chain = Rich()
        fee = 40_000
        one = chain.pay(chain.coins[0].id, REG.subsidy, to=0, fee=fee)
        child = chain.pay(output_id(one.txid, 0), REG.subsidy - fee, to=0, fee=fee)
        sent = {
            "child": child,
            "conflict": chain.paying(0),
            "twin": chain.forge.signed(one.transfer, {0}),
            "itself": one,
            "of a child": chain.pay(output_id(child.txid, 0), REG.subsidy - 2 * fee),
            "sibling": chain.pay(output_id(one.txid, 0), REG.subsidy - fee),
        }[what]
        hidden = [one, child] if what in ("of a child", "sibling") else [one]
        if holds:
            for sized in hidden:
                chain.core.submit_transfer(ProvenTransfer(sized), chain.now_ms, True, None)
        known = frozenset(sized.wid for sized in hidden) if shown == "its own" else frozenset()
        try:
            answer: object = chain.core.check_transfer(sent.raw, chain.now_ms, known)
            if isinstance(answer, SizedTransfer):
                answer = chain.core.submit_transfer(
                    ProvenTransfer(sent), chain.now_ms, shown != "open", known
                )
            elif shown == "open":
                # What comes openly and is known is shown from here on, as if it were news.
                answer = chain.core.submit_transfer(ProvenTransfer(sent), chain.now_ms)
        except (ProtocolError, PolicyError) as error:
            answer = error.name
        answers.append(answer)
        if shown == "open" and answer is Outcome.ACCEPTED:
            assert chain.core.mempool.select(10**6) == [sent.wid]
        chain.events_fit()
    holder, other = answers
    if shown == "its own":
        assert holder != other
    elif (what, shown) == ("itself", "other's"):
        assert holder is Outcome.KNOWN  # the stem is told by the wid, and says nothing
    else:
        assert holder == other


def test_what_waits_openly_is_replaced_by_what_pays_for_it_alone(chain: Rich) -> None:
    """Whatever is hidden that builds on it: nobody else counts that."""
    one = chain.pay(chain.coins[0].id, REG.subsidy, to=0)
    child = chain.pay(output_id(one.txid, 0), REG.subsidy - 20_000, fee=10**6)
    chain.core.submit_transfer(ProvenTransfer(one), chain.now_ms)
    chain.core.submit_transfer(ProvenTransfer(child), chain.now_ms, True, None)
    instead = chain.paying(0, fee=60_000)
    assert chain.core.submit_transfer(ProvenTransfer(instead), chain.now_ms) is Outcome.ACCEPTED
    chain.is_sound(instead)
    assert chain.core.mempool.hidden == set()


def test_what_a_body_lists_is_given_out_however_it_comes_in(chain: Rich) -> None:
    one = ProvenTransfer(chain.paying(0))
    core, wid = chain.core, one.sized.wid
    on_main = chain.grow(chain.base, 2)
    aside = chain.take(chain.forge.anchor(chain.base, transfers=[one.sized]))
    assert core.tip.id == on_main.id != aside.id
    assert core.mempool.get(wid) is None
    assert core.submit_transfer(one, chain.now_ms, hidden=True) is Outcome.ACCEPTED
    assert transfers(core.view, [wid], 1 << 20) == [one.sized.raw]
    # Once given out, it need not be kept out of a body of ours.
    assert core.mempool.select(10**6) == [wid]


def test_nothing_is_kept_hidden_that_has_left(chain: Rich) -> None:
    one = ProvenTransfer(chain.paying(0))
    chain.core.submit_transfer(one, chain.now_ms, hidden=True)
    assert chain.core.mempool.hidden == {one.sized.wid}
    chain.core.expire_transfers(chain.now_ms + 10**9)
    assert chain.core.mempool.hidden == set()
    assert chain.core.submit_transfer(one, chain.now_ms) is Outcome.ACCEPTED
    assert chain.core.mempool.select(10**6) == [one.sized.wid]
