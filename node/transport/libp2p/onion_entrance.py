"""The door that an onion service of ours leads to: a listener of its own on loopback, so that who
comes in by it is not taken for somebody on this machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio

from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import ONION_VISITOR
from unchained.node.transport.contract import PeerId
from unchained.node.transport.libp2p.listener import listen, parse_listen, plain


class OnionEntrance:
    """Shut until `open`; `onion_service.OnionDoor`."""

    def __init__(self) -> None:
        self._place: Address | None = None
        self._service: Address | None = None

    async def open(self) -> socket.socket:
        """Listen, on a port that is free. Raises `CannotListenError`."""
        ((self._place, listening),) = await listen([parse_listen("/ip4/127.0.0.1/tcp/0")])
        return listening

    def onion_target(self) -> str:
        """Return ``HOST:PORT`` of the door."""
        assert self._place is not None, "opened before"
        return f"{self._place.host}:{self._place.port}"

    def set_onion(self, address: Address | None) -> None:
        """Announce where the service is; None: there is none any more."""
        self._service = address

    def addresses(self, peer: PeerId) -> Sequence[str]:
        """Return what to give to others."""
        return () if self._service is None else (str(self._service.with_peer(peer)),)

    def ip_of(self, stream: trio.SocketStream) -> str:
        """Return what limits and bans of who is connected go by. Raises OSError, ValueError."""
        if self._place is not None and stream.socket.getsockname()[1] == self._place.port:
            return ONION_VISITOR
        return plain(stream.socket.getpeername()[0])
