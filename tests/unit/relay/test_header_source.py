"""The headers that are served: whose work they are, and that they are those of the bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.framework.wallets import WalletChain
from unchained.node.base.runner import InlineRunner
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.node.relay import header_source
from unchained.node.relay.header_source import HeaderSource

UNKNOWN = CoinId(bytes(32))


class FakeQueries:
    """Knows one branch, and counts the trips to the writer."""

    def __init__(self, branch: dict[CoinId, list[tuple[Coin, Body]]]) -> None:
        self.branch = branch
        self.asked = 0

    async def anchors_above(
        self, known: Sequence[CoinId], tip_id: CoinId, limit: int
    ) -> list[tuple[Coin, Body]] | None:
        self.asked += 1
        return self.branch.get(tip_id)


def grown(anchors: int) -> tuple[WalletChain, list[AnchorHeader]]:
    chain = WalletChain()
    chain.grow(anchors, chain._nobody, chain._nobody)
    nodes = [chain.core.tree.main_at(height) for height in range(1, anchors + 1)]
    return chain, [AnchorHeader.of(node.coin, node.validated.body) for node in nodes if node]


def source_of(chain: WalletChain, queries: Any) -> HeaderSource:
    return HeaderSource(queries, chain.store, InlineRunner())


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
