"""Answers to what peers ask of the chain (Protocol §11).

Each question is one operation of the chain's writer, bounded by the table of limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

import msgspec
import trio

from unchained.node.chain.core import ChainCore
from unchained.node.chain.service import ChainService
from unchained.node.chain.tree import AnchorNode, AnchorStatus
from unchained.node.peers.exchanges import Exchanges
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.transport.contract import PeerId
from unchained.node.wire.messages import (
    BODIES_EXCHANGE,
    CANDIDATES_EXCHANGE,
    COINS_EXCHANGE,
    HEADERS_EXCHANGE,
    OWN_TIP,
    TRANSFERS_EXCHANGE,
    AnchorHeader,
    Blobs,
    Bodies,
    CandidatesPage,
    CandidatesRequest,
    Headers,
    HeadersRequest,
    Ids,
)
from unchained.storage import schema

T = TypeVar("T")

AT_A_TIME: Final = 2
"""Questions of peers that wait for the chain's writer: further ones wait here, so that what the
node itself wants of its chain never waits behind them (512 headers take some 10 ms)."""
ANSWER_BYTES: Final = 2 << 20
"""Bytes after which an answer of bodies or transfers is cut: the asker asks on."""


def serve_chain(chain: ChainService, exchanges: Exchanges) -> None:
    """Let a transport answer requests for the chain. Called before it runs."""

    places = trio.CapacityLimiter(AT_A_TIME)

    async def ask(work: Callable[[ChainCore], T]) -> T:
        async with places:
            return await chain.call(work)

    async def headers(_peer: PeerId, request: HeadersRequest) -> Headers | None:
        return await ask(lambda core: headers_of(core, request))

    async def bodies(_peer: PeerId, ids: Ids) -> Bodies:
        recent = chain.recent_body(CoinId(ids[0])) if len(ids) == 1 else None
        if recent is not None:
            # Just announced: the writer is about to connect it, and peers do not wait for that.
            return cast("Bodies", ((recent[1],),))
        return await ask(lambda core: bodies_of(core, ids))

    async def coins(_peer: PeerId, ids: Ids) -> Blobs:
        return await ask(lambda core: coins_of(core, ids))

    async def transfers(_peer: PeerId, wids: Ids) -> Blobs:
        return await ask(lambda core: transfers_of(core, wids))

    async def candidates(_peer: PeerId, request: CandidatesRequest) -> CandidatesPage:
        return await ask(lambda core: candidates_of(core, request))

    exchanges.serve(HEADERS_EXCHANGE, HeadersRequest, headers)
    exchanges.serve(BODIES_EXCHANGE, tuple, bodies)
    exchanges.serve(COINS_EXCHANGE, tuple, coins)
    exchanges.serve(TRANSFERS_EXCHANGE, tuple, transfers)
    exchanges.serve(CANDIDATES_EXCHANGE, CandidatesRequest, candidates)


def headers_of(core: ChainCore, request: HeadersRequest) -> Headers | None:
    """Return the headers of the chain that ends in `tip`, above the locator; None if there is no
    such tip."""
    if request.tip == OWN_TIP:
        tip = core.tip
    else:
        node = core.tree.get(CoinId(request.tip))
        if node is None:
            return _old_headers(core, request)
        tip = node
    if tip.status is not AnchorStatus.COUNTS:
        return None
    fork = core.tree.fork_point(tip)
    side = {node.id: node for node in core.tree.path(fork, tip)}
    start = _start_height(core, request, side, fork.height)
    found: list[AnchorHeader] = []
    for height in range(start + 1, tip.height + 1):
        if len(found) == HEADERS_EXCHANGE.limits.max_items:
            break
        if height <= fork.height:
            header = _main_header(core, height)
        else:
            step = core.tree.ancestor(tip, height)
            assert step is not None, "between the fork and the tip"
            header = AnchorHeader.of(step.coin, step.judged.body)
        if header is None:
            break
        found.append(header)
    return tuple(found)


def _old_headers(core: ChainCore, request: HeadersRequest) -> Headers | None:
    """Return the headers up to an anchor of the main chain below the tree."""
    coin = core.archive.coin(CoinId(request.tip))
    if coin is None or core.archive.main_id(coin.height) != coin.id:
        return None
    start = _start_height(core, request, {}, coin.height)
    last = min(coin.height, start + HEADERS_EXCHANGE.limits.max_items)
    found = (_main_header(core, height) for height in range(start + 1, last + 1))
    return tuple(header for header in found if header is not None)


def _start_height(
    core: ChainCore, request: HeadersRequest, side: dict[CoinId, AnchorNode], fork_height: int
) -> int:
    for anchor_id in request.locator:
        known = side.get(CoinId(anchor_id))
        if known is not None:
            return known.height
        coin = core.archive.coin(CoinId(anchor_id))
        if (
            coin is not None
            and coin.height <= fork_height
            and core.archive.main_id(coin.height) == coin.id
        ):
            return coin.height
    return 0


def _main_header(core: ChainCore, height: int) -> AnchorHeader | None:
    anchor_id = core.archive.main_id(height)
    record = None if anchor_id is None else schema.ANCHOR.get(core.ledger.view, anchor_id)
    if record is None or not record.body:
        return None
    return AnchorHeader.of(Coin.from_bytes(record.coin), Body.from_bytes(record.body))


def bodies_of(core: ChainCore, ids: Ids) -> Bodies:
    """Return the bodies of anchors that count, as many of the first as fit an answer."""
    found: list[tuple[msgspec.Raw, ...]] = []
    size = 0
    for anchor_id in ids:
        record = schema.ANCHOR.get(core.ledger.view, anchor_id)
        if record is None or record.status != AnchorStatus.COUNTS or not record.body:
            found.append(())
            continue
        if found and size + len(record.body) > ANSWER_BYTES:
            break
        size += len(record.body)
        found.append((msgspec.Raw(record.body),))
    # What is stored is the canonical encoding: it goes out as it is.
    return cast("Bodies", tuple(found))


def coins_of(core: ChainCore, ids: Ids) -> Blobs:
    """Return known coins, empty bytes for others."""
    return tuple(raw or b"" for raw in schema.COIN.get_many(core.ledger.view, ids))


def transfers_of(core: ChainCore, wids: Ids) -> Blobs:
    """Return known transfers, empty bytes for others, as many of the first as fit an answer."""
    found: list[bytes] = []
    size = 0
    for wid in wids:
        raw = core.transfer_bytes(Wid(wid)) or b""
        if found and size + len(raw) > ANSWER_BYTES:
            break
        size += len(raw)
        found.append(raw)
    return tuple(found)


def candidates_of(core: ChainCore, request: CandidatesRequest) -> CandidatesPage:
    """Return the coins bound to anchors, up to a page of them."""
    found: list[bytes] = []
    after = request.after
    for anchor_id in request.anchors:
        node = core.tree.get(CoinId(anchor_id))
        ids = sorted(node.bound) if node is not None and node.status is AnchorStatus.COUNTS else []
        for coin_id in ids:
            if coin_id <= after:
                continue
            if len(found) == CANDIDATES_EXCHANGE.limits.max_items:
                return CandidatesPage(tuple(found), 1)
            raw = schema.COIN.get(core.ledger.view, coin_id)
            if raw is not None:
                found.append(raw)
        after = bytes(32)
    return CandidatesPage(tuple(found), 0)
