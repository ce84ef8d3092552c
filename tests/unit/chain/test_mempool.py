"""The relay policy of §8.4, at its exact limits; signatures play no part in it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.framework.forge import Forge, key_lock
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
