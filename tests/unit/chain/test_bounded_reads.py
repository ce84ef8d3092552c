"""What a peer can make the chain's writer read does not grow with the chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import pytest

from tests.framework.chains import open_core
from tests.framework.counting_store import CountingStore
from tests.framework.simulation.simnet import SIM, lengthen
from unchained.node.chain import anchor_reads, coin_reads, confirmations
from unchained.node.chain.core import ChainCore
from unchained.node.chain.view import ChainView
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage import schema
from unchained.storage.kv import Batch

SHALLOW = msgspec.structs.replace(SIM, max_reorg=16, window=4)
SHORT, LONG = 60, 480
ROWS_MORE: Final = 12
"""Rows that a path through a range of eight times the leaves may have more: three levels."""


def chain_of(height: int) -> tuple[CountingStore, list[Coin]]:
    """Return the store of a chain, and its anchors."""
    store = CountingStore()
    core = open_core(store, SHALLOW)
    return store, lengthen(core, height, plain=0)


@pytest.fixture(scope="module")
def short() -> tuple[CountingStore, list[Coin]]:
    return chain_of(SHORT)


@pytest.fixture(scope="module")
def long() -> tuple[CountingStore, list[Coin]]:
    return chain_of(LONG)


def rows_of(
    chain: tuple[CountingStore, list[Coin]], read: Callable[[ChainView, list[Coin]], object]
) -> int:
    """Return how many rows a read has of a chain that has just been opened: nothing is at hand."""
    store, anchors = chain
    core = open_core(store, SHALLOW)
    assert core.tip.id == anchors[-1].id
    store.reads.clear()
    read(core.view, anchors)
    return store.reads.total()


UNKNOWN = CoinId(bytes(32))

READS: dict[str, Callable[[ChainView, list[Coin]], object]] = {
    "weight above genesis": lambda view, _: anchor_reads.main_weight(view, 0),
    "weight above a fork": lambda view, anchors: anchor_reads.main_weight(view, len(anchors) // 2),
    "weight in the tree": lambda view, anchors: anchor_reads.main_weight(view, len(anchors) - 5),
    "headers above an old anchor": lambda view, anchors: anchor_reads.header_page(
        view, anchors[3].id, [anchors[4].id, UNKNOWN]
    ),
    "a locator for our tip": lambda view, anchors: anchor_reads.anchors_above(
        view, [UNKNOWN, anchors[3].id], anchors[-1].id, 2
    ),
    "no locator": lambda view, anchors: anchor_reads.anchors_above(view, [], anchors[-1].id, 2),
    "a whole page": lambda view, anchors: anchor_reads.anchors_above(view, [], anchors[-1].id, 512),
    "tips apart": lambda view, anchors: anchor_reads.are_apart(view, anchors[0].id),
    "what votes are for": lambda view, anchors: anchor_reads.above_fork(
        view, anchors[-1].id, anchors[-4].id
    ),
    "votes": lambda view, anchors: anchor_reads.votes(
        view, [anchor.id for anchor in (*anchors[:8], *anchors[-4:])], bytes(32), 8
    ),
    "an old coin": lambda view, anchors: coin_reads.known_coin(view, anchors[2].id),
    "where an old anchor stands": lambda view, anchors: confirmations.anchor_place(
        view, anchors[2], 0
    ),
    "confirmations": lambda view, anchors: confirmations.confirmations(
        view, anchors[-1].id, [1, 2]
    ),
}


@pytest.mark.parametrize("name", READS)
def test_what_is_read_does_not_grow_with_the_chain(
    name: str, short: tuple[CountingStore, list[Coin]], long: tuple[CountingStore, list[Coin]]
) -> None:
    assert rows_of(long, READS[name]) <= rows_of(short, READS[name]) + ROWS_MORE


def test_a_locator_grows_by_a_row_each_time_that_the_chain_doubles(
    short: tuple[CountingStore, list[Coin]], long: tuple[CountingStore, list[Coin]]
) -> None:
    def locator(view: ChainView, _: list[Coin]) -> object:
        return anchor_reads.locator(view)

    assert rows_of(long, locator) <= rows_of(short, locator) + 3


@pytest.mark.parametrize("height", [0, 1, 37, LONG - SHALLOW.max_reorg, LONG - 3, LONG])
def test_the_weight_is_that_of_the_headers(
    height: int, long: tuple[CountingStore, list[Coin]]
) -> None:
    store, anchors = long
    core: ChainCore = open_core(store, SHALLOW)
    weight = anchor_reads.main_weight(core.view, height)
    targets = [anchor.header.target for anchor in anchors[height:]]
    assert weight.work == sum(anchor_work(target, SHALLOW) for target in targets)
    assert weight.depth == len(targets)
    assert weight.is_deep == (height < core.tree.root.height)
    expected = [] if weight.is_deep else [*targets, core.tip.context.child_target]
    assert weight.targets == expected


def test_the_lengths_of_known_transfers_are_read_until_they_are_too_much() -> None:
    store = CountingStore()
    open_core(store, SHALLOW)
    size = 256 << 10
    enough = SHALLOW.max_body_size // size + 1
    wids = [Wid(number.to_bytes(32, "big")) for number in range(3 * enough)]
    batch = Batch()
    for wid in wids:
        batch.put(schema.TRANSFER.key(wid), bytes(size))
    store.write(batch, sync=False)
    body = Body((), (), tuple(wids), bytes(32), bytes(32))
    store.reads.clear()
    found = coin_reads.lacking(store, [body, body], SHALLOW.max_body_size)
    assert store.reads[b"w"] == enough
    assert list(found.lengths) == wids[:enough]
    assert found.transfers == []
    # What is hidden does not count: as many others are looked at instead.
    found = coin_reads.lacking(store, [body], SHALLOW.max_body_size, frozenset(wids[:2]))
    assert list(found.lengths) == wids[2 : enough + 2]
    assert found.transfers == wids[:2]
