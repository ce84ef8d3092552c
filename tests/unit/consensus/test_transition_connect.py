"""Connecting an anchor: each rule of §5.3 on the state after its parent; what changes (§5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.framework.forge import Forge, Forged, key_lock
from tests.framework.rules import ForgedBranch, rule_broken
from tests.framework.slow_ranges import slow_anchor_node
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import REG, Network
from unchained.node.consensus.transfers import UnspentCoin, ValidatedTransfer, validate_transfer
from unchained.node.consensus.transition import (
    Transition,
    connect_anchor,
    created_locks,
    mints_of,
)
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer, output_id, wid_of
from unchained.node.primitives.types import CoinId, Lock, Wid

VALUE = REG.subsidy


class State:
    """The state after a forged anchor."""

    def __init__(self, after: Forged) -> None:
        self._after = after
        self.pool = after.pool
        self.reads = 0

    def state_root(self) -> bytes:
        return self._after.state_root()

    def _unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        member = self._after.unspent.get(coin_id)
        if member is None:
            return None
        position = self._after.positions[coin_id]
        return UnspentCoin(member.value, Lock(member.lock), member.height, member.minted, position)

    def unspent_many(self, ids: Sequence[CoinId]) -> list[UnspentCoin | None]:
        assert len(set(ids)) == len(ids)
        self.reads += 1
        return [self._unspent(coin_id) for coin_id in ids]

    def was_spent(self, coin_id: CoinId) -> bool:
        return coin_id in self._after.positions and coin_id not in self._after.unspent


class Listed:
    """The transfers of a forged anchor, validated by their bytes."""

    def __init__(self, anchor: Forged, network: Network) -> None:
        self._anchor = anchor
        self._network = network

    def validated(self, wid: Wid) -> ValidatedTransfer:
        return validate_transfer(self._anchor.transfers[wid], self._network, wid)


class Coins:
    """The coins that a forged anchor lists."""

    def __init__(self, anchor: Forged) -> None:
        self._anchor = anchor

    def coin(self, coin_id: CoinId) -> Coin | None:
        return self._anchor.coins.get(coin_id)


def connect(anchor: Forged, network: Network = REG, body: Body | None = None) -> Transition:
    parent = anchor.parent
    assert parent is not None
    state = State(parent)
    branch = ForgedBranch(parent)
    mints = mints_of(anchor.coin, anchor.body, Coins(anchor), branch, network)
    listed = Listed(anchor, network)
    found = connect_anchor(anchor.coin, body or anchor.body, mints, listed, state, network)
    assert state.reads == 1, "all that is spent is read at once"
    assert list(created_locks(mints, found.transfers)) == [
        (coin.coin_id, coin.lock) for coin in found.created
    ]
    return found


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


@pytest.fixture(scope="module")
def tip(forge: Forge) -> Forged:
    """An anchor whose chain has minted coins that may be spent."""
    first = forge.anchor(forge.genesis, [forge.coin(forge.genesis) for _ in range(6)])
    return forge.grow(first, 3)


def coins_of(tip: Forged) -> list[CoinId]:
    """Return ids of minted coins, all of one value and of key 0."""
    return [coin_id for coin_id, member in tip.unspent.items() if member.value == VALUE]


def spend(forge: Forge, coin_id: CoinId, value: int = VALUE, **fields: Any) -> SizedTransfer:
    """Return a transfer of one coin of key 0, in two halves to that key."""
    fee = fields.pop("fee", 0)
    left = value - fee
    outputs = [(left // 2, 0), (left - left // 2, 0)]
    return forge.transfer([(coin_id, 0)], outputs, fee=fee, **fields)


def rule_of(anchor: Forged, network: Network = REG) -> str:
    return rule_broken(lambda: connect(anchor, network))


# What an anchor changes


def test_an_empty_anchor_mints_its_own_coin(forge: Forge, tip: Forged) -> None:
    anchor = forge.anchor(tip)
    change = connect(anchor)
    (own,) = change.created
    assert (own.coin_id, own.kind, own.value, own.index) == (
        anchor.id,
        CoinKind.ANCHOR,
        VALUE,
        0,
    )
    assert own.lock == key_lock(0)
    assert own.txid == b""
    assert own.minted
    assert (change.minted, change.pool, change.supply_change) == (VALUE, 0, VALUE)
    assert (change.spent, change.spent_by, list(change.transfers)) == ({}, {}, [])
    assert change.anchor == anchor.coin


def test_coins_come_in_the_order_of_their_positions(forge: Forge, tip: Forged) -> None:
    """Outputs as they are applied, the anchor's own coin, fresh and uncles in body order (§4)."""
    one, two, *_ = coins_of(tip)
    parent = tip.parent
    assert parent is not None
    fresh = [forge.coin(tip) for _ in range(3)]
    loser = forge.anchor(parent)
    late = [forge.coin(parent) for _ in range(2)]
    uncles = [loser.coin, forge.coin(loser), *late]
    transfers = [spend(forge, two), spend(forge, one)]
    anchor = forge.anchor(tip, fresh, uncles, transfers)
    change = connect(anchor)
    since = len(tip.positions)
    assert [coin.coin_id for coin in change.created] == [
        coin_id for coin_id, position in anchor.positions.items() if position >= since
    ]
    for coin in change.created:
        member = anchor.unspent[coin.coin_id]
        assert (coin.value, coin.lock, coin.minted) == (member.value, member.lock, member.minted)
    by_id = {coin.coin_id: coin for coin in change.created}
    for sized in transfers:
        for index in range(2):
            made = by_id[output_id(sized.txid, index)]
            assert (made.kind, made.txid, made.index) == (CoinKind.OUTPUT, sized.txid, index)
            assert not made.minted
    assert [by_id[CoinId(coin_id)].index for coin_id in anchor.body.fresh] == [0, 1, 2]
    assert [by_id[CoinId(coin_id)].index for coin_id in anchor.body.uncles] == [0, 1, 2, 3]
    kinds = {coin.coin_id: coin.kind for coin in change.created}
    assert {kinds[coin.id] for coin in fresh} == {CoinKind.FRESH}
    assert {kinds[coin.id] for coin in (*late, loser.coin)} == {CoinKind.LATE}
    assert kinds[uncles[1].id] is CoinKind.STRAY
    header = anchor.coin.header
    assert change.leaf == slow_anchor_node(
        anchor.id, header.target, REG.coins_per_epoch, 7, header.time
    )


def test_a_spent_coin_leaves_and_names_who_spent_it(forge: Forge, tip: Forged) -> None:
    one, two, *_ = coins_of(tip)
    both = forge.transfer([(two, 0), (one, 0)], [(2 * VALUE, 1)])
    change = connect(forge.anchor(tip, transfers=[both]))
    assert list(change.spent) == [two, one]
    assert change.spent == {coin_id: State(tip)._unspent(coin_id) for coin_id in (one, two)}
    assert change.spent_by == {one: both.txid, two: both.txid}
    assert list(change.transfers) == [both]


def test_what_a_body_creates_and_spends_itself_never_was_in_the_set(
    forge: Forge, tip: Forged
) -> None:
    coin, *_ = coins_of(tip)
    first = spend(forge, coin)
    output = output_id(first.txid, 1)
    second = spend(forge, output, VALUE - VALUE // 2)
    anchor = forge.anchor(tip, transfers=[first, second])
    change = connect(anchor)
    assert list(change.spent) == [coin]
    assert change.spent_by == {coin: first.txid, output: second.txid}
    assert output in {made.coin_id for made in change.created}, "it has a position all the same"
    assert change.supply_change == VALUE


def test_fees_go_into_the_pool_of_which_a_quarter_is_paid_out(forge: Forge, tip: Forged) -> None:
    """§5.4, the anchor's own fees among them, rounded down; the rest goes on."""
    one, two, three, *_ = coins_of(tip)
    fees = forge.anchor(tip, transfers=[spend(forge, one, fee=4_003), spend(forge, two, fee=900)])
    change = connect(fees)
    assert change.created[4].value == VALUE + 4_903 // 4
    assert change.pool == 4_903 - 4_903 // 4
    assert change.minted == VALUE
    assert change.supply_change == VALUE - 4_903 + 4_903 // 4
    later = connect(forge.anchor(fees))
    assert later.created[0].value == VALUE + change.pool // 4
    assert later.pool == change.pool - change.pool // 4
    assert later.supply_change == VALUE + change.pool // 4
    both = connect(forge.anchor(fees, transfers=[spend(forge, three, fee=100)]))
    assert both.pool == (change.pool + 100) - (change.pool + 100) // 4
    assert both.supply_change == VALUE - 100 + (change.pool + 100) // 4


def test_the_supply_changes_by_what_the_sum_of_all_coins_does(forge: Forge, tip: Forged) -> None:
    one, two, *_ = coins_of(tip)
    parent = tip.parent
    assert parent is not None
    anchor = forge.anchor(
        tip,
        [forge.coin(tip)],
        [forge.coin(parent)],
        [spend(forge, one, fee=7_777), spend(forge, two, fee=1)],
    )
    change = connect(anchor)
    before, after = (
        sum(member.value for member in step.unspent.values()) for step in (tip, anchor)
    )
    assert change.supply_change == after - before
    assert change.pool == anchor.pool
    assert change.minted == 2 * VALUE + VALUE * 15 // 16


# The rules


def test_the_state_root_is_that_after_the_parent(forge: Forge, tip: Forged) -> None:
    for root in (bytes(32), tip.body.state_root):
        anchor = forge.anchor(tip, body_fields={"state_root": root})
        assert rule_of(anchor) == "BAD_STATE_ROOT"


def test_the_sizes_of_the_transfers_are_within_the_limit(forge: Forge, tip: Forged) -> None:
    one, two, *_ = coins_of(tip)
    transfers = [spend(forge, one), spend(forge, two)]
    anchor = forge.anchor(tip, transfers=transfers)
    size = sum(sized.size for sized in transfers)
    assert size == sum(len(sized.raw) for sized in transfers) + 4 * 1_024
    connect(anchor, msgspec.structs.replace(REG, max_body_size=size))
    less = msgspec.structs.replace(REG, max_body_size=size - 1)
    assert rule_of(anchor, less) == "BODY_TOO_LARGE"


def test_bytes_that_do_not_decode_count_by_their_length(forge: Forge, tip: Forged) -> None:
    sized = spend(forge, coins_of(tip)[0])
    junk = bytes(5_000)
    for wids in ((sized.wid, wid_of(junk)), (wid_of(junk), sized.wid)):
        anchor = forge.anchor(
            tip,
            raw_transfers={sized.wid: sized.raw, wid_of(junk): junk},
            body_fields={"transfers": wids},
        )
        size = sized.size + len(junk)
        fits = msgspec.structs.replace(REG, max_body_size=size)
        assert rule_of(anchor, fits) == "NON_CANONICAL"
        less = msgspec.structs.replace(REG, max_body_size=size - 1)
        assert rule_of(anchor, less) == "BODY_TOO_LARGE"


def broken(forge: Forge, coin_id: CoinId, rule: str) -> SizedTransfer:
    """Return a transfer of a coin that breaks a rule of one stage of §8.3."""
    match rule:
        case "WRONG_CHAIN":
            return spend(forge, coin_id, chain_id=1)
        case "FEE_MISMATCH":
            return spend(forge, coin_id, VALUE + 2)
        case "CONDITION_UNMET":
            return spend(forge, coin_id, sign=False)
        case "BAD_SIGNATURE":
            good, other = spend(forge, coin_id), spend(forge, coin_id, fee=2)
            forged = msgspec.structs.replace(good.transfer, signatures=other.transfer.signatures)
            return SizedTransfer.of(forged)
    raise AssertionError(rule)


STAGES = ["WRONG_CHAIN", "FEE_MISMATCH", "CONDITION_UNMET", "BAD_SIGNATURE"]
"""One rule of each stage: alone, in context, conditions, signatures."""


@pytest.mark.parametrize("rule", STAGES)
def test_each_transfer_passes_every_stage(forge: Forge, tip: Forged, rule: str) -> None:
    one, two, *_ = coins_of(tip)
    bad = broken(forge, one, rule)
    assert rule_of(forge.anchor(tip, transfers=[bad])) == rule
    assert rule_of(forge.anchor(tip, transfers=[spend(forge, two), bad])) == rule
    assert rule_of(forge.anchor(tip, transfers=[bad, spend(forge, two)])) == rule


def test_the_earlier_transfer_is_named_and_of_one_the_earlier_stage(
    forge: Forge, tip: Forged
) -> None:
    one, two, *_ = coins_of(tip)
    for first in STAGES:
        for second in STAGES:
            transfers = [broken(forge, one, first), broken(forge, two, second)]
            assert rule_of(forge.anchor(tip, transfers=transfers)) == first
    unsigned = spend(forge, one, VALUE + 2, sign=False)
    assert rule_of(forge.anchor(tip, transfers=[unsigned])) == "FEE_MISMATCH"
    foreign = spend(forge, one, VALUE + 2, chain_id=1)
    assert rule_of(forge.anchor(tip, transfers=[foreign])) == "WRONG_CHAIN"


def test_a_coin_is_spent_once(forge: Forge, tip: Forged) -> None:
    coin, *_ = coins_of(tip)
    first, second = spend(forge, coin), spend(forge, coin, fee=4)
    assert rule_of(forge.anchor(tip, transfers=[first, second])) == "COIN_SPENT"
    assert rule_of(forge.anchor(tip, transfers=[first, first])) == "COIN_SPENT"
    after = forge.anchor(tip, transfers=[first])
    connect(after)
    assert rule_of(forge.anchor(after, transfers=[second])) == "COIN_SPENT"
    unknown = spend(forge, CoinId(b"u" * 32))
    assert rule_of(forge.anchor(tip, transfers=[unknown])) == "COIN_UNKNOWN"
    # So is what the same body has created.
    half = VALUE // 2
    output = output_id(first.txid, 0)
    again = [spend(forge, output, half), spend(forge, output, half, fee=4)]
    assert rule_of(forge.anchor(tip, transfers=[first, *again])) == "COIN_SPENT"


def test_only_an_earlier_transfer_of_the_body_makes_coins_for_another(
    forge: Forge, tip: Forged
) -> None:
    first = spend(forge, coins_of(tip)[0])
    second = spend(forge, output_id(first.txid, 0), VALUE // 2)
    connect(forge.anchor(tip, transfers=[first, second]))
    assert rule_of(forge.anchor(tip, transfers=[second, first])) == "COIN_UNKNOWN"
    # What the body mints comes last: nothing in it spends that.
    fresh = forge.coin(tip)
    early = spend(forge, fresh.id)
    assert rule_of(forge.anchor(tip, [fresh], transfers=[early])) == "COIN_UNKNOWN"


def test_maturity_is_counted_to_the_height_of_the_anchor() -> None:
    network = msgspec.structs.replace(REG, maturity=3)
    forge = Forge(network)
    first = forge.anchor(forge.genesis)
    sized = spend(forge, first.id)
    parent = forge.grow(first, 1)
    assert rule_of(forge.anchor(parent, transfers=[sized]), network) == "IMMATURE_COIN"
    # Outputs are not minted: one may be spent in the body that creates it.
    more = spend(forge, output_id(sized.txid, 0), VALUE // 2)
    connect(forge.anchor(forge.grow(parent, 1), transfers=[sized, more]), network)


def test_a_transfer_may_be_locked_until_the_height_of_the_anchor(forge: Forge, tip: Forged) -> None:
    coin, *_ = coins_of(tip)
    height = tip.height + 1
    connect(forge.anchor(tip, transfers=[spend(forge, coin, lock_height=height)]))
    locked = spend(forge, coin, lock_height=height + 1)
    assert rule_of(forge.anchor(tip, transfers=[locked])) == "LOCKED_UNTIL_HEIGHT"


def test_an_output_of_the_body_is_bound_to_its_lock(forge: Forge, tip: Forged) -> None:
    first = forge.transfer([(coins_of(tip)[0], 0)], [(VALUE, 5)])
    output = output_id(first.txid, 0)
    stolen = forge.transfer([(output, 0)], [(VALUE, 0)])
    assert rule_of(forge.anchor(tip, transfers=[first, stolen])) == "LOCK_MISMATCH"
    owned = forge.transfer([(output, 5)], [(VALUE, 0)])
    connect(forge.anchor(tip, transfers=[first, owned]))
    more = forge.transfer([(output, 5)], [(VALUE + 1, 0)])
    assert rule_of(forge.anchor(tip, transfers=[first, more])) == "FEE_MISMATCH"
