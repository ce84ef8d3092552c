from __future__ import annotations

from typing import Any

import structlog
import trio

from unchained.node.base.clock import TrioClock
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId
from unchained.node.sync.header_scan import SCAN_PATIENCE_S, HeaderScan, scan_peers
from unchained.node.transport.contract import PeerId

FINDER = PeerId("peer")


def anchor_id(height: int) -> CoinId:
    return CoinId(bytes([height]) * 32)


def test_a_scan_begins_anew_above_what_has_become_known_amid_it() -> None:
    scan = HeaderScan(FINDER)
    for height in (*range(1, 6), *range(8, 11)):
        scan.add(anchor_id(height), height, 100)
    assert (scan.base_height, scan.height, scan.tip) == (7, 10, anchor_id(10))
    assert [scan.height_of(anchor_id(height)) for height in (5, 8, 10)] == [0, 8, 10]
    assert scan.has(anchor_id(9), 9)
    assert scan.ids_above(8, 1) == [anchor_id(9)]
    assert scan.work_above(8) == 200
    scan.cut(8)
    assert (scan.height, scan.tip) == (8, anchor_id(8))


class Dawdling:
    """A chain, and peers of whom none answers."""

    network = REG

    def __init__(self) -> None:
        self.queries = self

    async def locator(self) -> tuple[CoinId, ...]:
        return (anchor_id(0),)

    async def headers(self, _peer: PeerId, _request: object) -> None:
        await trio.sleep_forever()

    def greeted(self) -> list[PeerId]:
        return [FINDER, PeerId("other")]

    def is_outbound(self, _peer: PeerId) -> bool:
        return True

    def sample(self) -> None:
        """Nothing is drawn."""


async def test_a_comparison_ends_though_all_dawdle() -> None:
    parts: Any = Dawdling()
    with trio.fail_after(2 * SCAN_PATIENCE_S):
        scans, _, is_late = await scan_peers(
            parts, parts, parts, parts, FINDER, clock=TrioClock(0), log=structlog.get_logger()
        )
    assert scans == []
    assert is_late
