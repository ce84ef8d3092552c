"""libp2p's TLS 1.3 (libp2p/specs, `tls/tls.md`) by OpenSSL over memory buffers.

OpenSSL does the handshake and the records, `certificate` says whom a peer's certificate belongs to,
and what is here moves bytes between the two and a socket. The multiplexer is chosen in the same
handshake, by ALPN (`connections/inlined-muxer-negotiation.md`), which saves its round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import trio
from cryptography import x509
from libp2p.io.exceptions import ConnectionClosedError
from OpenSSL import SSL
from OpenSSL import _util as openssl
from OpenSSL.crypto import X509

from unchained.node.base.clock import Clock
from unchained.node.transport.contract import (
    HYBRID_GROUP,
    CannotSecureError,
    LinkSecurity,
    PeerId,
)
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.certificate import (
    BadCertificateError,
    OwnCertificate,
    peer_of,
    require_cheap_key,
)
from unchained.node.transport.libp2p.pace import Pace
from unchained.node.transport.libp2p.secured import (
    NotSecuredError,
    Secured,
    Wire,
    WrongPeerError,
)
from unchained.node.transport.libp2p.tls_records import TlsRecords

TLS_PROTOCOL: Final = "/tls/1.0.0"
ALPN_PLAIN: Final = "libp2p"
"""Chosen where the multiplexer is agreed on afterwards."""
HYBRID_GROUPS: Final = HYBRID_GROUP
ANY_GROUPS: Final = f"{HYBRID_GROUP}/X25519:P-256:P-384"
"""Key exchanges. What stands before the stroke is taken if both sides have it, even where it costs
a round trip since the other side has guessed differently."""
HANDSHAKE_BYTES_MAX: Final = 16 << 10
"""Bytes that a peer may send until the handshake is done; with certificates it takes 2 KiB."""
RECORD_BYTES_MAX: Final = 16 << 10
RECORD_EXTRA_BYTES: Final = 22
"""Bytes of a record beside its data."""
FLUSH_BYTES: Final = 4 << 10
WRITE_BYTES: Final = 4 * RECORD_BYTES_MAX
"""Bytes that OpenSSL is given at a time: its buffer stays in the processor's cache."""
_SSL_MODE_NO_AUTO_CHAIN: Final = 8
"""OpenSSL's: our certificate goes out alone, without looking in each handshake for what may stand
above it. pyOpenSSL has no name for it."""


class Tls:
    """Makes encrypted connections of bare ones, for one identity."""

    def __init__(
        self, identity: Identity, clock: Clock, muxer: str, *, classical: bool = False
    ) -> None:
        """Offer a multiplexer; take classical key exchanges only where `classical` says so.

        Raises `CannotSecureError`."""
        self._clock = clock
        self._muxer = muxer.encode()
        self._alpn = (self._muxer, ALPN_PLAIN.encode())
        self._classical = classical
        own = OwnCertificate.of(identity)
        # Whose certificate it is, and whether it is in order, is asked when the handshake is done:
        # what OpenSSL finds, which knows of no identities, decides nothing. But what would cost it
        # much is refused before, and without VERIFY_PEER it would not heed that.
        self._opening = self._make_context(own, SSL.VERIFY_PEER)
        self._accepting = self._make_context(own, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)

    def _make_context(self, own: OwnCertificate, mode: int) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        _set_groups(context, ANY_GROUPS if self._classical else HYBRID_GROUPS)
        context.use_certificate(own.certificate)
        context.use_privatekey(own.key)
        context.set_verify(mode, _take_if_cheap)
        context.set_alpn_protos(list(self._alpn))
        context.set_alpn_select_callback(self._choose)
        # Every connection proves its peer anew: nothing is resumed.
        context.set_options(SSL.OP_NO_TICKET)
        # A write fills all records that it takes, in one call: memory has room.
        context.clear_mode(openssl.lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
        context.set_mode(_SSL_MODE_NO_AUTO_CHAIN)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return context

    def _choose(self, _connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
        for protocol in self._alpn:
            if protocol in offered:
                return protocol
        # An exception ends the handshake with an alert.
        raise NotSecuredError("none of the application protocols that the peer's TLS offers")

    def start(self, wire: Wire, pace: Pace, *, is_initiator: bool) -> TlsSession:
        """Return a connection whose handshake has not begun; its records are charged to `pace`."""
        if is_initiator:
            connection = SSL.Connection(self._opening, None)
            connection.set_connect_state()
        else:
            connection = SSL.Connection(self._accepting, None)
            connection.set_accept_state()
        return TlsSession(wire, connection, pace, is_initiator=is_initiator)

    async def finish(self, session: TlsSession, expected: PeerId | None) -> Secured:
        """Shake hands, after any `hello`; raises `NotSecuredError`, and libp2p's IOException if
        the socket breaks.

        Of a peer that is refused nothing is read, and it is sent nothing of ours but, in words,
        why."""
        await session.shake_hands()
        connection = session.connection
        chosen = connection.get_alpn_proto_negotiated()
        if chosen not in self._alpn:
            raise NotSecuredError("the peer's TLS chose no application protocol of libp2p")
        group = connection.get_group_name() or ""
        security = LinkSecurity("tls", group)
        if not self._classical and not security.post_quantum:
            raise NotSecuredError(f"the peer's TLS agreed on {group}, not on {HYBRID_GROUP}")
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        peer = peer_of(session.certificate(), now)
        if expected is not None and peer != expected:
            raise WrongPeerError
        # What a listener has left to say goes out with what it writes first: until then the side
        # that opened cannot take itself for accepted.
        if session.is_initiator:
            await session.flush()
        return Secured(session, peer, security, chosen == self._muxer)


class TlsSession:
    """One connection: what is read and written is plain, what goes over the wire is not."""

    def __init__(
        self, wire: Wire, connection: SSL.Connection, pace: Pace, *, is_initiator: bool
    ) -> None:
        self.connection = connection
        self._wire = wire
        self._is_initiator = is_initiator
        self._ahead = b""
        """What was read of the wire and not given to OpenSSL."""
        self._records = TlsRecords(pace, trio.current_time())

    @property
    def is_initiator(self) -> bool:
        """Whether we opened the connection."""
        return self._is_initiator

    def hello(self) -> bytes:
        """Return the first message of the side that opens, so that it can be sent along."""
        self._step()
        return self._pending(HANDSHAKE_BYTES_MAX)

    async def shake_hands(self) -> None:
        """Run the handshake once any `hello` has been sent, and leave our last message unsent.

        Raises `NotSecuredError`."""
        room = HANDSHAKE_BYTES_MAX
        try:
            while True:
                self._ahead = self._ahead or await self._wire.read()
                if not room:
                    raise NotSecuredError(f"a TLS handshake above {HANDSHAKE_BYTES_MAX} bytes")
                room -= self._give(room)
                if self._step():
                    return
                await self.flush()
        except NotSecuredError:
            # The alert that says why.
            await self.flush()
            await self._wire.drain()
            raise

    def _step(self) -> bool:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise NotSecuredError(_words(error)) from None
        return True

    def certificate(self) -> x509.Certificate:
        """Return the one certificate of the peer; raises `BadCertificateError`."""
        own = self.connection.get_app_data()
        chain = self.connection.get_peer_cert_chain() or []
        # OpenSSL lists the peer's own among the rest to the side that opened, and to no other.
        further = len(chain) - self._is_initiator
        if not isinstance(own, x509.Certificate) or further:
            raise BadCertificateError(f"a chain of {further + 1} certificates, not one")
        return own

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly `n` bytes, or what is there; raises libp2p's ConnectionClosedError."""
        parts = []
        missing = RECORD_BYTES_MAX if n is None else n
        while missing:
            # No more than is asked for: OpenSSL keeps the rest of a record.
            part = self._take(min(missing, RECORD_BYTES_MAX)) if self._records.is_unread else b""
            if part:
                parts.append(part)
                missing = 0 if n is None else missing - len(part)
            else:
                await self._receive()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def write(self, data: bytes) -> None:
        """Queue bytes, without a checkpoint: whole or not at all. None: what TLS has to send."""
        if not data:
            await self.flush()
        for at in range(0, len(data), WRITE_BYTES):
            part = memoryview(data)[at : at + WRITE_BYTES]
            try:
                self.connection.sendall(part)
            except SSL.Error as error:
                raise ConnectionClosedError(_words(error), transport="tls") from None
            await self.flush(len(part))

    async def flush(self, expected: int = 0) -> None:
        """Queue what OpenSSL has to send, of about `expected` bytes of data; no checkpoint."""
        size = expected + RECORD_EXTRA_BYTES * (expected // RECORD_BYTES_MAX) + FLUSH_BYTES
        while data := self._pending(size):
            await self._wire.write(data)
            if len(data) < size:
                return

    def _pending(self, size: int) -> bytes:
        try:
            return self.connection.bio_read(size)
        except SSL.WantReadError:
            return b""

    def _give(self, most: int) -> int:
        """Give OpenSSL some records of what is ahead, at most so many bytes; return how many."""
        given = self._records.take(self._ahead[:most])
        self.connection.bio_write(self._ahead[:given])
        self._ahead = self._ahead[given:]
        return given

    def _take(self, n: int) -> bytes:
        """Return plain bytes of what was given, at most so many; b"" if more is needed."""
        try:
            part = self.connection.recv(n)
        except SSL.WantReadError:
            return b""
        except SSL.ZeroReturnError:
            raise ConnectionClosedError("the peer ended its TLS", transport="tls") from None
        except SSL.Error as error:
            raise ConnectionClosedError(_words(error), transport="tls") from None
        if len(part) == RECORD_BYTES_MAX or not self.connection.pending():
            self._records.note_data()
        return part

    async def _receive(self) -> None:
        """Wait for more; all that was given has been read, but for a part of a record.

        Where a peer that changes its keys asks us to change ours, the answer goes out with what we
        write next."""
        await self._records.spend(trio.current_time())
        self._ahead = self._ahead or await self._wire.read()
        self._give(len(self._ahead))


def _take_if_cheap(
    connection: SSL.Connection, certificate: X509, _error: int, depth: int, _ok: int
) -> bool:
    """Take any certificate for now, but for what OpenSSL would work long on; keep the peer's with
    its connection.

    It asks of the end of a chain before it checks a signature of it, and of the peer's key before
    the peer proves to have it. An exception ends the handshake with an alert."""
    if depth:
        raise BadCertificateError(f"a chain of {depth + 1} certificates, not one")
    if connection.get_app_data() is not None:
        return True  # It asks of the same one again.
    try:
        readable = certificate.to_cryptography()
    except ValueError:
        raise BadCertificateError("the certificate is malformed") from None
    require_cheap_key(readable)
    connection.set_app_data(readable)
    return True


def _set_groups(context: SSL.Context, groups: str) -> None:
    """Offer these key exchanges alone.

    pyOpenSSL has no method for it, but the function of OpenSSL that it would call. What was agreed
    on is asked all the same when a handshake is done; without this a peer would not be told what is
    amiss, and our certificate would travel under a classical key."""
    choose = getattr(openssl.lib, "SSL_CTX_set1_curves_list", None)
    if choose is None or choose(context._context, groups.encode()) != 1:
        raise CannotSecureError(
            f"the OpenSSL of the cryptography package ({SSL.OpenSSL_version(0).decode()}) has no "
            f"{groups}: expected 3.5 or later, as in the package's own wheels"
        )


def _words(error: SSL.Error) -> str:
    """Return what OpenSSL says, in one line."""
    queue: Sequence[Sequence[str]] = error.args[0] if error.args else ()
    reasons = [str(entry[-1]) for entry in queue]
    if "no suitable key share" in reasons:
        return f"no TLS key exchange in common (ours: {HYBRID_GROUP})"
    if "tls alert handshake failure" in reasons:
        return f"the peer's TLS has no key exchange of ours ({HYBRID_GROUP})"
    return f"TLS: {'; '.join(reasons) or type(error).__name__}"
