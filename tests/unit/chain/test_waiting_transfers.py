"""What of the mempool is on disk: rows, bytes, events, also where it was not loaded in between."""

from __future__ import annotations

import pytest

from tests.framework.chains import accept
from tests.framework.corechain import Chain
from tests.framework.forge import Forged
from tests.framework.rules import rule_broken
from unchained.node.chain.core import ChainCore
from unchained.node.chain.mempool import waiting_transfers
from unchained.node.chain.mempool.mempool import PoolEntry, Reason
from unchained.node.chain.results import Outcome, Package
from unchained.node.consensus.params import REG
from unchained.node.consensus.policy import PolicyError
from unchained.node.primitives.transfer import SizedTransfer, output_id
from unchained.storage import schema
from unchained.storage.schema import TransferEntered, TransferLeft


class Rich(Chain):
    """A chain whose tip's state has ten coins to spend."""

    def __init__(self) -> None:
        super().__init__()
        self.coins = [self.forge.coin(self.genesis) for _ in range(10)]
        for coin in self.coins:
            self.coin(coin)
        first = self.take(self.forge.anchor(self.genesis, self.coins))
        self.base = self.grow(first, REG.maturity)

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


def test_undone_transfers_are_kept_up_to_a_bound_the_lowest_first(
    chain: Rich, monkeypatch: pytest.MonkeyPatch
) -> None:
    sized = [chain.paying(at) for at in range(4)]
    low = chain.take(chain.forge.anchor(chain.base, transfers=sized[:2]))
    chain.take(chain.forge.anchor(low, transfers=sized[2:]))
    size = len(sized[0].raw)
    assert all(len(one.raw) == size for one in sized)
    monkeypatch.setattr(waiting_transfers, "UNDONE_BYTES", 3 * size)
    chain.core.set_aside(low.id)
    chain.is_sound(*sized[:3])
    assert chain.left() == [(sized[3].wid, Reason.EVICTED)]
    assert [entry.wid for entry in chain.core.mempool] == [one.wid for one in sized[:3]]


def test_a_known_transfer_is_not_judged_again(chain: Rich) -> None:
    one = chain.paying(0)
    chain.take(chain.forge.anchor(chain.base, transfers=[one]))
    assert chain.add_transfer(one) is Outcome.KNOWN
    again = chain.paying(0, fee=33_000)
    assert rule_broken(lambda: chain.add_transfer(again)) == "COIN_SPENT"
