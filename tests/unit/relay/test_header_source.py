"""The headers that are served: whose work they are, and that they are those of the bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.framework.wallets import WalletChain
from unchained.node.base.runner import InlineRunner
from unchained.node.base.turns import Turns
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.node.relay import header_source
from unchained.node.relay.header_source import HeaderSource
from unchained.node.relay.serve_chain import SERVED_AT_A_TIME

UNKNOWN = CoinId(bytes(32))


class FakeQueries:
    """Knows one branch, and counts the trips to the writer."""

    def __init__(self, branch: Mapping[CoinId, Sequence[int | tuple[Coin, Body]]]) -> None:
        self.branch = branch
        self.asked = 0
        self.at_once = self.most_at_once = 0

    async def anchors_above(
        self, known: Sequence[CoinId], tip_id: CoinId, limit: int
    ) -> Sequence[int | tuple[Coin, Body]] | None:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.sleep(1)
        self.at_once -= 1
        return self.branch.get(tip_id)


def grown(anchors: int) -> tuple[WalletChain, list[AnchorHeader]]:
    chain = WalletChain()
    chain.grow(anchors, chain._nobody, chain._nobody)
    nodes = [chain.core.tree.main_at(height) for height in range(1, anchors + 1)]
    return chain, [AnchorHeader.of(node.coin, node.validated.body) for node in nodes if node]


def source_of(chain: WalletChain, queries: Any) -> HeaderSource:
    return HeaderSource(queries, chain.store, InlineRunner(), Turns(SERVED_AT_A_TIME))


async def test_the_main_chain_is_served_without_a_trip_to_the_writer() -> None:
    chain, expected = grown(12)
    queries = FakeQueries({})
    source = source_of(chain, queries)
    ids = [Coin.from_bytes(header.coin).id for header in expected]
    genesis = chain.core.tree.root.id
    for _ in range(2):
        assert await source.headers_above([], None, 100) == expected
        assert await source.headers_above([genesis], None, 5) == expected[:5]
        assert await source.headers_above([UNKNOWN, ids[6], genesis], None, 100) == expected[7:]
        assert await source.headers_above([ids[2]], ids[8], 100) == expected[3:9]
        # What lies above the tip that is asked for is no place to begin.
        assert await source.headers_above([ids[10], ids[2]], ids[8], 100) == expected[3:9]
        assert await source.headers_above([ids[-1]], None, 100) == []
    assert queries.asked == 0


async def test_of_a_branch_the_writer_says_which_anchors_it_has() -> None:
    chain, expected = grown(3)
    node = chain.core.tip
    branch = [(node.coin, node.validated.body)]
    other = CoinId(b"o" * 32)
    queries = FakeQueries({other: branch})
    source = source_of(chain, queries)
    assert await source.headers_above([], other, 100) == expected[-1:]
    assert await source.headers_above([], UNKNOWN, 100) is None
    assert queries.asked == 2


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_source, "HEADERS_KEPT", 4)
    chain, expected = grown(12)
    source = source_of(chain, FakeQueries({}))
    for _ in range(2):
        assert await source.headers_above([], None, 100) == expected
        assert len(source._kept) == 4


async def test_what_was_asked_for_lately_stays_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_source, "HEADERS_KEPT", 4)
    chain, expected = grown(12)
    source = source_of(chain, FakeQueries({}))
    ids = [Coin.from_bytes(header.coin).id for header in expected]
    await source.headers_above([], ids[0], 100)
    for height in range(1, 12):
        await source.headers_above([ids[height - 1]], ids[height], 1)
        await source.headers_above([], ids[0], 1)
        assert ids[0] in source._kept


@pytest.mark.parametrize("kept", [4, 12])
async def test_whoever_asks_for_many_headers_waits_and_keeps_nobody_else_waiting(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header_source, "HEADERS_KEPT", kept)
    monkeypatch.setattr(header_source, "IDS_BURST", 200)
    monkeypatch.setattr(header_source, "IDS_PER_S", 100.0)
    chain, expected = grown(12)
    source = source_of(chain, FakeQueries({}))
    served = 0

    async def ask_on() -> None:
        nonlocal served
        while served < 1_000:
            assert await source.headers_above([], None, 100, "greedy") == expected
            served += 1

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask_on)
        await trio.lowlevel.checkpoint()
        began = trio.current_time()
        for _ in range(5):
            assert await source.headers_above([], None, 1, "other") == expected[:1]
        assert trio.current_time() == began
        await trio.sleep(60)
        # Each answer takes 12 headers of some 8 ids at least.
        assert served < 4 + (200 + 60 * 100) / (12 * 8)
        nursery.cancel_scope.cancel()


async def test_who_waits_for_what_he_owes_keeps_no_snapshot_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(header_source, "IDS_BURST", 50)
    monkeypatch.setattr(header_source, "IDS_PER_S", 1.0)
    chain, _ = grown(12)
    source = source_of(chain, FakeQueries({}))
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(source.headers_above, [], None, 100, "greedy")
            await trio.testing.wait_all_tasks_blocked()
        assert len(chain.store._disk.views) <= 2
        nursery.cancel_scope.cancel()


async def test_of_a_branch_far_below_the_anchors_are_read_here() -> None:
    chain, expected = grown(6)
    heights = [*range(1, 7)]
    other = CoinId(b"o" * 32)
    source = source_of(chain, FakeQueries({other: heights}))
    assert await source.headers_above([], other, 100) == expected
    source = source_of(chain, FakeQueries({other: [*heights[:2], 100, *heights[3:]]}))
    assert await source.headers_above([], other, 100) == expected[:2]


async def test_askers_take_turns_at_the_writer_with_all_others() -> None:
    chain, _ = grown(1)
    queries = FakeQueries({})
    source = source_of(chain, queries)

    async def ask(asker: str) -> None:
        for _ in range(4):
            assert await source.headers_above([], UNKNOWN, 100, asker) is None

    async with trio.open_nursery() as nursery:
        for number in range(3 * SERVED_AT_A_TIME):
            nursery.start_soon(ask, f"asker {number}")
    assert queries.asked == 12 * SERVED_AT_A_TIME
    assert queries.most_at_once == SERVED_AT_A_TIME
