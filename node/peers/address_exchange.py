"""Addresses that peers exchange: asking, answering, which to keep and which to send to whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import trio

from unchained.node.base.clock import Clock
from unchained.node.peers.address_book import AddressBook
from unchained.node.peers.exchanges import Exchanges
from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.peers.peer_statistics import Connected
from unchained.node.peers.penalty import Penalizer, Penalty
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import is_dialable, is_loopback, is_public
from unchained.node.transport.contract import (
    BadAddressError,
    Direction,
    PeerId,
    PeerInfo,
    RequestError,
    Transport,
)
from unchained.node.wire.errors import AnswerError, RefusedAnswerError
from unchained.node.wire.limits import MAX_ADDRESS
from unchained.node.wire.messages import ADDRESSES_EXCHANGE, Addresses, AddressesRequest

ADDRESSES_OF_INBOUND_MAX: Final = 8
"""Addresses taken from a peer that chose us, its own among them."""
ASK_EVERY_S: Final = 6 * 3600.0
ASK_WHEN_MISSING_S: Final = 60.0
"""Seconds between requests to one peer: more often while peers are missing."""
ANSWER_KEPT_S: Final = 86_400.0
"""Seconds for which all that ask are sent the same addresses (as in Bitcoin Core): who asks again
and again, or from many places, learns neither all that a node knows nor what is news to it."""
MANY_ADDRESSES: Final = 64
"""An answer of fewer is drawn anew once a quarter as many more have become known: where there are
few nodes, those that join have to find each other. Beyond, it stays however many we are told of."""
ASK_SECOND_TIME_S: Final = 10.0
"""Seconds until the second request then: who joined together with us was not known at once."""


class _Answer(msgspec.Struct, frozen=True):
    """What those get who ask, until a time of Trio's and so many additions to the book."""

    addresses: list[str]
    until: float
    until_added: float


class AddressExchange:
    """Asks peers for addresses, into the book, and sends them some of it. Set before `run`.

    `connected` holds the peers of the moment.
    """

    def __init__(
        self,
        transport: Transport,
        exchanges: Exchanges,
        book: AddressBook,
        penalizer: Penalizer,
        clock: Clock,
        connected: Mapping[PeerId, Connected],
        groups: NetworkGroups,
        *,
        loopback_is_home: bool,
        onion_is_apart: bool = False,
    ) -> None:
        """`loopback_is_home`: whether who connects from this machine is believed to be of it; who
        comes through an onion service, or another tunnel, does so as well, unless
        `onion_is_apart`."""
        self._transport = transport
        self._exchanges = exchanges
        self._book = book
        self._penalizer = penalizer
        self._clock = clock
        self._connected = connected
        self._groups = groups
        self._loopback_is_home = loopback_is_home
        self._onion_is_apart = onion_is_apart
        self._answers: dict[str, _Answer] = {}
        """What is answered by the kind of address that asks."""
        self._asked: dict[PeerId, tuple[float, int]] = {}
        """When, in Trio's time, a peer was asked last, and how many times it was."""
        self._answered: set[PeerId] = set()
        exchanges.serve(ADDRESSES_EXCHANGE, AddressesRequest, self._serve)

    def is_due(self, peer: PeerId, *, missing: bool) -> bool:
        """Return whether to ask a peer again; `missing`: whether we lack peers."""
        at, times = self._asked.get(peer, (float("-inf"), 0))
        again_s = ASK_EVERY_S
        if missing:
            again_s = ASK_SECOND_TIME_S if times == 1 else ASK_WHEN_MISSING_S
        return trio.current_time() - at >= again_s

    def forget(self, peer: PeerId) -> None:
        """Note that a peer is gone."""
        self._asked.pop(peer, None)
        self._answered.discard(peer)

    def has_answered(self, peer: PeerId) -> bool:
        """Return whether a connected peer has asked for addresses, and has been given them."""
        return peer in self._answered

    async def ask(self, info: PeerInfo) -> None:
        """Ask a peer, and keep what is worth it."""
        outbound = info.direction is Direction.OUTBOUND
        most = ADDRESSES_EXCHANGE.limits.max_items if outbound else ADDRESSES_OF_INBOUND_MAX
        _, times = self._asked.get(info.peer, (0.0, 0))
        self._asked[info.peer] = trio.current_time(), times + 1
        found: Addresses | None = None
        try:
            # The rate lets us ask a peer that comes and goes only minutes later: until then, other
            # questions are not to wait.
            with trio.move_on_after(ADDRESSES_EXCHANGE.limits.timeout_s):
                found = await self._exchanges.ask(
                    ADDRESSES_EXCHANGE, info.peer, AddressesRequest(most)
                )
        except (RequestError, RefusedAnswerError):
            return
        except (AnswerError, NonCanonicalError) as error:
            self._penalizer.penalize(info.peer, Penalty.FAULT, f"addresses: {error}")
            return
        if found is None:
            return
        if len(found) > most:
            self._penalizer.penalize(
                info.peer, Penalty.FAULT, f"{len(found)} addresses, asked for {most}"
            )
            return
        source = self._groups.of(info.ip)
        now_ms = self._clock.now_ms()
        told_by = self._known_place(info.ip)
        for raw in found:
            text = raw.decode("ascii", "replace")
            if is_worth_keeping(text, self._transport.id, told_by):
                self._book.add(text, source, now_ms)

    async def _serve(self, peer: PeerId, request: AddressesRequest) -> Addresses:
        most = min(request.most, ADDRESSES_EXCHANGE.limits.max_items)
        known = self._connected.get(peer)
        ip = None if known is None else self._known_place(known.info.ip)
        fit = fit_to_send((*self._transport.addresses(), *self._others(ip)), ip)
        if known is not None:
            self._answered.add(peer)
        return tuple(text.encode() for text in fit[:most])

    def _known_place(self, ip: str) -> str | None:
        """Return where a peer is, None if its address does not tell: a tunnel's end is none. With
        an onion service of ours that may be any machine of our own network, Tor's."""
        if is_public(ip):
            return ip
        has_onion = not self._onion_is_apart and any(
            text.startswith("/onion3/") for text in self._transport.addresses()
        )
        is_home = not has_onion and (self._loopback_is_home or not is_loopback(ip))
        return ip if is_home else None

    def _others(self, ip: str | None) -> list[str]:
        """Return the addresses that those get who ask from an address of this kind."""
        kind = "public" if ip is None or is_public(ip) else "private"
        now = trio.current_time()
        kept = self._answers.get(kind)
        if kept is None or now >= kept.until or self._book.added >= kept.until_added:
            most = ADDRESSES_EXCHANGE.limits.max_items
            others = fit_to_send(self._book.sample(most, self._clock.now_ms()), ip)
            more = max(1, len(others) // 4) if len(others) < MANY_ADDRESSES else math.inf
            kept = _Answer(others, now + ANSWER_KEPT_S, self._book.added + more)
            self._answers[kind] = kept
        return kept.addresses


def is_worth_keeping(text: str, own: PeerId, told_by_ip: str | None) -> bool:
    """Return whether an address may mean another node. `told_by_ip` is None for who may be
    anywhere.

    What a stranger of the internet says of a private network would have us dial machines of our
    own."""
    try:
        address = Address.parse(text)
    except BadAddressError:
        return False
    return (
        not address.is_name
        and address.peer != own
        and is_dialable(address.ip)
        and (is_public(address.ip) or not (told_by_ip is None or is_public(told_by_ip)))
    )


def fit_to_send(texts: Sequence[str], asked_by_ip: str | None) -> list[str]:
    """Return the addresses that mean something to the peer that asks, each once: those of a private
    network mean nothing outside it, and one longer than an answer may hold would be a fault."""
    public_only = asked_by_ip is None or is_public(asked_by_ip)
    return [
        text
        for text in dict.fromkeys(texts)
        if len(text) <= MAX_ADDRESS and (not public_only or _is_public(text))
    ]


def _is_public(text: str) -> bool:
    address = Address.parse(text)
    return address.is_name or is_public(address.ip)
