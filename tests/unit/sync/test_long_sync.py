"""Who pays for what, and what is put aside, when a scanned chain does not hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio

from unchained.node.base.clock import TrioClock
from unchained.node.consensus.errors import TimeTooNewError
from unchained.node.consensus.params import REG
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import NotNowError
from unchained.node.sync import long_sync as long_sync_module
from unchained.node.sync.downloader import STALL_PRICE_MS
from unchained.node.sync.header_lead import HeaderLead
from unchained.node.sync.header_scan import HeaderScan
from unchained.node.sync.header_walk import PageLateError, Seen
from unchained.node.sync.long_sync import (
    FAILED_CHAIN_PRICE_MS,
    LOST_DEEP_BRANCH_PRICE_MS,
    ChainFailedError,
    LongSync,
    SyncTarget,
)
from unchained.node.transport.contract import PeerId

SLOW = PeerId("slow")
GONE = PeerId("gone")
NOW_MS = 10**12


class Chain:
    """A chain below whose tree a branch leaves: it may be followed, and never wins."""

    def __init__(self) -> None:
        self.network = REG
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


def scan_of(peer: PeerId, *, is_deep: bool = False) -> HeaderScan:
    scan = HeaderScan(peer)
    for height in range(1, 11):
        scan.add(CoinId(bytes([height]) * 32), height, 100)
    scan.gain, scan.is_deep = 1_000, is_deep
    return scan


def deep_scan(peer: PeerId) -> HeaderScan:
    return scan_of(peer, is_deep=True)


class Failing:
    """Chains that cannot be connected from their fifth anchor on; `tried` are the heights to which
    they were fetched."""

    def __init__(self, error: ProtocolError | None, time_ms: int = 0) -> None:
        self.error = error
        self.tried: list[int] = []
        self.anchor: Any = SimpleNamespace(
            id=CoinId(bytes([5]) * 32), height=5, header=SimpleNamespace(time=time_ms)
        )

    async def fetch(self, scan: HeaderScan, *_: object) -> None:
        """In place of `LongSync._fetch`."""
        self.tried.append(scan.height)
        await trio.lowlevel.checkpoint()
        if scan.height >= self.anchor.height:
            raise ChainFailedError(scan.peer, self.anchor, self.error)


def long_sync_of(fetcher: object, charges: Charges, assume_valid: CoinId | None = None) -> LongSync:
    stubs: list[Any] = [Chain(), charges, fetcher, None, None]
    return LongSync(
        *stubs,
        SyncTarget(),
        assume_valid=assume_valid,
        clock=TrioClock(NOW_MS),
        log=structlog.get_logger(),
    )


async def test_who_took_over_and_failed_is_cut_with_who_showed_the_chain() -> None:
    charges = Charges()
    scans = [scan_of(SLOW), scan_of(GONE)]
    assert await long_sync_of(Fetcher(), charges)._take_best(scans, Seen()) is not None
    assert [scan.is_empty for scan in scans] == [True, True]
    # Nor is that one asked again, for its own chain.
    assert charges.paid == [(SLOW, STALL_PRICE_MS), (GONE, FAILED_CHAIN_PRICE_MS)]


class HandedOver:
    """A walk that its first peer stalls; another leads it on, by a branch from above height 5."""

    fork_height, tip_id, work = 0, None, 1_000

    def __init__(self, *_: object) -> None:
        self.at_end = False
        self.height = 0

    def hand_over(self, _peer: PeerId) -> None:
        self.at_end, self.height = True, 10

    async def next_page(self, _seen: Seen, _within_s: float) -> list[tuple[Any, None]]:
        if not self.at_end:
            raise PageLateError(SLOW, "gives headers too slowly")
        scan = branching(GONE)
        ids = scan.ids_above(0, self.height)
        return [(SimpleNamespace(id=it, height=scan.height_of(it)), None) for it in ids]


def branching(peer: PeerId) -> HeaderScan:
    scan = HeaderScan(peer)
    for height in range(1, 11):
        scan.add(CoinId(bytes([height if height <= 5 else height + 100]) * 32), height, 100)
    return scan


async def test_a_branch_below_the_assumed_anchor_is_not_trusted_with_the_chain_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(long_sync_module, "HeaderWalk", HandedOver)
    scan = scan_of(SLOW)
    long_sync = long_sync_of(Fetcher(), Charges(), assume_valid=CoinId(scan.tip))
    connected: list[tuple[PeerId, int, set[CoinId]]] = []

    async def connect(peer: PeerId, anchors: Sequence[object], trusted: set[CoinId]) -> None:
        await trio.lowlevel.checkpoint()
        connected.append((peer, len(anchors), trusted))

    monkeypatch.setattr(long_sync, "_connect", connect)
    await long_sync._fetch(scan, HeaderLead(scan, [scan, branching(GONE)]), Seen())
    assert connected == [(GONE, 10, set(scan.ids_above(0, 5)))]


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


async def test_a_deep_branch_with_a_dead_anchor_ends_below_it_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long_sync, failing = long_sync_of(Fetcher(), Charges()), Failing(None)
    monkeypatch.setattr(long_sync, "_fetch", failing.fetch)
    for tried in ([10, 4], [10, 4, 4]):
        assert await long_sync._take_best([deep_scan(GONE)], Seen()) is not None
        assert failing.tried == tried


async def test_an_anchor_whose_time_has_not_come_is_put_aside_until_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early_s = 7.0
    error = TimeTooNewError(expected="sooner", actual="later")
    failing = Failing(error, NOW_MS + REG.future_limit_ms + round(early_s * 1000))
    long_sync = long_sync_of(Fetcher(), Charges())
    monkeypatch.setattr(long_sync, "_fetch", failing.fetch)
    assert await long_sync._take_best([scan_of(GONE)], Seen()) is None
    assert failing.tried == [10, 4]
    await trio.sleep(early_s - 1)
    assert await long_sync._take_best([scan_of(GONE)], Seen()) is None
    assert failing.tried == [10, 4, 4]
    await trio.sleep(2)
    # It may still be too new: never again at once.
    assert await long_sync._take_best([scan_of(GONE)], Seen()) is None
    assert failing.tried == [10, 4, 4, 10, 4]
