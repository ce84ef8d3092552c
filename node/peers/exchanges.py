"""Requests and answers in the layouts of `wire`, over any transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, cast

import trio

from unchained.node.base.token_bucket import KeyedTokenBuckets
from unchained.node.peers.ask_rate import AskRate
from unchained.node.peers.penalty import Penalty
from unchained.node.peers.reputation import Reputation
from unchained.node.primitives.codec import encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.transport.contract import PeerId, ServeLimits, Transport
from unchained.node.wire.limits import name_of
from unchained.node.wire.messages import Code, Exchange, refusal

ASKED_SHARE: Final = 0.8
"""Share of the table's rates at which we ask, so that nobody finds that we ask too often."""

Q = TypeVar("Q")
A = TypeVar("A")


class Exchanges:
    """Asks and serves the requests of one network. A peer that asks too often pays for it,
    counted by what bans of it cover."""

    def __init__(self, transport: Transport, genesis_id: bytes, reputation: Reputation) -> None:
        self.transport = transport
        self._genesis_id = genesis_id
        self._reputation = reputation
        self._asked: dict[str, AskRate] = {}

    async def ask(self, exchange: Exchange[A], peer: PeerId, request: object) -> A:
        """Send a request, as soon as the peer's rate allows, and return what its answer gives,
        unchecked against the request.

        Raises `RequestError`, `AnswerError` and `NonCanonicalError`.
        """
        await self.turn(exchange, peer)
        return await self.ask_in_turn(exchange, peer, request)

    async def turn(self, exchange: Exchange[A], peer: PeerId, *, urgent: bool = False) -> None:
        """Wait until the peer's rate allows one more such request, which has to follow; what is
        `urgent` goes first."""
        await self._rate_of(exchange).turn(peer, urgent=urgent)

    def wait_s(self, exchange: Exchange[A], peer: PeerId, *, urgent: bool = False) -> float:
        """Return the seconds that `turn` would take."""
        return self._rate_of(exchange).wait_s(peer, urgent=urgent)

    def _rate_of(self, exchange: Exchange[A]) -> AskRate:
        limits = exchange.limits
        return self._asked.setdefault(
            limits.name,
            AskRate(max(1.0, ASKED_SHARE * limits.burst), ASKED_SHARE * limits.per_second),
        )

    async def ask_in_turn(self, exchange: Exchange[A], peer: PeerId, request: object) -> A:
        """Do the same as `ask`, once `turn` has come."""
        limits = exchange.limits
        raw = await self.transport.request(
            peer,
            name_of(self._genesis_id, exchange.name),
            encode(request),
            max_response=limits.max_answer + 1,
            timeout=limits.timeout_s,
        )
        return exchange.decode_answer(raw)

    def group_of(self, peer: PeerId) -> str:
        """Return by what a peer's questions are counted."""
        return self._reputation.group_of(peer)

    def serve(
        self,
        exchange: Exchange[A],
        layout: type[Q],
        handler: Callable[[PeerId, Q], Awaitable[A | None]],
    ) -> None:
        """Answer requests with what `handler` returns, `NOT_FOUND` for None. Set before `run`."""
        limits = exchange.limits
        rate = KeyedTokenBuckets(limits.burst, limits.per_second)

        async def answer(peer: PeerId, raw: bytes) -> bytes:
            if not rate.take(self.group_of(peer), trio.current_time()):
                # Protocol §11: the excess costs the asker a little, so that it cannot go on
                self._reputation.penalize(peer, Penalty.COST, f"{exchange.name}: too often", ms=1.0)
                return refusal(Code.BUSY)
            try:
                request = exchange.decode_request(raw)
            except NonCanonicalError as error:
                self._reputation.penalize(peer, Penalty.FAULT, f"{exchange.name}: {error}")
                return refusal(Code.BAD_REQUEST)
            value = await handler(peer, cast("Q", request))
            return refusal(Code.NOT_FOUND) if value is None else exchange.answer(value)

        self.transport.serve(
            name_of(self._genesis_id, exchange.name),
            answer,
            ServeLimits(limits.max_request, limits.max_per_peer, limits.max_total),
        )
