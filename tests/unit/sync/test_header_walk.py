"""What a walk up a peer's headers comes to, on a chain that grows meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.forge import Forge, Forged
from tests.unit.sync.test_downloader import PEER, grown, working
from unchained.node.base.clock import TrioClock
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.params import REG
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.coin import Coin
from unchained.node.sync import header_walk
from unchained.node.sync.header_walk import HeaderWalk
from unchained.node.transport.contract import PeerId
from unchained.node.wire.messages import HeadersRequest

PAGE = 2


class Pages:
    """A peer that gives its chain, two headers at a time."""

    def __init__(self, chain: list[Forged]) -> None:
        self._left = [(it.coin, AnchorHeader.of(it.coin, it.body)) for it in chain]

    async def headers(
        self, _peer: PeerId, _request: HeadersRequest
    ) -> list[tuple[Coin, AnchorHeader]]:
        page, self._left = self._left[:PAGE], self._left[PAGE:]
        return page


async def test_what_joins_the_main_chain_amid_a_walk_is_no_part_of_the_branch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(header_walk, "HEADERS_PER_PAGE", PAGE)
    forge = Forge()
    anchors = grown(forge, 5)
    async with working(forge) as bench:
        fetcher: Any = Pages(anchors)
        clock = TrioClock(forge.now_ms)
        walk = HeaderWalk(REG, bench.chain.queries, fetcher, clock, PEER, anchors[-1].id)
        await walk.next_page()
        await bench.fetch(*anchors[:3])
        await walk.next_page()
        assert walk.fork_height == 3
        assert walk.work == anchor_work(anchors[3].coin.header.target, REG)
        weight = await walk.weigh()
        assert (weight.gain, weight.asked_up_to) == (walk.work, anchors[3].id)
