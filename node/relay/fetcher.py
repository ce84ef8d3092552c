"""Asking peers for parts of the chain: every answer is checked before it is used, and a peer that
lies or wastes time pays for it.

    FetchError                  the peer gave nothing that can be used; it has paid already
    +-- NotServedByPeerError    it does not have it, is busy, or is gone
        +-- NotNowError         it is busy or gone, or did not answer in time
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple

import trio

from unchained.node.chain.answers import Lacking
from unchained.node.chain.queries import ChainQueries
from unchained.node.chain.results import Package
from unchained.node.consensus.errors import BodyTooLargeError
from unchained.node.consensus.params import Network
from unchained.node.consensus.transition import check_encoded_bytes
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.exchanges import Exchanges
from unchained.node.peers.penalty import Penalizer, Penalty
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.transport.contract import PeerId, RequestError, ResponseTooLargeError
from unchained.node.wire import answers
from unchained.node.wire.errors import AnswerError, MismatchedAnswerError, RefusedAnswerError
from unchained.node.wire.messages import (
    BODIES_EXCHANGE,
    COINS_EXCHANGE,
    HEADERS_EXCHANGE,
    TRANSFERS_EXCHANGE,
    VOTES_EXCHANGE,
    Code,
    HeadersRequest,
    VotesRequest,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Anchors = Sequence[tuple[Coin, AnchorHeader]]


class FetchError(Exception):
    """A peer gave nothing that can be used; it has paid for it already."""

    def __init__(self, peer: PeerId, why: str) -> None:
        super().__init__(f"{peer}: {why}")
        self.peer = peer
        self.why = why


class NotServedByPeerError(FetchError):
    """The peer does not have it, is busy, or is gone."""


class NotNowError(NotServedByPeerError):
    """The peer is busy or gone, or did not answer in time: that says nothing of what it has."""


class _NeededTransfers:
    """The transfers that some bodies list and that are not known here, as they come.

    Of a body that is too large (Protocol §5.2) no more is needed than shows it.
    """

    def __init__(self, bodies: Sequence[Body], lacking: Lacking, network: Network) -> None:
        self._bodies = [body for body in bodies if body.transfers]
        self._missing = lacking.transfers
        self._lengths = dict(lacking.lengths)
        self._network = network
        self.raws: dict[Wid, bytes] = {}
        # What is here already may be too much by itself.
        self.add({})

    def missing(self) -> list[Wid]:
        """Return those that are still to be asked for."""
        return self._missing

    def add(self, raws: Mapping[Wid, bytes]) -> None:
        """Take in some."""
        self.raws.update(raws)
        self._lengths.update((wid, len(raw)) for wid, raw in raws.items())
        self._bodies = [body for body in self._bodies if self._may_grow(body)]
        listed = {wid for body in self._bodies for wid in body.transfers}
        self._missing = [wid for wid in self._missing if wid in listed and wid not in self.raws]

    def encoded_length(self, wid: Wid) -> int | None:
        """Return how many bytes a transfer's encoding has, None if it is not here."""
        return self._lengths.get(wid)

    def _may_grow(self, body: Body) -> bool:
        try:
            return bool(check_encoded_bytes(body.transfers, self, self._network))
        except BodyTooLargeError:
            return False


@contextmanager
def _put_off(patience: trio.CancelScope | None) -> Iterator[None]:
    """Put off a scope's deadline by the time that the context lasts."""
    if patience is None:
        yield
        return
    left_s = patience.deadline - trio.current_time()
    patience.deadline = math.inf
    try:
        yield
    finally:
        patience.deadline = trio.current_time() + left_s


class Fetcher:
    """Asks for headers, bodies, coins, transfers and votes."""

    def __init__(
        self, network: Network, queries: ChainQueries, exchanges: Exchanges, penalizer: Penalizer
    ) -> None:
        self._network = network
        self._queries = queries
        self._exchanges = exchanges
        self._penalizer = penalizer

    async def headers(
        self, peer: PeerId, request: HeadersRequest
    ) -> list[tuple[Coin, AnchorHeader]]:
        """Return a page of headers, linked and with digests that fit. Raises `FetchError`."""
        answer = await self._ask(peer, self._exchanges.ask(HEADERS_EXCHANGE, peer, request))
        return self._check(peer, answers.read_headers, request, answer)

    async def bodies(self, peer: PeerId, anchors: Anchors) -> list[Body]:
        """Return the bodies of anchors, up to the first that the peer lacks.

        Raises `FetchError`, also where it has none at all.
        """
        found: list[Body] = []
        most = BODIES_EXCHANGE.limits.max_items
        while len(found) < len(anchors):
            part = anchors[len(found) : len(found) + most]
            ids = tuple(coin.id for coin, _ in part)
            answer = await self._ask(peer, self._exchanges.ask(BODIES_EXCHANGE, peer, ids))
            headers = [header for _, header in part]
            bodies = self._check(peer, answers.read_bodies, headers, answer)
            for body in bodies:
                if body is None:
                    if not found:
                        raise NotServedByPeerError(peer, "has no body of these")
                    return found
                found.append(body)
        return found

    async def coins(self, peer: PeerId, ids: Sequence[CoinId]) -> dict[CoinId, Coin]:
        """Return the coins that a peer has of these. Raises `FetchError`."""
        found: dict[CoinId, Coin] = {}
        most = COINS_EXCHANGE.limits.max_items
        for at in range(0, len(ids), most):
            part = tuple(ids[at : at + most])
            answer = await self._ask(peer, self._exchanges.ask(COINS_EXCHANGE, peer, part))
            found.update(self._check(peer, answers.read_coins, part, answer))
        return found

    async def transfers(self, peer: PeerId, needed: _NeededTransfers) -> None:
        """Take in the transfers that a peer has of those that bodies need. Raises `FetchError`."""
        most = TRANSFERS_EXCHANGE.limits.max_items
        asked: set[Wid] = set()
        while part := tuple(wid for wid in needed.missing() if wid not in asked)[:most]:
            answer = await self._ask(peer, self._exchanges.ask(TRANSFERS_EXCHANGE, peer, part))
            raws = self._check(peer, answers.read_transfers, part, answer)
            asked.update(part[: max(1, len(raws))])
            needed.add({wid: raw for wid, raw in zip(part, raws, strict=False) if raw})

    async def votes(self, peer: PeerId, request: VotesRequest) -> answers.VotesRead:
        """Return a page of the coins that a peer knows to be bound to anchors. Raises
        `FetchError`."""
        page = await self._ask(peer, self._exchanges.ask(VOTES_EXCHANGE, peer, request))
        return self._check(peer, answers.read_votes, request, page)

    async def packages(
        self,
        peer: PeerId,
        anchors: Anchors,
        others: Sequence[PeerId] = (),
        *,
        patience: trio.CancelScope | None = None,
    ) -> list[Package]:
        """Return anchors with all that they list, up to the first whose body the peer lacks.

        What the peer lacks of coins and transfers is asked of `others`. Of a body whose transfers
        have more bytes than a body may have (BODY_TOO_LARGE), only so many are fetched as show it.
        The deadline of `patience` is put off by what is done here: it is the peer's time. Raises
        `FetchError`, also where there are more transfers than a body may list.
        """
        network = self._network
        if any(header.transfers.n > network.max_transfers for _, header in anchors):
            raise FetchError(peer, "a body that lists more transfers than it may")
        bodies = await self.bodies(peer, anchors)
        parts = [
            (coin, body) for (coin, _), body in zip(anchors[: len(bodies)], bodies, strict=True)
        ]

        with _put_off(patience):
            lacking = await self._queries.lacking(bodies)
        ids = lacking.coins
        have: dict[CoinId, Coin] = {coin.id: coin for coin, _ in parts}
        needed = _NeededTransfers(bodies, lacking, network)
        for source in (peer, *others):
            ids = [coin_id for coin_id in ids if coin_id not in have]
            if not ids and not needed.missing():
                break
            try:
                have.update(await self.coins(source, ids))
                await self.transfers(source, needed)
            except FetchError:
                if source == peer and not others:
                    raise
        if any(coin_id not in have for coin_id in ids) or needed.missing():
            self._penalizer.penalize(peer, Penalty.FAULT, "bodies without what they list")
            raise FetchError(peer, "coins or transfers of a body are missing")
        return [
            Package(
                anchor,
                body,
                {
                    CoinId(coin_id): have[CoinId(coin_id)]
                    for coin_id in (*body.fresh, *body.uncles)
                    if CoinId(coin_id) in have
                },
                {Wid(wid): needed.raws[Wid(wid)] for wid in body.transfers if wid in needed.raws},
            )
            for anchor, body in parts
        ]

    async def _ask(self, peer: PeerId, asking: Awaitable[T]) -> T:
        try:
            return await asking
        except RefusedAnswerError as error:
            kind = NotNowError if error.actual == Code.BUSY.name else NotServedByPeerError
            raise kind(peer, str(error)) from None
        except ResponseTooLargeError as error:
            raise FetchError(peer, str(error)) from None
        except RequestError as error:
            raise NotNowError(peer, str(error)) from None
        except (AnswerError, NonCanonicalError) as error:
            self._penalizer.penalize(peer, Penalty.FAULT, str(error))
            raise FetchError(peer, str(error)) from None

    def _check(self, peer: PeerId, read: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return read(*args)
        except MismatchedAnswerError as error:
            self._penalizer.penalize(peer, Penalty.BAN, str(error))
            raise FetchError(peer, str(error)) from None
