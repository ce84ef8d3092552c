"""Dialling: a name is looked up, and a handshake tried at each of its addresses in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import trio

from unchained.node.transport.address import Address
from unchained.node.transport.contract import (
    DialError,
    DialRefusedError,
    DialSecurityError,
    DialUnreachableError,
    DialWrongPeerError,
    Direction,
    PeerId,
)
from unchained.node.transport.libp2p.listener import Resolve, places
from unchained.node.transport.libp2p.route import Route, RouteError
from unchained.node.transport.libp2p.secured import (
    NotSecuredError,
    SecurityMismatchError,
    WrongPeerError,
)
from unchained.node.transport.libp2p.streams import TcpStream
from unchained.node.transport.libp2p.upgrader import Upgraded, Upgrader
from unchained.node.transport.switchboard import NOT_ADMITTED, Switchboard

LOOKUPS_MAX: Final = 4

Attempt = Callable[[TcpStream, str], Awaitable[DialError | None]]
"""What is done with a socket to a place, given `Address.ip`; an error that it returns sends on to
the next."""


class SocketTable(Protocol):
    """Keeps the open sockets: the transport."""

    def begin(self, stream: trio.SocketStream) -> TcpStream:
        """Take a socket into the table."""

    def end(self, tcp: TcpStream) -> None:
        """Close a socket and count what went over it."""


class Dials:
    """Reaches peers by their addresses."""

    def __init__(
        self,
        sockets: SocketTable,
        switchboard: Switchboard,
        upgrader: Upgrader,
        resolver: Resolve,
        route: Route,
    ) -> None:
        self._sockets = sockets
        self._switchboard = switchboard
        self._upgrader = upgrader
        self._resolver = resolver
        self._route = route
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)

    async def reach(
        self, address: Address, attempt: Attempt, *, gated: PeerId | None = None
    ) -> DialError | None:
        """Make an attempt at each place of an address until one succeeds; return the last problem
        if none does. The gate is asked for a peer that is `gated`."""
        text = str(address)
        refusal = self._route.refusal(address)
        if refusal is not None:
            return DialRefusedError(text, refusal)
        try:
            found = await self._places(address)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return DialUnreachableError(text, f"the name does not resolve: {why}")
        problem: DialError | None = DialUnreachableError(text, "the name has no address")
        for place in found:
            refusal = self._route.refusal(place)
            if refusal is not None:
                problem = DialRefusedError(text, refusal)
                continue
            if gated and not self._switchboard.admits(place.ip, gated, Direction.OUTBOUND):
                problem = DialRefusedError(text, NOT_ADMITTED)
                continue
            try:
                stream = await self._route.open(place.dial_host, place.port)
            except RouteError as error:
                problem = DialUnreachableError(text, str(error))
                continue
            problem = await self._attempt(stream, attempt, place, text)
            if problem is None:
                return None
        return problem

    async def _places(self, address: Address) -> Sequence[Address]:
        """Return where an address leads: of a name the literals that it stands for, unless it is
        the proxy that looks names up."""
        if self._route.resolves or not address.is_name:
            return (address,)
        found = await places(address, self._resolver, self._lookups)
        return [Address.of_ip(ip, address.port) for ip in found]

    async def _attempt(
        self, stream: trio.SocketStream, attempt: Attempt, place: Address, text: str
    ) -> DialError | None:
        tcp = self._sockets.begin(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tcp.flush)
            try:
                return await attempt(tcp, place.ip)
            except WrongPeerError as error:
                return DialWrongPeerError(text, str(error))
            except NotSecuredError as error:
                return DialSecurityError(text, await self._words(error, place))
            except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - a stranger's bytes
                return DialUnreachableError(text, f"the handshake failed: {error!r}")
            finally:
                self._sockets.end(tcp)
                nursery.cancel_scope.cancel()

    async def _words(self, error: NotSecuredError, place: Address) -> str:
        """Say why there is no encryption: who has none of ours is asked for his."""
        if not isinstance(error, SecurityMismatchError):
            return str(error)
        self._switchboard.counters.security_mismatches += 1
        theirs = ""
        with suppress(RouteError):
            stream = await self._route.open(place.dial_host, place.port)
            theirs = await self._upgrader.name_theirs(stream)
        return str(SecurityMismatchError(theirs))


async def tell_accepted(
    upgraded: Upgraded,
    read: int,
    accepted: trio.Event,
    task_status: trio.TaskStatus[DialError | None],
) -> None:
    """Tell whoever dials that the peer lets us in: its first word after the handshake, of which
    `read` bytes were received, says so."""
    if not upgraded.is_accepted:
        await upgraded.tcp.hear(read)
    accepted.set()
    task_status.started(None)
