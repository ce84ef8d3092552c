"""What leaves the disk as the chain grows: lost branches, what they listed, undo data; and nothing
that somebody still lists."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.corechain import Chain
from tests.framework.forge import Forged
from unchained.node.chain import reorg_window
from unchained.node.consensus.params import REG
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage import schema
from unchained.storage.check import check
from unchained.storage.memory import MemoryStore

NETWORK = msgspec.structs.replace(REG, max_reorg=4, window=3)
SETTLED_MS = NETWORK.max_reorg * NETWORK.epoch_ms


@pytest.fixture
def chain() -> Chain:
    """A chain whose running time stands still unless it is told."""
    made = Chain(NETWORK)
    made.step_ms = 0
    return made


def kept(chain: Chain) -> tuple[list[int], list[int]]:
    """Return the heights whose undo data and whose states are kept."""
    store = chain.core.store
    return (
        [height for height, _ in schema.UNDO.scan(store)],
        [height for height, _ in schema.STATE.scan(store)],
    )


def has_record(chain: Chain, anchor_id: CoinId) -> bool:
    return schema.ANCHOR.get(chain.core.store, anchor_id) is not None


def has_transfer(chain: Chain, sized: SizedTransfer) -> bool:
    return schema.TRANSFER.get(chain.core.store, Wid(sized.wid)) is not None


def is_sound(chain: Chain) -> None:
    assert check(MemoryStore(chain.disk), NETWORK).problems == ()


def ripe(chain: Chain, count: int) -> tuple[list[CoinId], Forged]:
    """Grow the chain by coins that can be spent; return them, and the tip."""
    coins = [chain.grow(chain.genesis, 1)]
    while len(coins) < count:
        coins.append(chain.grow(coins[-1], 1))
    return [coin.id for coin in coins], chain.grow(coins[-1], NETWORK.maturity)


# Undo data


def test_undo_data_stays_until_its_anchors_have_settled_and_goes_little_by_little(
    chain: Chain,
) -> None:
    tip = chain.grow(chain.genesis, 20)
    assert kept(chain) == ([*range(1, 21)], [*range(21)])
    assert chain.core.root.undo_floor == 0
    chain.ran_ms += SETTLED_MS
    for height, lowest in ((21, 4), (22, 8), (23, 12), (24, 16), (25, 20), (26, 22), (27, 23)):
        tip = chain.grow(tip, 1)
        # Four heights at a time, of none of the last MAX_REORG, and of none that is too young.
        assert chain.core.root.undo_floor == min(lowest, 21, height - NETWORK.max_reorg)
        floor = chain.core.root.undo_floor
        assert kept(chain) == ([*range(floor, height + 1)], [*range(floor, height + 1)])
    is_sound(chain)
    chain.restart()
    assert chain.core.root.undo_floor == floor


def test_undo_data_of_an_anchor_goes_at_the_moment_at_which_it_has_settled(chain: Chain) -> None:
    tip = chain.grow(chain.genesis, 6)
    chain.ran_ms += 1
    tip = chain.grow(tip, 4)
    chain.ran_ms = SETTLED_MS - 1
    tip = chain.grow(tip, 1)
    # Genesis was never connected: it has been there from the start.
    assert chain.core.root.undo_floor == 0
    chain.ran_ms += 1
    tip = chain.grow(tip, 2)
    assert chain.core.root.undo_floor == 7
    chain.ran_ms += 1
    chain.grow(tip, 1)
    assert chain.core.root.undo_floor == 10


def test_undo_data_below_a_tip_that_has_become_lower_is_kept(chain: Chain) -> None:
    fork = chain.grow(chain.genesis, 6)
    chain.grow(fork, 3)
    assert chain.core.tree.root.height == 5
    chain.ran_ms += SETTLED_MS
    other = chain.forge.anchor(fork)
    chain.take(other)
    chain.vote(other, 12)
    assert (chain.core.tip.id, chain.core.tip.height) == (other.id, 7)
    # Each anchor could be undone that is less than MAX_REORG below this tip.
    assert chain.core.root.undo_floor == 7 - NETWORK.max_reorg
    assert kept(chain)[1] == [*range(3, 8)]


def test_undo_data_that_a_lowered_tree_needs_is_kept(chain: Chain) -> None:
    tip = chain.grow(chain.genesis, 12)
    while not chain.core.lower_root(2):
        pass
    chain.ran_ms += SETTLED_MS
    chain.grow(tip, 3)
    assert chain.core.root.undo_floor == chain.core.tree.root.height == 2
    assert kept(chain)[1][0] == 2


def test_as_many_heights_go_at_once_as_is_written_down() -> None:
    assert reorg_window.PRUNED_HEIGHTS_AT_ONCE == 4


# Lost branches


def test_a_lost_anchor_whose_coin_the_main_chain_lists_goes_with_what_it_listed(
    chain: Chain,
) -> None:
    (coin, other), base = ripe(chain, 2)
    forge = chain.forge
    alone, shared = chain.pay(coin, NETWORK.subsidy), chain.pay(other, NETWORK.subsidy)
    main = chain.take(forge.anchor(base))
    chain.vote(main, 2)
    lost = chain.take(forge.anchor(base, transfers=[alone, shared]))
    main = chain.take(forge.anchor(main, uncles=[lost.coin], transfers=[shared]))
    assert chain.core.tip.id == main.id
    assert has_record(chain, lost.id)
    chain.grow(main, NETWORK.max_reorg + 1)
    assert chain.core.tree.get(lost.id) is None
    assert not has_record(chain, lost.id)
    assert not has_transfer(chain, alone)
    assert has_transfer(chain, shared)
    assert chain.core.knows_coin(lost.id), "the main chain lists it"
    chain.restart()
    is_sound(chain)


def test_a_coin_stays_that_only_a_side_branch_lists(chain: Chain) -> None:
    forge = chain.forge
    low = chain.grow(chain.genesis, 1)
    bound = forge.coin(low)
    chain.coin(bound)
    fork = chain.grow(low, 1)
    side = chain.take(forge.anchor(fork, uncles=[bound]))
    main = chain.grow(fork, NETWORK.max_reorg - 2)
    assert chain.core.tree.root.height < low.height
    main = chain.grow(main, 1)
    assert chain.core.tree.root.id == low.id
    main = chain.grow(main, 1)
    assert chain.core.tree.root.id == fork.id
    # The anchor that it is bound to has left, and the main chain does not have it.
    assert chain.core.tip.id == main.id
    assert chain.core.knows_coin(bound.id)
    chain.restart()
    chain.vote_until_tip(side)
    is_sound(chain)


def test_what_an_anchor_listed_goes_that_waited_for_the_clock_for_too_long(chain: Chain) -> None:
    (coin,), fork = ripe(chain, 1)
    forge = chain.forge
    alone = chain.pay(coin, NETWORK.subsidy)
    main = chain.take(forge.anchor(fork))
    chain.vote(main, 5)
    late_ms = main.time + 10 * NETWORK.future_limit_ms
    side = chain.take(forge.anchor(fork, transfers=[alone], time=late_ms))
    bare = chain.forge.coin(fork, grade=True, time=late_ms)
    chain.coin(bare)
    assert has_transfer(chain, alone)
    chain.core.note_clock(main.time + 60_000)
    assert chain.core.tree.get(side.id) is None
    assert has_record(chain, side.id)
    chain.grow(main, NETWORK.max_reorg + 1)
    for gone in (side.id, bare.id):
        assert not has_record(chain, gone)
        assert not chain.core.knows_coin(gone)
    assert not has_transfer(chain, alone)
    is_sound(chain)


# What comes back


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_late_coin_is_bound_again_however_late_it_came(chain: Chain, after: int) -> None:
    low = chain.grow(chain.genesis, 3)
    late = chain.forge.coin(low)
    step = chain.grow(low, after)
    step = chain.take(chain.forge.anchor(step, uncles=[late]))
    chain.grow(step, NETWORK.max_reorg + 1)
    while not chain.core.lower_root(low.height):
        pass
    assert late.id in chain.core.tree.nodes[low.id].bound
