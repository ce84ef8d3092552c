"""From a socket to an encrypted, multiplexed peer: which security is spoken, and with whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import trio
from libp2p.peer.id import ID

from unchained.node.base.clock import Clock
from unchained.node.transport.contract import LinkSecurity, PeerId
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.noise import NOISE_PROTOCOL, Noise
from unchained.node.transport.libp2p.pace import Pace
from unchained.node.transport.libp2p.secured import Secured, SecurityMismatchError
from unchained.node.transport.libp2p.streams import (
    ProtocolNotServedError,
    TcpStream,
    agree,
    propose,
    propose_one_of,
)
from unchained.node.transport.libp2p.tls import TLS_PROTOCOL, Tls
from unchained.node.transport.libp2p.yamux import YAMUX_PROTOCOL, Yamux, YamuxGuard

SecurityPolicy = Literal["hybrid", "any"]
"""Only post-quantum links, or whatever both sides have."""
ASKED_FOR: Final = (NOISE_PROTOCOL, "/plaintext/2.0.0", "/secio/1.0.0")
"""What a peer without our security is asked for, to be able to say what it speaks."""
ASK_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Upgraded:
    """An encrypted, multiplexed connection, not yet running."""

    peer: PeerId
    security: LinkSecurity
    is_accepted: bool
    """Whether the other side has seen that we are who it lets in."""
    tcp: TcpStream
    guard: YamuxGuard
    muxer: Yamux


class Upgrader:
    """Makes peers of sockets: TLS or, where the policy lets it, Noise; and Yamux. Nothing else is
    offered or accepted."""

    def __init__(
        self, identity: Identity, budget: NodeBudget, clock: Clock, policy: SecurityPolicy
    ) -> None:
        self._budget = budget
        classical = policy == "any"
        self._tls = Tls(identity, clock, YAMUX_PROTOCOL, classical=classical)
        self._noise = Noise(identity) if classical else None
        self._offered = (TLS_PROTOCOL, NOISE_PROTOCOL) if classical else (TLS_PROTOCOL,)

    async def inbound(self, tcp: TcpStream, proven: Callable[[PeerId], bool]) -> Upgraded | None:
        """Answer a handshake; None if `proven` refuses the peer. Raises `NotSecuredError` and
        whatever else goes wrong."""
        try:
            protocol = await agree(tcp, self._offered)
        except ProtocolNotServedError as error:
            await tcp.drain()
            raise SecurityMismatchError(error.shown) from None
        pace = Pace(self._budget.work)
        if protocol == TLS_PROTOCOL:
            session = self._tls.start(tcp, pace, is_initiator=False)
            secured = await self._tls.finish(session, None)
        else:
            assert self._noise is not None
            secured = await self._noise.inbound(tcp)
        if not proven(secured.peer):
            return None
        if secured.muxer_agreed:
            # The first word, which says that the peer is let in: what TLS has left to send. It goes
            # out also where the link ends at once, as one of two that crossed does.
            await secured.session.write(b"")
            await tcp.drain()
        else:
            await agree(secured.session, (YAMUX_PROTOCOL,))
        return self._multiplexed(tcp, secured, pace)

    async def outbound(self, tcp: TcpStream, peer: PeerId) -> Upgraded:
        """Begin a handshake with an expected peer; raises `NotSecuredError` and whatever else goes
        wrong."""
        pace = Pace(None)
        secured = await self._secure(tcp, peer, pace)
        if not secured.muxer_agreed:
            await propose(secured.session, YAMUX_PROTOCOL)
        return self._multiplexed(tcp, secured, pace)

    async def identify(self, tcp: TcpStream) -> PeerId:
        """Begin a handshake with the peer that answers, and return who it proved to be."""
        return (await self._secure(tcp, None, Pace(None))).peer

    async def name_theirs(self, stream: trio.SocketStream) -> str:
        """Return which security a peer speaks that has none of ours; "" if it does not say."""
        tcp = TcpStream(stream)
        theirs = ""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tcp.flush)
                with trio.move_on_after(ASK_S):
                    theirs = await self._ask(tcp)
                nursery.cancel_scope.cancel()
        finally:
            tcp.abort()
        return theirs

    async def _ask(self, tcp: TcpStream) -> str:
        try:
            return await propose_one_of(tcp, ASKED_FOR)
        except Exception:  # noqa: BLE001 - a stranger's bytes may raise anything
            return ""

    async def _secure(self, tcp: TcpStream, expected: PeerId | None, pace: Pace) -> Secured:
        if self._noise is None:
            return await self._secure_at_once(tcp, expected, pace)
        # A refusal must leave the stream in order, so the choice takes its round trip.
        try:
            protocol = await propose_one_of(tcp, self._offered)
        except ProtocolNotServedError:
            raise SecurityMismatchError from None
        if protocol == NOISE_PROTOCOL:
            return await self._noise.outbound(tcp, expected)
        session = self._tls.start(tcp, pace, is_initiator=True)
        await tcp.write(session.hello())
        return await self._tls.finish(session, expected)

    async def _secure_at_once(self, tcp: TcpStream, expected: PeerId | None, pace: Pace) -> Secured:
        """Send the handshake's first message along with its name: there is no other choice."""
        session = self._tls.start(tcp, pace, is_initiator=True)
        try:
            await propose(tcp, TLS_PROTOCOL, session.hello())
        except ProtocolNotServedError:
            raise SecurityMismatchError from None
        return await self._tls.finish(session, expected)

    def _multiplexed(self, tcp: TcpStream, secured: Secured, pace: Pace) -> Upgraded:
        guard = YamuxGuard(secured.session, tcp, self._budget, pace)
        muxer = Yamux(guard, ID.from_base58(secured.peer))
        is_accepted = not (secured.muxer_agreed and secured.session.is_initiator)
        return Upgraded(secured.peer, secured.security, is_accepted, tcp, guard, muxer)
