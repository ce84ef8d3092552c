"""The relay policy of §8.4, at its exact limits; signatures play no part in it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.framework.forge import Forge, key_lock
from unchained.node.chain.mempool import mempool
from unchained.node.chain.mempool.mempool import Mempool, PoolEntry, Reason
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.params import REG
from unchained.node.consensus.policy import (
    DUST,
    EXPIRY_MS,
    HALVING_MS,
    MAX_ANCESTORS,
    MAX_DESCENDANTS,
    MAX_REPLACED,
    PolicyError,
)
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.primitives.transfer import SizedTransfer, output_id
from unchained.node.primitives.types import CoinId

HEIGHT = 50
NOW = 10**12
VALUE = 10**9
FORGE = Forge(REG)


class Coins:
    """A coin set of as many coins as are asked for."""

    def __init__(self) -> None:
        self.known: dict[CoinId, UnspentCoin] = {}
        self.spent: set[CoinId] = set()

    def new(self, *, minted: bool = False, height: int = 1) -> CoinId:
        coin_id = CoinId((len(self.known) + 1).to_bytes(32, "big"))
        self.known[coin_id] = UnspentCoin(VALUE, key_lock(0), height, minted)
        return coin_id

    def unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        return self.known.get(coin_id)

    def was_spent(self, coin_id: CoinId) -> bool:
        return coin_id in self.spent


class Pool:
    """A mempool over such a coin set, and a list of what left it."""

    def __init__(self, capacity: int = 64 << 20) -> None:
        self.coins = Coins()
        self.left: list[tuple[bytes, Reason]] = []
        self.mempool = Mempool(REG, self.coins, self, capacity=capacity)

    def note_left(self, entry: PoolEntry, reason: Reason) -> None:
        self.left.append((entry.wid, reason))

    def enter(self, sized: SizedTransfer, now_ms: int = NOW) -> PoolEntry | None:
        evicted = self.mempool.check(sized, HEIGHT, now_ms)
        entry = self.mempool.add(sized, evicted, now_ms)
        self.check_links()
        return entry

    def error(self, sized: SizedTransfer, now_ms: int = NOW) -> str:
        before = set(self.wids())
        with pytest.raises((PolicyError, ProtocolError)) as caught:
            self.mempool.check(sized, HEIGHT, now_ms)
        assert set(self.wids()) == before
        assert isinstance(caught.value, PolicyError | ProtocolError)
        return caught.value.name

    def wids(self) -> list[bytes]:
        return [entry.wid for entry in self.mempool]

    def check_links(self) -> None:
        """Compare links, spenders and sums with what the entries say."""
        entries = {entry.wid: entry for entry in self.mempool}
        makers = {
            output_id(entry.txid, index): entry.wid
            for entry in entries.values()
            for index in range(len(entry.outputs))
        }
        for entry in entries.values():
            parents = {makers[coin_id] for coin_id in entry.inputs if coin_id in makers}
            assert entry.parents == parents
            for parent in parents:
                assert entry.wid in entries[parent].children
            for coin_id in entry.inputs:
                assert self.mempool.spender_of(coin_id) is entry
            assert self.mempool.by_txid(entry.txid) is entry
        statistics = self.mempool.statistics(NOW)
        assert statistics.transfers == len(entries) == len(self.mempool)
        assert statistics.bytes == sum(entry.raw_size for entry in entries.values())
        assert statistics.fees == sum(entry.fee for entry in entries.values())


def pay(
    inputs: Sequence[tuple[CoinId, int]],
    *,
    fee: int | None = None,
    rate: int = 10,
    outputs: int = 1,
) -> SizedTransfer:
    """Return an unsigned transfer of coins (id, value) that pays a fee, or a fee rate."""
    total = sum(value for _, value in inputs)

    def made(paid: int) -> SizedTransfer:
        share, rest = divmod(total - paid, outputs)
        values = [share + (rest if at == 0 else 0) for at in range(outputs)]
        return FORGE.transfer(
            [(coin_id, 0) for coin_id, _ in inputs],
            [(value, 0) for value in values],
            fee=paid,
            sign=False,
        )

    if fee is not None:
        return made(fee)
    sized = made(100_000)
    while sized.transfer.fee != rate * sized.size:
        sized = made(rate * sized.size)
    return sized


def child_of(parent: SizedTransfer, index: int = 0, **options: int) -> SizedTransfer:
    value = parent.transfer.outputs[index].value
    return pay([(output_id(parent.txid, index), value)], **options)


@pytest.fixture
def pool() -> Pool:
    return Pool()


# What enters


def test_a_transfer_enters_and_is_found(pool: Pool) -> None:
    sized = pay([(pool.coins.new(), VALUE)])
    entry = pool.enter(sized)
    assert entry is not None
    assert pool.mempool.get(sized.wid) is entry
    assert entry.rate == 10
    assert pool.left == []


def test_outputs_under_the_dust_limit_are_not_relayed(pool: Pool) -> None:
    coin = pool.coins.new()
    assert pool.error(pay([(coin, VALUE)], fee=VALUE - DUST + 1)) == "DUST"
    pool.enter(pay([(coin, VALUE)], fee=VALUE - DUST))


def test_the_least_fee_rate_is_one_grain_a_byte(pool: Pool) -> None:
    least = pay([(pool.coins.new(), VALUE)], rate=1)
    under = pay([(pool.coins.new(), VALUE)], fee=least.transfer.fee - 1)
    assert under.size == least.size
    assert pool.error(under) == "FEE_TOO_LOW"
    pool.enter(least)


def test_outputs_count_a_kilobyte_each_for_the_rate(pool: Pool) -> None:
    sized = pay([(pool.coins.new(), VALUE)], rate=1, outputs=3)
    assert sized.size == len(sized.raw) + 3 * 1024
    pool.enter(sized)


def test_only_what_the_next_anchor_could_hold_enters(pool: Pool) -> None:
    unknown = CoinId(b"u" * 32)
    assert pool.error(pay([(unknown, VALUE)])) == "COIN_UNKNOWN"
    pool.coins.spent.add(unknown)
    assert pool.error(pay([(unknown, VALUE)])) == "COIN_SPENT"
    young = pool.coins.new(minted=True, height=HEIGHT)
    assert pool.error(pay([(young, VALUE)])) == "IMMATURE_COIN"
    ripe = pool.coins.new(minted=True, height=HEIGHT - REG.maturity)
    pool.enter(pay([(ripe, VALUE)]))
    coin = pool.coins.new()
    late = FORGE.transfer(
        [(coin, 0)], [(VALUE - 10**6, 0)], fee=10**6, sign=False, lock_height=HEIGHT + 1
    )
    assert pool.error(late) == "LOCKED_UNTIL_HEIGHT"
    assert pool.error(pay([(coin, VALUE + 1)])) == "FEE_MISMATCH"


# Links


def test_a_transfer_may_build_on_25_that_wait(pool: Pool) -> None:
    chain = [pay([(pool.coins.new(), VALUE)])]
    for _ in range(MAX_ANCESTORS):
        pool.enter(chain[-1])
        chain.append(child_of(chain[-1]))
    pool.enter(chain[-1])
    assert len(pool.mempool) == MAX_ANCESTORS + 1
    assert pool.error(child_of(chain[-1])) == "TOO_MANY_ANCESTORS"


def test_25_transfers_may_build_on_one(pool: Pool) -> None:
    parent = pay([(pool.coins.new(), VALUE)], outputs=MAX_DESCENDANTS + 1)
    pool.enter(parent)
    for index in range(MAX_DESCENDANTS):
        pool.enter(child_of(parent, index))
    assert pool.error(child_of(parent, MAX_DESCENDANTS)) == "TOO_MANY_DESCENDANTS"
    # one that takes another's place is no further descendant
    pool.enter(child_of(parent, 0, rate=20))
    assert len(pool.mempool) == MAX_DESCENDANTS + 1


# Replacement


def test_a_replacement_pays_a_quarter_more(pool: Pool) -> None:
    coin = pool.coins.new()
    first = pay([(coin, VALUE)], rate=100)
    pool.enter(first)
    least = first.transfer.fee * 5 // 4
    assert 4 * least == 5 * first.transfer.fee
    under = pay([(coin, VALUE)], fee=least - 1)
    assert under.size == first.size
    assert pool.error(under) == "REPLACEMENT_TOO_CHEAP"
    second = pay([(coin, VALUE)], fee=least)
    pool.enter(second)
    assert pool.wids() == [second.wid]
    assert pool.left == [(first.wid, Reason.REPLACED)]


def test_a_replacement_pays_for_its_own_relay(pool: Pool) -> None:
    coin = pool.coins.new()
    first = pay([(coin, VALUE)], rate=1)
    pool.enter(first)
    # a quarter more is less than a grain more for each byte
    under = pay([(coin, VALUE)], fee=first.transfer.fee + first.size - 1)
    assert under.size == first.size
    assert pool.error(under) == "REPLACEMENT_TOO_CHEAP"
    pool.enter(pay([(coin, VALUE)], fee=first.transfer.fee + first.size))


def test_many_outputs_take_no_more_memory_than_a_full_pool_of_ordinary_transfers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mempool, "OUTPUTS_MAX", 1_000)
    pool = Pool()
    for number in range(10):
        spent = [(pool.coins.new(), VALUE)]
        pool.enter(pay(spent, outputs=200, rate=10 + number))
    assert len(pool.mempool._outputs) == 1_000
    assert [reason for _, reason in pool.left] == [Reason.EVICTED] * 5
    # What pays least has gone, and what pays as little does not come in.
    assert pool.mempool.statistics(NOW).min_fee_rate > 10


def test_a_replacement_pays_for_all_that_it_evicts(pool: Pool) -> None:
    coin = pool.coins.new()
    parent = pay([(coin, VALUE)], rate=2)
    child = child_of(parent, rate=50)
    pool.enter(parent)
    pool.enter(child)
    fees = parent.transfer.fee + child.transfer.fee
    under = pay([(coin, VALUE)], fee=fees + parent.size - 1)
    assert pool.error(under) == "REPLACEMENT_TOO_CHEAP"
    over = pay([(coin, VALUE)], fee=fees + parent.size)
    assert over.size == parent.size
    pool.enter(over)
    # children leave before their parents
    assert pool.left == [(child.wid, Reason.REPLACED), (parent.wid, Reason.REPLACED)]


def test_a_replacement_outbids_each_of_its_conflicts(pool: Pool) -> None:
    coins = [pool.coins.new(), pool.coins.new()]
    cheap = pay([(coins[0], VALUE)], rate=1)
    dear = pay([(coins[1], VALUE)], rate=1_000)
    pool.enter(cheap)
    pool.enter(dear)
    both = [(coin, VALUE) for coin in coins]
    assert pool.error(pay(both, rate=1_249)) == "REPLACEMENT_TOO_CHEAP"
    pool.enter(pay(both, rate=1_250))
    assert len(pool.mempool) == 1


def test_a_replacement_evicts_a_hundred_at_most(pool: Pool) -> None:
    def conflicts(parents: int, children: int) -> list[tuple[CoinId, int]]:
        coins = []
        for _ in range(parents):
            coins.append((pool.coins.new(), VALUE))
            parent = pay(coins[-1:], rate=1, outputs=max(1, children))
            pool.enter(parent)
            for index in range(children):
                pool.enter(child_of(parent, index, rate=1))
        return coins

    most = conflicts(4, MAX_REPLACED // 4 - 1)
    more = conflicts(1, 0)
    assert pool.error(pay(most + more, rate=10_000)) == "REPLACEMENT_TOO_CHEAP"
    pool.enter(pay(most, rate=10_000))
    assert len(pool.mempool) == 2


def test_nothing_replaces_what_it_builds_on(pool: Pool) -> None:
    coin = pool.coins.new()
    parent = pay([(coin, VALUE)], outputs=2)
    pool.enter(parent)
    half = parent.transfer.outputs[0].value
    both = pay([(coin, VALUE), (output_id(parent.txid, 0), half)], rate=1_000)
    assert pool.error(both) == "COIN_UNKNOWN"


# Room


def test_the_lowest_rate_goes_first_with_its_descendants() -> None:
    coins = Coins()
    cheap = pay([(coins.new(), VALUE)], rate=2)
    child = child_of(cheap, rate=100)
    dear = pay([(coins.new(), VALUE)], rate=5)
    one_more = pay([(coins.new(), VALUE)], rate=6)
    small = Pool(capacity=len(cheap.raw) + len(child.raw) + len(dear.raw))
    small.coins.known = coins.known
    for sized in (cheap, child, dear):
        small.enter(sized)
    assert small.left == []
    assert small.mempool.min_fee_rate(NOW) == 1
    small.enter(one_more)
    assert small.left == [(child.wid, Reason.EVICTED), (cheap.wid, Reason.EVICTED)]
    assert set(small.wids()) == {dear.wid, one_more.wid}
    assert small.mempool.min_fee_rate(NOW) == 3


def test_the_raised_minimum_halves_hourly() -> None:
    coins = Coins()
    first = pay([(coins.new(), VALUE)], rate=39)
    pool = Pool(capacity=len(first.raw) + 8)
    pool.coins.known = coins.known
    pool.enter(first)
    pool.enter(pay([(coins.new(), VALUE)], rate=200))
    mempool = pool.mempool
    assert pool.left == [(first.wid, Reason.EVICTED)]
    assert mempool.min_fee_rate(NOW) == 40
    assert mempool.min_fee_rate(NOW - 1) == 40
    assert mempool.min_fee_rate(NOW + HALVING_MS) == 20
    assert mempool.min_fee_rate(NOW + 2 * HALVING_MS) == 10
    assert mempool.min_fee_rate(NOW + 100 * HALVING_MS) == 1
    at_forty = pay([(coins.new(), VALUE)], rate=40)
    under = pay([(coins.new(), VALUE)], fee=at_forty.transfer.fee - 1)
    assert pool.error(under) == "FEE_TOO_LOW"
    assert mempool.check(at_forty, HEIGHT, NOW) == []
    assert mempool.check(under, HEIGHT, NOW + HALVING_MS) == []


def test_what_pays_least_does_not_enter_a_full_mempool() -> None:
    coins = Coins()
    first = pay([(coins.new(), VALUE)], rate=39)
    pool = Pool(capacity=len(first.raw) + 8)
    pool.coins.known = coins.known
    pool.enter(first)
    assert pool.enter(pay([(coins.new(), VALUE)], rate=38)) is None
    assert pool.wids() == [first.wid]


# Leaving


def test_the_numbers_of_the_reasons_are_in_event_logs() -> None:
    assert {reason.name: reason.value for reason in Reason} == {
        "INCLUDED": 1,
        "CONFLICT": 2,
        "REPLACED": 3,
        "EVICTED": 4,
        "EXPIRED": 5,
        "INVALID": 6,
    }


def test_a_transfer_expires_after_72_hours_with_its_descendants(pool: Pool) -> None:
    old = pay([(pool.coins.new(), VALUE)])
    child = child_of(old)
    other = pay([(pool.coins.new(), VALUE)])
    pool.enter(old)
    pool.enter(child, NOW + EXPIRY_MS)
    pool.enter(other, NOW + 1)
    pool.mempool.expire(NOW + EXPIRY_MS)
    assert pool.left == []
    pool.mempool.expire(NOW + EXPIRY_MS + 1)
    assert pool.left == [(child.wid, Reason.EXPIRED), (old.wid, Reason.EXPIRED)]
    assert pool.wids() == [other.wid]
    pool.check_links()
    assert pool.mempool.output(output_id(old.txid, 0)) is None
    assert pool.error(child_of(old, rate=30)) == "COIN_UNKNOWN", "what it would have made is gone"


def test_all_that_an_anchor_holds_or_conflicts_with_leaves(pool: Pool) -> None:
    coins = [pool.coins.new() for _ in range(5)]
    waiting = [pay([(coin, VALUE)]) for coin in coins]
    for sized in waiting:
        pool.enter(sized)
    rival = pay([(coins[2], VALUE)], rate=77)
    unknown = pay([(pool.coins.new(), VALUE)])
    pool.mempool.chain_grew([waiting[0], unknown, waiting[1], rival, waiting[3]])
    assert pool.left == [
        (waiting[0].wid, Reason.INCLUDED),
        (waiting[1].wid, Reason.INCLUDED),
        (waiting[2].wid, Reason.CONFLICT),
        (waiting[3].wid, Reason.INCLUDED),
    ]
    assert pool.wids() == [waiting[4].wid]


def test_what_an_anchor_holds_leaves_and_its_children_stay(pool: Pool) -> None:
    parent = pay([(pool.coins.new(), VALUE)])
    child = child_of(parent)
    pool.enter(parent)
    pool.enter(child)
    pool.coins.known[output_id(parent.txid, 0)] = UnspentCoin(
        parent.transfer.outputs[0].value, key_lock(0), HEIGHT, False
    )
    pool.mempool.chain_grew([parent])
    assert pool.left == [(parent.wid, Reason.INCLUDED)]
    assert pool.wids() == [child.wid]
    pool.check_links()


def test_what_conflicts_with_an_anchor_leaves_with_its_descendants(pool: Pool) -> None:
    coin = pool.coins.new()
    parent = pay([(coin, VALUE)])
    child = child_of(parent)
    pool.enter(parent)
    pool.enter(child)
    pool.mempool.chain_grew([pay([(coin, VALUE)], rate=77)])
    assert pool.left == [(child.wid, Reason.CONFLICT), (parent.wid, Reason.CONFLICT)]


def test_the_same_transfer_signed_anew_is_included_too(pool: Pool) -> None:
    sized = pay([(pool.coins.new(), VALUE)])
    twin = FORGE.signed(sized.transfer, {0})
    assert (twin.txid, twin.wid) != (sized.txid, sized.wid)
    assert twin.txid == sized.txid
    pool.enter(sized)
    pool.mempool.chain_grew([twin])
    assert pool.left == [(sized.wid, Reason.INCLUDED)]


# What waits again after a reorganisation


def test_what_waited_before_waits_again_whatever_it_pays(pool: Pool) -> None:
    cheap = pay([(pool.coins.new(), VALUE)], rate=0)
    entry = pool.mempool.restore(NOW - 5, cheap, HEIGHT)
    assert entry is not None
    assert (entry.added_ms, entry.fee) == (NOW - 5, 0)
    pool.check_links()


def test_what_waits_again_has_to_fit_the_chain_and_what_waits(pool: Pool) -> None:
    coin = pool.coins.new()
    first = pay([(coin, VALUE)])
    pool.enter(first)
    dear = pay([(coin, VALUE)], rate=5_000)

    def rule(sized: SizedTransfer) -> str:
        with pytest.raises(ProtocolError) as caught:
            pool.mempool.restore(NOW, sized, HEIGHT)
        return caught.value.name

    assert rule(dear) == "COIN_SPENT", "nothing is replaced"
    assert rule(pay([(CoinId(b"u" * 32), VALUE)])) == "COIN_UNKNOWN"
    young = pool.coins.new(minted=True, height=HEIGHT)
    assert rule(pay([(young, VALUE)])) == "IMMATURE_COIN"
    assert pool.wids() == [first.wid]
    assert pool.left == []


def test_each_gets_the_place_that_it_had(pool: Pool) -> None:
    """All pay alike, so that only their arrivals decide; a child comes after its parent."""
    sized = [pay([(pool.coins.new(), VALUE)]) for _ in range(4)]
    pool.enter(sized[0])
    places = list(pool.mempool.reserve_places(2))
    assert places[1] == places[0] + 1
    earlier = list(pool.mempool.reserve_places(1))
    assert earlier == [places[0] - 1]
    for one, place in zip(sized[1:], (places[1], places[0], earlier[0]), strict=True):
        entry = pool.mempool.restore(NOW, one, HEIGHT, place)
        assert entry is not None
        assert entry.arrival == place
    assert pool.mempool.select(10**6) == [sized[at].wid for at in (3, 2, 1, 0)]
    child = child_of(sized[0])
    entry = pool.mempool.restore(NOW, child, HEIGHT, earlier[0])
    assert entry is not None
    parent = pool.mempool.get(sized[0].wid)
    assert parent is not None
    assert entry.arrival == parent.arrival + 1, "after all others: its parent came later"
    beside = pool.mempool.restore(NOW, child_of(sized[1]), HEIGHT, places[1])
    assert beside is not None
    assert beside.arrival == entry.arrival + 1, "nor in the very place of its parent"
    following = child_of(sized[3])
    entry = pool.mempool.restore(NOW, following, HEIGHT, places[0])
    assert entry is not None
    assert entry.arrival == places[0]


def test_arrivals_go_up_one_by_one(pool: Pool) -> None:
    entries = [pool.enter(pay([(pool.coins.new(), VALUE)])) for _ in range(3)]
    arrivals = [entry.arrival for entry in entries if entry is not None]
    assert arrivals == [2**40, 2**40 + 1, 2**40 + 2]
    assert list(pool.mempool.reserve_places(1)) == [2**40 - 1]


def test_what_spends_some_coins_is_taken_out_with_its_descendants(pool: Pool) -> None:
    coins = [pool.coins.new() for _ in range(3)]
    first, second, third = (pay([(coin, VALUE)], outputs=2) for coin in coins)
    child, grandchild = child_of(first), child_of(child_of(first))
    both = pay(
        [
            (output_id(second.txid, 0), second.transfer.outputs[0].value),
            (output_id(third.txid, 0), third.transfer.outputs[0].value),
        ]
    )
    for sized in (first, second, third, both, child, grandchild):
        pool.enter(sized)
    taken = pool.mempool.take_out([coins[1], coins[0], CoinId(b"u" * 32)], None)
    assert [entry.wid for entry in taken] == [
        sized.wid for sized in (first, second, both, child, grandchild)
    ], "by arrival"
    assert pool.wids() == [third.wid]
    assert pool.left == [], "nobody hears of it"
    pool.check_links()
    entry = pool.mempool.get(third.wid)
    assert entry is not None
    assert entry.children == set()


def test_what_is_locked_until_after_a_height_is_taken_out_with_it(pool: Pool) -> None:
    def locked(height: int) -> SizedTransfer:
        return FORGE.transfer(
            [(pool.coins.new(), 0)],
            [(VALUE - 10**6, 0)],
            fee=10**6,
            sign=False,
            lock_height=height,
        )

    low, high = locked(HEIGHT - 1), locked(HEIGHT)
    child = child_of(high)
    for sized in (high, low, child):
        pool.enter(sized)
    assert pool.mempool.take_out([], None) == []
    assert pool.mempool.take_out([], HEIGHT) == []
    taken = pool.mempool.take_out([], HEIGHT - 1)
    assert [entry.wid for entry in taken] == [high.wid, child.wid]
    assert pool.wids() == [low.wid]
    assert [entry.wid for entry in pool.mempool.take_out([], 0)] == [low.wid]


def test_a_coin_that_a_waiting_transfer_makes_is_told_with_its_maker(pool: Pool) -> None:
    sized = pay([(pool.coins.new(), VALUE)], outputs=2)
    pool.enter(sized)
    for index, output in enumerate(sized.transfer.outputs):
        found = pool.mempool.output(output_id(sized.txid, index))
        assert found == (output.value, key_lock(0), sized.wid)
    assert pool.mempool.output(output_id(sized.txid, 2)) is None


# Choosing


def test_a_template_takes_the_best_rates_that_fit(pool: Pool) -> None:
    sized = [pay([(pool.coins.new(), VALUE)], rate=rate) for rate in (5, 9, 7)]
    for one in sized:
        pool.enter(one)
    assert pool.mempool.select(10**6) == [sized[1].wid, sized[2].wid, sized[0].wid]
    assert pool.mempool.select(2 * sized[0].size) == [sized[1].wid, sized[2].wid]
    assert pool.mempool.select(sized[0].size - 1) == []


def test_a_template_takes_nothing_that_is_hidden_nor_what_builds_on_it(pool: Pool) -> None:
    parent = pay([(pool.coins.new(), VALUE)], rate=5)
    child = child_of(parent, rate=50)
    other = pay([(pool.coins.new(), VALUE)], rate=2)
    for one in (parent, child, other):
        pool.enter(one)
    pool.mempool.hidden.add(parent.wid)
    assert pool.mempool.select(10**6) == [other.wid]
    assert pool.mempool.reveal(parent.wid)
    assert not pool.mempool.reveal(parent.wid)
    assert pool.mempool.select(10**6) == [parent.wid, child.wid, other.wid]


def test_a_child_pays_for_its_parent(pool: Pool) -> None:
    parent = pay([(pool.coins.new(), VALUE)], rate=1)
    child = child_of(parent, rate=101)
    middle = pay([(pool.coins.new(), VALUE)], rate=20)
    for one in (parent, child, middle):
        pool.enter(one)
    assert pool.mempool.select(10**6) == [parent.wid, child.wid, middle.wid]
    assert pool.mempool.select(parent.size + child.size - 1) == [middle.wid, parent.wid]


def test_what_one_child_has_paid_for_another_need_not(pool: Pool) -> None:
    """Of two that build on one, the second is weighed with it and pays for itself alone."""
    parent = pay([(pool.coins.new(), VALUE)], rate=1, outputs=2)
    rich, plain = child_of(parent, 0, rate=300), child_of(parent, 1, rate=30)
    other = pay([(pool.coins.new(), VALUE)], rate=40)
    for one in (parent, plain, rich, other):
        pool.enter(one)
    assert pool.mempool.select(10**6) == [one.wid for one in (parent, rich, other, plain)]
    room = parent.size + rich.size + plain.size
    assert pool.mempool.select(room) == [one.wid for one in (parent, rich, other)]
    assert pool.mempool.select(room + other.size - 1) == [one.wid for one in (parent, rich, other)]
    assert pool.mempool.select(room + other.size) == [
        one.wid for one in (parent, rich, other, plain)
    ]


def test_a_transfer_is_weighed_with_all_that_it_builds_on(pool: Pool) -> None:
    parent = pay([(pool.coins.new(), VALUE)], rate=100)
    child, other = child_of(parent, rate=1), pay([(pool.coins.new(), VALUE)], rate=30)
    for one in (parent, child, other):
        pool.enter(one)
    assert pool.mempool.select(10**6) == [parent.wid, child.wid, other.wid]


def test_of_those_that_pay_alike_the_first_comes_first(pool: Pool) -> None:
    sized = [pay([(pool.coins.new(), VALUE)]) for _ in range(5)]
    for one in sized:
        pool.enter(one)
    assert pool.mempool.select(10**6) == [one.wid for one in sized]
    assert pool.mempool.select(3 * sized[0].size) == [one.wid for one in sized[:3]]


def test_the_statistics_count_what_waits(pool: Pool) -> None:
    sized = [pay([(pool.coins.new(), VALUE)], fee=7_000 + at) for at in range(3)]
    for one in sized:
        pool.enter(one)
    found = pool.mempool.statistics(NOW)
    assert (found.transfers, found.fees, found.min_fee_rate) == (3, 21_003, 1)
    assert found.bytes == sum(len(one.raw) for one in sized)
    assert pool.mempool.spender_of(CoinId(b"u" * 32)) is None
    pool.mempool.expire(NOW + EXPIRY_MS + 1)
    empty = pool.mempool.statistics(NOW)
    assert (empty.transfers, empty.bytes, empty.fees) == (0, 0, 0)
