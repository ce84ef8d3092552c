"""What a security protocol makes of a socket, whichever it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from libp2p.io.exceptions import IOException

from unchained.node.transport.contract import LinkSecurity, PeerId


class NotSecuredError(Exception):
    """No encrypted connection was made; the text says why, in one line, for people."""


class SecurityMismatchError(NotSecuredError):
    """The two sides have no security protocol in common."""

    def __init__(self, theirs: str = "") -> None:
        super().__init__(
            "no security protocol in common" + (f" (theirs: {theirs})" if theirs else "")
        )
        self.theirs = theirs


class WrongPeerError(NotSecuredError):
    """Somebody else than expected answered."""

    def __init__(self) -> None:
        super().__init__("another peer answers")


class FloodError(IOException):
    """The peer sends much that costs work and carries nothing; the text says what."""


class Wire(Protocol):
    """Bytes to and from the other side: a `TcpStream`, or one in memory."""

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly `n` bytes, or what is there, at least one; or raise."""

    async def write(self, data: bytes) -> None:
        """Queue all of `data`, without a checkpoint."""

    async def drain(self) -> None:
        """Wait until what was queued has been sent, or cannot be."""


class Session(Protocol):
    """An encrypted connection."""

    @property
    def is_initiator(self) -> bool:
        """Whether we opened the connection."""

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly `n` bytes, or raise libp2p's IOException; `FloodError` for what is
        the peer's fault."""

    async def write(self, data: bytes) -> None:
        """Queue all of `data`, without a checkpoint: whole or not at all."""


@dataclass(frozen=True, slots=True)
class Secured:
    """An encrypted connection with a peer that has proved its id."""

    session: Session
    peer: PeerId
    security: LinkSecurity
    muxer_agreed: bool
    """Whether the handshake chose the multiplexer as well."""
