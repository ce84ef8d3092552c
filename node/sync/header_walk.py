"""Walking up a peer's header chain, page by page, from an anchor that is known here."""

from __future__ import annotations

from typing import Final

import msgspec
import trio

from unchained.node.base.clock import Clock
from unchained.node.chain.core import ChainCore
from unchained.node.chain.service import ChainService
from unchained.node.chain.tree import AnchorNode, AnchorStatus
from unchained.node.crypto.mmr import History
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import Fetcher, NotServedByPeerError
from unchained.node.sync.body_plan import Point, anchor_work, locator_heights
from unchained.node.transport.contract import PeerId
from unchained.node.wire.messages import HEADERS_EXCHANGE, AnchorHeader, HeadersRequest
from unchained.storage import schema

CHECKED_AT_ONCE: Final = 64
"""Headers checked before other tasks get a turn: some 5 ms."""

PAGE: Final = HEADERS_EXCHANGE.limits.max_items


class Seen(msgspec.Struct):
    """Ends of pages that have been checked already, whoever sent them: an anchor's id commits to
    all below it, so nobody has to check the same chain twice."""

    points: dict[CoinId, tuple[Point, int]] = msgspec.field(default_factory=dict)


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
        self._chain = chain
        self._fetcher = fetcher
        self._clock = clock
        self._peer = peer
        self._tip = tip
        self._point: Point | None = None
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
            locator = await self._chain.call(locator_of)
            self._request = HeadersRequest(locator, self._tip)
        page = await self._fetcher.headers(self._peer, self._request)
        self.at_end = len(page) < PAGE
        if not page:
            return []
        if self._point is None:
            await self._begin(page[0][0].parent)
        known = await self._chain.call(lambda core: [_standing(core, coin.id) for coin, _ in page])
        fresh = await self._check(page, known, seen)
        self._request = HeadersRequest((page[-1][0].id,), self._tip)
        if page[-1][0].id == self._tip:
            self.at_end = True
        return fresh

    async def weigh(self) -> Weight:
        """Compare the branch, as far as it has been walked, with the main chain."""

        def weigh(core: ChainCore) -> Weight:
            return Weight(
                self.work,
                main_work_above(core, self.fork_height),
                core.tip.height - self.fork_height,
                self.fork_height < core.tree.root.height,
            )

        return await self._chain.call(weigh)

    async def _begin(self, base_id: CoinId) -> None:
        found = await self._chain.call(lambda core: _base_of(core, base_id))
        if found is None:
            # Protocol §6: asked for back to a known anchor, at most MAX_REORG deep
            raise NotServedByPeerError(self._peer, "its chain leaves ours too deep to be followed")
        self._point, self.fork_height = found
        self.height = self._point.context.height

    async def _check(
        self,
        page: list[tuple[Coin, AnchorHeader]],
        known: list[tuple[AnchorStatus | None, bool]],
        seen: Seen | None,
    ) -> list[tuple[Coin, AnchorHeader]]:
        last = page[-1][0]
        shared = None if seen is None else seen.points.get(last.id)
        fresh = []
        now_ms = self._clock.now_ms()
        for number, ((coin, header), (status, on_main)) in enumerate(zip(page, known, strict=True)):
            if status is AnchorStatus.INVALID:
                raise NotServedByPeerError(self._peer, f"builds on invalid anchor {coin.id.hex()}")
            if shared is None:
                assert self._point is not None, "`_begin` has set it"
                self._point = self._point.extend(coin, header, self._chain.network, now_ms)
            if on_main:
                self.fork_height, self.work = coin.height, 0
            else:
                self.work += anchor_work(coin.header.target, self._chain.network)
            if status is not AnchorStatus.COUNTS:
                fresh.append((coin, header))
            if number % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        if shared is not None:
            self._point = shared[0]
        elif seen is not None and self._point is not None:
            seen.points[last.id] = (self._point, self.work)
        self.height = last.height
        return fresh


def locator_of(core: ChainCore) -> tuple[CoinId, ...]:
    """Return ids of the main chain from the tip downwards, genesis last."""
    # The lowest that can be undone, so that no branch seems to leave the chain below it.
    floor = min(core.ledger.undo_floor, core.tip.height)
    heights = {*locator_heights(core.tip.height), core.tree.root.height, floor}
    ids = (core.archive.main_id(height) for height in sorted(heights, reverse=True))
    return tuple(anchor_id for anchor_id in ids if anchor_id is not None)


def _base_of(core: ChainCore, anchor_id: CoinId) -> tuple[Point, int] | None:
    node = core.tree.get(anchor_id)
    if node is not None and node.status is AnchorStatus.COUNTS:
        return Point.of(node.judged), core.tree.fork_point(node).height
    coin = _main_coin(core, anchor_id)
    if node is not None or coin is None:
        return None
    above = core.tree.root.judged
    context = core.archive.main_context(coin.height, above)
    assert context is not None, "it is on the main chain"
    state = schema.STATE.get(core.ledger.view, coin.height)
    history = None if state is None else History.from_bytes(state.history)
    return Point(context, history, above.origin_time, above.origin_n_total), coin.height


def _standing(core: ChainCore, anchor_id: CoinId) -> tuple[AnchorStatus | None, bool]:
    node: AnchorNode | None = core.tree.get(anchor_id)
    if node is None:
        below = _main_coin(core, anchor_id) is not None
        return (AnchorStatus.COUNTS, True) if below else (None, False)
    return node.status, node.on_main


def _main_coin(core: ChainCore, anchor_id: CoinId) -> Coin | None:
    """Return the coin of an anchor of the main chain, in the tree or below it."""
    coin = core.archive.coin(anchor_id)
    return coin if coin is not None and core.archive.main_id(coin.height) == coin.id else None


def main_work_above(core: ChainCore, height: int) -> int:
    """Return the sum of `anchor_work` of the main chain's anchors above a height."""
    total = 0
    for step in range(height + 1, core.tip.height + 1):
        node = core.tree.main_at(step)
        coin = core.archive.main_anchor(step) if node is None else node.coin
        assert coin is not None, "the main chain has no gap"
        total += anchor_work(coin.header.target, core.network)
    return total
