"""Walking up a peer's header chain, page by page, from an anchor that is known here."""

from __future__ import annotations

from typing import Final

import msgspec
import trio

from unchained.node.base.clock import Clock
from unchained.node.chain.answers import AnchorStanding, HeaderBase
from unchained.node.chain.service import ChainService
from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.header_work import anchor_work
from unchained.node.consensus.transition import check_header
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import Fetcher, NotServedByPeerError
from unchained.node.transport.contract import PeerId
from unchained.node.wire.messages import HEADERS_EXCHANGE, HeadersRequest

HEADERS_CHECKED_AT_ONCE: Final = 64
"""Headers checked before other tasks get a turn: some 5 ms."""

HEADERS_PER_PAGE: Final = HEADERS_EXCHANGE.limits.max_items


class Seen(msgspec.Struct):
    """Ends of pages that have been checked already, from any peer: an anchor's id commits to
    all below it, so nobody has to check the same chain twice."""

    points: dict[CoinId, tuple[AnchorContext, int]] = msgspec.field(default_factory=dict)


class Weight(msgspec.Struct, frozen=True, gc=False):
    """A branch beside the main chain, both above the fork: their sums of `anchor_work`, how far
    the fork is below the tip, and whether it is below the tree."""

    branch: int
    main: int
    depth: int
    is_deep: bool

    @property
    def gain(self) -> int:
        """By how much the branch has more work."""
        return self.branch - self.main


class HeaderWalk:
    """One peer's chain above the main chain that is known here.

    `work` is the sum of `anchor_work` above the fork, `fork_height` the height of the last anchor
    that is on the main chain.
    """

    def __init__(
        self, chain: ChainService, fetcher: Fetcher, clock: Clock, peer: PeerId, tip: bytes
    ) -> None:
        self._network = chain.network
        self._queries = chain.queries
        self._fetcher = fetcher
        self._clock = clock
        self._peer = peer
        self._tip = tip
        self._point: AnchorContext | None = None
        self._request: HeadersRequest | None = None
        self.work = 0
        self.fork_height = 0
        self.height = 0
        self.at_end = False

    async def next_page(self, seen: Seen | None = None) -> list[tuple[Coin, AnchorHeader]]:
        """Return the next headers, checked, without those whose bodies are known here.

        Sets `at_end` with the last page. Raises `FetchError` and `ProtocolError`.
        """
        if self._request is None:
            self._request = HeadersRequest(await self._queries.locator(), self._tip)
        page = await self._fetcher.headers(self._peer, self._request)
        self.at_end = len(page) < HEADERS_PER_PAGE
        if not page:
            return []
        base_id = page[0][0].parent if self._point is None else None
        base, known = await self._queries.header_page(base_id, [coin.id for coin, _ in page])
        if self._point is None:
            self._begin(base)
        fresh = await self._check(page, known, seen)
        self._request = HeadersRequest((page[-1][0].id,), self._tip)
        if page[-1][0].id == self._tip:
            self.at_end = True
        return fresh

    async def weigh(self) -> Weight:
        """Compare the branch, as far as it has been walked, with the main chain."""

        main = await self._queries.main_weight(self.fork_height)
        return Weight(self.work, main.work, main.depth, main.is_deep)

    def _begin(self, base: HeaderBase | None) -> None:
        if base is None:
            # Protocol §6: asked for back to a known anchor, at most MAX_REORG deep
            raise NotServedByPeerError(self._peer, "its chain leaves ours too deep to be followed")
        self._point = base.context
        self.fork_height = base.fork_height
        self.height = base.context.height

    async def _check(
        self,
        page: list[tuple[Coin, AnchorHeader]],
        known: list[AnchorStanding | None],
        seen: Seen | None,
    ) -> list[tuple[Coin, AnchorHeader]]:
        last = page[-1][0]
        shared = None if seen is None else seen.points.get(last.id)
        fresh = []
        now_ms = self._clock.now_ms()
        for number, ((coin, header), standing) in enumerate(zip(page, known, strict=True)):
            if standing == "invalid":
                raise NotServedByPeerError(self._peer, f"builds on invalid anchor {coin.id.hex()}")
            if shared is None:
                assert self._point is not None, "`_begin` has set it"
                self._point = check_header(
                    coin,
                    header.fresh.n,
                    header.uncles.n,
                    header.transfers.n,
                    header.history_root,
                    self._point,
                    self._network,
                    now_ms,
                )
            if standing == "main":
                self.fork_height, self.work = coin.height, 0
            else:
                self.work += anchor_work(coin.header.target, self._network)
            if standing not in {"main", "side"}:
                fresh.append((coin, header))
            if number % HEADERS_CHECKED_AT_ONCE == HEADERS_CHECKED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        if shared is not None:
            self._point = shared[0]
        elif seen is not None and self._point is not None:
            seen.points[last.id] = (self._point, self.work)
        self.height = last.height
        return fresh
