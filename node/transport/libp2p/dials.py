"""Dialling: a name is looked up, and a handshake tried at each of its addresses in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
from unchained.node.transport.libp2p.listener import Resolve, dial_problem, places
from unchained.node.transport.libp2p.secured import (
    NotSecuredError,
    SecurityMismatchError,
    WrongPeerError,
)
from unchained.node.transport.libp2p.streams import TcpStream
from unchained.node.transport.libp2p.upgrader import Upgrader
from unchained.node.transport.switchboard import Switchboard

LOOKUPS_MAX: Final = 4

Attempt = Callable[[TcpStream, str], Awaitable[DialError | None]]
"""What is done with a socket to an IP literal; an error that it returns sends on to the next."""


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
    ) -> None:
        self._sockets = sockets
        self._switchboard = switchboard
        self._upgrader = upgrader
        self._resolver = resolver
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)

    async def reach(
        self, address: Address, attempt: Attempt, *, gated: PeerId | None = None
    ) -> DialError | None:
        """Make an attempt at each place of an address until one succeeds; return the last problem
        if none does. The gate is asked for a peer that is `gated`."""
        text = str(address)
        try:
            found = await places(address, self._resolver, self._lookups)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return DialUnreachableError(text, f"the name does not resolve: {why}")
        problem: DialError | None = DialUnreachableError(text, "the name has no address")
        for ip in found:
            if gated and not self._switchboard.admits(ip, gated, Direction.OUTBOUND):
                problem = DialRefusedError(text, "the gate refuses it")
                continue
            try:
                stream = await trio.open_tcp_stream(ip, address.port)
            except OSError as error:
                problem = DialUnreachableError(text, dial_problem(error))
                continue
            problem = await self._attempt(stream, attempt, ip, address)
            if problem is None:
                return None
        return problem

    async def _attempt(
        self, stream: trio.SocketStream, attempt: Attempt, ip: str, address: Address
    ) -> DialError | None:
        tcp = self._sockets.begin(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tcp.flush)
            try:
                return await attempt(tcp, ip)
            except WrongPeerError as error:
                return DialWrongPeerError(str(address), str(error))
            except NotSecuredError as error:
                return DialSecurityError(str(address), await self._words(error, ip, address.port))
            except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - a stranger's bytes
                return DialUnreachableError(str(address), f"the handshake failed: {error!r}")
            finally:
                self._sockets.end(tcp)
                nursery.cancel_scope.cancel()

    async def _words(self, error: NotSecuredError, ip: str, port: int) -> str:
        """Say why there is no encryption: who has none of ours is asked for his."""
        if not isinstance(error, SecurityMismatchError):
            return str(error)
        self._switchboard.counters.security_mismatches += 1
        theirs = ""
        with suppress(OSError):
            theirs = await self._upgrader.name_theirs(await trio.open_tcp_stream(ip, port))
        return str(SecurityMismatchError(theirs))
