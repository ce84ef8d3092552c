"""Who pays for what, and what is put aside, when a scanned chain does not hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import structlog
import trio

from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import NotNowError
from unchained.node.sync.downloader import STALL_PRICE_MS
from unchained.node.sync.header_scan import HeaderScan
from unchained.node.sync.header_walk import Seen
from unchained.node.sync.long_sync import (
    FAILED_CHAIN_PRICE_MS,
    LOST_DEEP_BRANCH_PRICE_MS,
    LongSync,
    SyncTarget,
)
from unchained.node.transport.contract import PeerId

SLOW = PeerId("slow")
GONE = PeerId("gone")


class Chain:
    """A chain below whose tree a branch leaves: it may be followed, and never wins."""

    def __init__(self) -> None:
        self.network = None
        self.queries = self
        self.status = SimpleNamespace(value=SimpleNamespace(height=0))

    async def may_undo(self, *_: object) -> bool:
        return True

    async def anchor_at(self, _height: int) -> CoinId:
        return CoinId(bytes(32))

    async def locator(self) -> tuple[CoinId, ...]:
        return (CoinId(bytes(32)),)

    async def header_page(self, _base: object, ids: Sequence[CoinId]) -> tuple[None, list[None]]:
        return None, [None for _ in ids]

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[None]:
        yield

    @asynccontextmanager
    async def deepened(self, _height: int) -> AsyncIterator[None]:
        yield


class Fetcher:
    """One peer never answers, the other is gone."""

    async def headers(self, peer: PeerId, _request: object) -> None:
        if peer == SLOW:
            await trio.sleep_forever()
        raise NotNowError(peer, "gone")


class Charges:
    def __init__(self) -> None:
        self.reputation = self
        self.paid: list[tuple[PeerId, float]] = []

    def penalize(self, peer: PeerId, _penalty: object, _why: str, ms: float = 0.0) -> None:
        self.paid.append((peer, ms))


def deep_scan(peer: PeerId) -> HeaderScan:
    scan = HeaderScan(peer)
    for height in range(1, 11):
        scan.add(CoinId(bytes([height]) * 32), height, 100)
    scan.gain, scan.is_deep = 1_000, True
    return scan


def long_sync_of(fetcher: object, charges: Charges) -> LongSync:
    stubs: list[Any] = [Chain(), charges, fetcher, None, None]
    return LongSync(
        *stubs,
        SyncTarget(),
        assume_valid=None,
        clock=cast("Any", None),
        log=structlog.get_logger(),
    )


async def test_who_showed_a_deep_branch_does_not_pay_for_who_took_over() -> None:
    charges = Charges()
    long_sync = long_sync_of(Fetcher(), charges)
    scan = deep_scan(SLOW)
    failure = await long_sync._try(scan, [scan, deep_scan(GONE)], Seen())
    assert failure is not None
    assert failure.peer == GONE
    assert charges.paid == [(SLOW, STALL_PRICE_MS), (GONE, FAILED_CHAIN_PRICE_MS)]


async def test_who_showed_a_deep_branch_and_does_not_give_it_pays_for_that() -> None:
    charges = Charges()
    long_sync = long_sync_of(Fetcher(), charges)
    scan = deep_scan(GONE)
    failure = await long_sync._try(scan, [scan], Seen())
    assert failure is not None
    assert failure.peer == GONE
    assert charges.paid == [(GONE, FAILED_CHAIN_PRICE_MS), (GONE, LOST_DEEP_BRANCH_PRICE_MS)]
