"""Answers to what peers ask of the chain (Protocol §11).

Each question is one trip to the chain's writer, bounded by the table of limits; headers of the
main chain need none.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec

from unchained.node.base.runner import Runner
from unchained.node.base.turns import Turns
from unchained.node.chain.service import ChainService
from unchained.node.peers.exchanges import Exchanges
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.relay.header_source import HeaderSource
from unchained.node.transport.contract import PeerId
from unchained.node.wire.messages import (
    BODIES_EXCHANGE,
    COINS_EXCHANGE,
    HEADERS_EXCHANGE,
    OWN_TIP,
    TRANSFERS_EXCHANGE,
    VOTES_EXCHANGE,
    Blobs,
    Bodies,
    Headers,
    HeadersRequest,
    Ids,
    VotesPage,
    VotesRequest,
)
from unchained.storage.kv import KeyValueStore

SERVED_AT_A_TIME: Final = 2
"""Questions of peers that wait for the chain's writer: further ones wait here, peers in turns, so
that what the node itself wants of its chain never waits behind them, nor one peer behind another.
Headers of the main chain do without the writer."""
ANSWER_BYTES: Final = 2 << 20
"""Bytes after which an answer of bodies or transfers is cut: the asker asks on."""


def serve_chain(
    chain: ChainService, store: KeyValueStore, runner: Runner, exchanges: Exchanges
) -> None:
    """Let a transport answer requests for the chain. Called before it runs. `runner` is one thread,
    which reads headers of the chain's store."""

    queries = chain.queries
    places = Turns(SERVED_AT_A_TIME)
    headers_of = HeaderSource(queries, store, runner, places)

    async def headers(peer: PeerId, request: HeadersRequest) -> Headers | None:
        tip = None if request.tip == OWN_TIP else CoinId(request.tip)
        known = [CoinId(anchor_id) for anchor_id in request.locator]
        found = await headers_of.headers_above(
            known, tip, HEADERS_EXCHANGE.limits.max_items, asker=exchanges.group_of(peer)
        )
        return None if found is None else tuple(found)

    async def bodies(peer: PeerId, ids: Ids) -> Bodies:
        recent = chain.recent_body(CoinId(ids[0])) if len(ids) == 1 else None
        if recent is not None:
            # Just announced: the writer is about to connect it, and peers do not wait for that.
            return cast("Bodies", ((recent[1],),))
        async with places.turn(exchanges.group_of(peer)):
            found = await queries.bodies([CoinId(anchor_id) for anchor_id in ids], ANSWER_BYTES)
        # What is stored is the canonical encoding: it goes out as it is.
        return cast("Bodies", tuple((msgspec.Raw(body),) if body else () for body in found))

    async def coins(peer: PeerId, ids: Ids) -> Blobs:
        async with places.turn(exchanges.group_of(peer)):
            return tuple(await queries.coin_bytes([CoinId(coin_id) for coin_id in ids]))

    async def transfers(peer: PeerId, wids: Ids) -> Blobs:
        async with places.turn(exchanges.group_of(peer)):
            return tuple(await queries.transfers([Wid(wid) for wid in wids], ANSWER_BYTES))

    async def votes(peer: PeerId, request: VotesRequest) -> VotesPage:
        anchors = [CoinId(anchor_id) for anchor_id in request.anchors]
        most = VOTES_EXCHANGE.limits.max_items
        async with places.turn(exchanges.group_of(peer)):
            found = await queries.votes(anchors, request.after, most)
        return VotesPage(tuple(found.coins), tuple(found.counting), int(found.has_more))

    exchanges.serve(HEADERS_EXCHANGE, HeadersRequest, headers)
    exchanges.serve(BODIES_EXCHANGE, tuple, bodies)
    exchanges.serve(COINS_EXCHANGE, tuple, coins)
    exchanges.serve(TRANSFERS_EXCHANGE, tuple, transfers)
    exchanges.serve(VOTES_EXCHANGE, VotesRequest, votes)
