"""Walking up a peer's header chain, page by page, from an anchor that is known here."""

from __future__ import annotations

import math
from typing import Final

import msgspec
import trio

from unchained.node.base.clock import Clock
from unchained.node.chain.answers import AnchorStanding, HeaderBase
from unchained.node.chain.queries import ChainQueries
from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.fork_choice import HeaderTargets, anchor_work, count_asked_for
from unchained.node.consensus.params import Network
from unchained.node.consensus.transition import check_header
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import Fetcher, FetchError, NotServedByPeerError
from unchained.node.transport.contract import PeerId
from unchained.node.wire.messages import HEADERS_EXCHANGE, HeadersRequest

HEADERS_CHECKED_AT_ONCE: Final = 64
"""Headers checked before other tasks get a turn: some 5 ms."""

HEADERS_PER_PAGE: Final = HEADERS_EXCHANGE.limits.max_items


class PageLateError(FetchError):
    """A page of headers did not come in the time that it was given."""


class Seen(msgspec.Struct):
    """Ends of pages that have been checked already, from any peer: an anchor's id commits to
    all below it, so nobody has to check the same chain twice."""

    points: dict[CoinId, tuple[AnchorContext, int]] = msgspec.field(default_factory=dict)


class Weight(msgspec.Struct, frozen=True, gc=False):
    """A branch beside the main chain, both above the fork: how far that is below the tip and
    whether it is below the tree; by how much the branch has more of `anchor_work`, 0 where it leads
    through a dead anchor; and up to which height, and to which anchor there, its bodies are asked
    for, None if no anchor's are."""

    depth: int
    is_deep: bool
    gain: int
    asked_height: int
    asked_up_to: CoinId | None


class HeaderWalk:
    """One peer's chain above the main chain that is known here.

    `work` is the sum of `anchor_work` above the fork, `fork_height` the height of the last anchor
    that is on the main chain; `headers` counts all that have been read.
    """

    def __init__(
        self,
        network: Network,
        queries: ChainQueries,
        fetcher: Fetcher,
        clock: Clock,
        peer: PeerId,
        tip: bytes,
    ) -> None:
        self._network = network
        self._queries = queries
        self._fetcher = fetcher
        self._clock = clock
        self._peer = peer
        self._tip = tip
        self._point: AnchorContext | None = None
        self._request: HeadersRequest | None = None
        self._branch: list[tuple[CoinId, HeaderTargets]] = []
        """Its anchors above the fork, as many as any part of the main chain in the tree has."""
        self._tip_id: CoinId | None = None
        self._leads = True
        self.work = 0
        self.headers = 0
        self.fork_height = 0
        self.height = 0
        self.at_end = False
        self.is_ahead = False
        """Whether it was found to have more work than the chain here."""

    @property
    def is_at_tip(self) -> bool:
        """Whether the walk has come to the tip that was asked for."""
        return self._tip_id == self._tip

    @property
    def tip_id(self) -> CoinId | None:
        """The last anchor that has been read, None where none has been."""
        return self._tip_id

    def hand_over(self, peer: PeerId) -> None:
        """Go on from where the walk is with another peer that has the same chain."""
        self._peer = peer

    async def next_page(
        self, seen: Seen | None = None, within_s: float = math.inf
    ) -> list[tuple[Coin, AnchorHeader]]:
        """Return the next headers, checked, without those whose bodies are known here.

        Sets `at_end` with the last page. Raises `FetchError`, `PageLateError` where the peer does
        not answer within so many seconds, and `ProtocolError`; the walk is then where it was.
        """
        if self._request is None:
            self._request = HeadersRequest(await self._queries.locator(), self._tip)
        with trio.move_on_after(within_s) as wait:
            page = await self._fetcher.headers(self._peer, self._request)
        if wait.cancelled_caught:
            raise PageLateError(self._peer, "gives headers too slowly")
        self.at_end = len(page) < HEADERS_PER_PAGE
        self.headers += len(page)
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
        """Compare the branch, as far as it has been walked without `seen`, with the main chain."""
        main = await self._queries.main_weight(self.fork_height)
        branch = [targets for _, targets in self._branch]
        count = 0
        # What leaves the main chain below the tree has to be the better one by its headers.
        if not main.is_deep:
            count = count_asked_for(
                branch, self.work, main.targets, main.work, main.depth, self._network
            )
        top, top_id = self.height, self._tip_id
        if count < len(branch) or main.is_deep:
            top = self.fork_height + count
            top_id = self._branch[count - 1][0] if count else None
        gain = self.work - main.work if self._leads else 0
        return Weight(main.depth, main.is_deep, gain, top, top_id)

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
                # Protocol §11: "n_total, every target and every history root can be checked"
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
            self._note(coin, standing)
            if standing in {None, "bodyless"}:
                fresh.append((coin, header))
            if number % HEADERS_CHECKED_AT_ONCE == HEADERS_CHECKED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        if shared is not None:
            self._point = shared[0]
        elif seen is not None and self._point is not None:
            seen.points[last.id] = (self._point, self.work)
        self.height, self._tip_id = last.height, last.id
        return fresh

    def _note(self, coin: Coin, standing: AnchorStanding | None) -> None:
        """Take the next anchor of the walk, whose context is `_point`, into the branch's sums."""
        if standing == "main":
            self.fork_height, self.work, self._leads = coin.height, 0, True
            self._branch.clear()
            return
        self.work += anchor_work(coin.header.target, self._network)
        # Protocol §6: "the descent passes a dead anchor by and nobody mines on it"
        self._leads = self._leads and standing not in {"dead", "set-aside"}
        if len(self._branch) <= self._network.max_reorg:
            assert self._point is not None, "`_begin` has set it"
            targets = HeaderTargets(coin.header.target, self._point.child_target)
            self._branch.append((coin.id, targets))
