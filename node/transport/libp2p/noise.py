"""libp2p's Noise, for peers that have no post-quantum TLS yet: X25519 alone."""

from __future__ import annotations

from typing import Final, cast

from libp2p.abc import IRawConnection
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID
from libp2p.security.noise.transport import Transport as StockNoise
from libp2p.security.secure_session import SecureSession

from unchained.node.transport.contract import LinkSecurity, PeerId
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.secured import Secured, WrongPeerError

NOISE_PROTOCOL: Final = str(PROTOCOL_ID)
_SECURITY: Final = LinkSecurity("noise", "X25519")


class Noise:
    """Makes encrypted connections of bare ones, for one identity."""

    def __init__(self, identity: Identity) -> None:
        self._stock = StockNoise(identity.key_pair, create_new_x25519_key_pair().private_key)

    async def inbound(self, wire: ReadWriteCloser) -> Secured:
        """Answer a handshake; raises whatever goes wrong."""
        raw: IRawConnection = RawConnection(wire, initiator=False)
        return _secured(await self._stock.secure_inbound(raw))

    async def outbound(self, wire: ReadWriteCloser, expected: PeerId | None) -> Secured:
        """Begin a handshake; raises `WrongPeerError` and whatever goes wrong."""
        raw: IRawConnection = RawConnection(wire, initiator=True)
        if expected is None:
            return _secured(await self._stock.get_pattern().handshake_outbound(raw, None))
        try:
            return _secured(await self._stock.secure_outbound(raw, ID.from_base58(expected)))
        except PeerIDMismatchesPubkey:
            raise WrongPeerError from None


def _secured(secured: object) -> Secured:
    session = cast(SecureSession, secured)
    peer = PeerId(session.get_remote_peer().to_base58())
    return Secured(session, peer, _SECURITY, muxer_agreed=False)
