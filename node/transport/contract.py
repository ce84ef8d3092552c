"""The transport seam: everything above the network talks to `Transport` and to nothing below.

`libp2p.host.Libp2pTransport` (TCP + TLS + Yamux) satisfies it, and in tests and simulations an
in-process twin under virtual time. What both keep:

- A peer is shown once, however many sockets it opened. `PeerConnected` comes before any handler
  or validator is called for that peer, and is followed by exactly one `PeerDisconnected`.
- The gate is asked before anything of a peer is read, and again when its id is proven.
- A handler or validator that raises is a fault of this node: it is counted and logged with its
  traceback, the peer gets `RequestFailedError` or the message is dropped, and the node goes on.
- Every queue is bounded. What overflows is dropped and counted, never waited for.

Errors::

    TransportError
    +-- BadAddressError               text that is no dialable address
    +-- BadIdentityError              the identity key file cannot be used
    +-- CannotListenError             a listening address could not be bound
    +-- CannotSecureError             the libraries here have no post-quantum key exchange
    +-- NotRunningError               used outside `run`
    +-- DialError
    |   +-- DialUnreachableError      nobody answers there, or the name does not resolve
    |   +-- DialTimeoutError          no finished handshake in time
    |   +-- DialWrongPeerError        somebody else answers there
    |   +-- DialSecurityError         no encryption that both sides have and take
    |   +-- DialRefusedError          our own gate or limit forbids it, or it is ourselves
    +-- RequestError
        +-- PeerGoneError             not connected, or the connection broke before the answer
        +-- RequestTimeoutError       no whole answer in time
        +-- RequestTooLargeError      the peer does not take a request of this size
        +-- ResponseTooLargeError     the peer announced more than `max_response`
        +-- RequestRefusedError       the peer is overloaded
        +-- RequestFailedError        the peer's handler failed
        +-- ProtocolUnsupportedError  the peer does not serve this protocol
        +-- BadResponseError          bytes that are no answer
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NewType, Protocol

import msgspec
import trio

if TYPE_CHECKING:
    from unchained.node.transport.address import Address

PeerId = NewType("PeerId", str)
"""A peer's identity: base58 of the multihash of its public key."""

MessageId = NewType("MessageId", bytes)
"""Identity of a gossiped message: 32-byte hash of its topic and data."""


class TransportError(Exception):
    """Any failure that this package reports; the tree is in the module docstring."""


class BadAddressError(TransportError):
    """A text is no dialable address."""

    def __init__(self, text: str, expected: str) -> None:
        super().__init__(f"bad address {text!r}: expected {expected}")
        self.text = text


class BadIdentityError(TransportError):
    """The identity key file cannot be used."""


class CannotListenError(TransportError):
    """A listening address could not be bound."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"cannot listen on {address}: {why}")
        self.address = address


class CannotSecureError(TransportError):
    """The libraries that the node runs on cannot make the links that it is to have."""


class NotRunningError(TransportError):
    """The transport was used outside its `run`."""


class DialError(TransportError):
    """A connection to an address was not made; `word` says why, for programs."""

    word: ClassVar[str] = "DIAL_ERROR"

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"cannot connect to {address}: {why}")
        self.address = address


class DialUnreachableError(DialError):
    """Nobody answers at the address, or its name does not resolve."""

    word = "DIAL_UNREACHABLE"


class DialTimeoutError(DialError):
    """The handshake was not finished in time."""

    word = "DIAL_TIMEOUT"


class DialWrongPeerError(DialError):
    """Another identity than the address names answered."""

    word = "DIAL_WRONGPEER"


class DialSecurityError(DialError):
    """The peer and we have no encryption in common, or its proof of who it is breaks a rule."""

    word = "DIAL_SECURITY"


class DialRefusedError(DialError):
    """Our own gate or limit forbids the connection, or the address is our own."""

    word = "DIAL_REFUSED"


class RequestError(TransportError):
    """A request got no answer that can be used."""

    def __init__(self, peer: PeerId, protocol: str, why: str) -> None:
        super().__init__(f"request {protocol} to {peer}: {why}")
        self.peer = peer
        self.protocol = protocol


class PeerGoneError(RequestError):
    """The peer is not connected, or its connection broke before the answer."""


class RequestTimeoutError(RequestError):
    """The whole answer did not arrive in time."""


class RequestTooLargeError(RequestError):
    """The peer does not take a request of this size."""


class ResponseTooLargeError(RequestError):
    """The peer announced a longer answer than was asked for."""


class RequestRefusedError(RequestError):
    """The peer is overloaded."""


class RequestFailedError(RequestError):
    """The peer's handler failed."""


class ProtocolUnsupportedError(RequestError):
    """The peer does not serve the protocol."""


class BadResponseError(RequestError):
    """The peer sent bytes that are no answer."""


class Direction(enum.Enum):
    """Who opened a connection."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Verdict(enum.Enum):
    """What a validator says of a gossiped message."""

    ACCEPT = "accept"
    """Valid: forward it."""
    IGNORE = "ignore"
    """Nobody's fault: do not forward it, do not validate it again."""
    DEFER = "defer"
    """Too soon to tell: do not forward it, but validate it again if it comes again."""
    REJECT = "reject"
    """Invalid whatever one's view of the chain: do not forward it, report its sender."""


class DisconnectReason(enum.Enum):
    """Why a peer was lost."""

    LOCAL = "local"
    """We closed the connection (`disconnect`, or the transport is ending)."""
    REMOTE = "remote"
    """The peer closed it, or the socket broke."""
    DEAD = "dead"
    """The peer did not answer keepalives."""
    MISBEHAVED = "misbehaved"
    """The transport closed it for what `Misbehaved` reported just before."""


class Misbehaviour(enum.Enum):
    """What a peer did wrong that only the transport can see."""

    REJECTED_GOSSIP = "rejected_gossip"
    """A validator said REJECT of a message that this peer sent."""
    OVERSIZED_GOSSIP = "oversized_gossip"
    """A message longer than its topic allows."""
    UNKNOWN_TOPIC = "unknown_topic"
    """A message or subscription outside the topics of this network."""
    BAD_GOSSIP = "bad_gossip"
    """Bytes on a gossip stream that do not decode, or a message with a false signature."""
    WASTED_GOSSIP = "wasted_gossip"
    """Many ids, grafts or topics of no use."""
    OVERSIZED_REQUEST = "oversized_request"
    """A request longer than its protocol allows."""
    BAD_REQUEST = "bad_request"
    """A request stream that is no request, or never finished one."""
    BAD_RESPONSE = "bad_response"
    """An answer that is no answer, or longer than was asked for."""
    OVERSIZED_FRAME = "oversized_frame"
    """A multiplexer frame above the limit, or bytes that are no frame."""
    WINDOW_OVERRUN = "window_overrun"
    """More bytes in flight than the receive windows allow."""
    STREAM_FLOOD = "stream_flood"
    """More streams at a time, or opened per second, than allowed."""
    HANDSHAKE_FAILED = "handshake_failed"
    """A connection that did not finish its handshake, in time or at all."""


HYBRID_GROUP: Final = "X25519MLKEM768"
"""The key exchange that holds as long as one of X25519 and ML-KEM-768 does."""


@dataclass(frozen=True, slots=True)
class LinkSecurity:
    """How a connection is encrypted."""

    protocol: str
    """``tls`` or ``noise``."""
    group: str
    """The key exchange, by its name in TLS."""

    @property
    def post_quantum(self) -> bool:
        """Whether it is safe from who records it today and has a quantum computer later."""
        return self.group == HYBRID_GROUP

    def __str__(self) -> str:
        return f"{self.protocol} {self.group}"


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connected peer, as of the moment of asking."""

    peer: PeerId
    ip: str
    """Its address as an IP literal without zone: what limits and bans go by."""
    address: str
    """The remote end as a multiaddr. Dialable only if the direction is outbound."""
    direction: Direction
    since: float
    """Trio's time at which it was connected, in seconds."""
    security: LinkSecurity = LinkSecurity("tls", HYBRID_GROUP)


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A peer has proven its id and passed the gate."""

    info: PeerInfo


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    """A peer that was connected is not any more."""

    info: PeerInfo
    reason: DisconnectReason


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """The transport saw a peer do wrong."""

    ip: str
    peer: PeerId | None
    """None where the id was never proven."""
    kind: Misbehaviour
    detail: str
    topic: str = ""
    """The gossip topic or request protocol concerned, if any."""


@dataclass(frozen=True, slots=True)
class StrangerMet:
    """A connected peer takes part in gossip topics, but in none of ours."""

    info: PeerInfo
    topic: str
    """One of its topics."""


@dataclass(frozen=True, slots=True)
class PeerIdentified:
    """A connected peer has said what it is, or will not; once, soon after `PeerConnected`."""

    info: PeerInfo
    agent: str = ""
    """Its program, printable ASCII; empty if it does not say."""
    protocols: tuple[str, ...] = ()
    """The protocol ids that it serves; empty if it does not say."""
    observed: str = ""
    """The IP literal at which it sees us; empty if it does not say."""


@dataclass(frozen=True, slots=True)
class PeerInformed:
    """A connected peer has asked what we are, and has been told; whenever it asks."""

    info: PeerInfo


Event = PeerConnected | PeerDisconnected | PeerIdentified | PeerInformed | Misbehaved | StrangerMet

Observer = Callable[[Event], None]
"""Called at once, in the order of events. It must neither block nor raise: it notes or wakes."""

Handler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Answers one request. Cancelled if the peer goes away."""

Validator = Callable[[PeerId, bytes], Awaitable[Verdict]]
"""Validates, and takes in, one gossiped message, given who sent it (not who made it)."""


class Gate(Protocol):
    """Says whether a connection is let in: bans and limits per address and in all."""

    def __call__(self, ip: str, peer: PeerId | None, direction: Direction, /) -> bool:
        """Return False to refuse. `peer` is None while the id is not proven (inbound only)."""


def open_gate(_ip: str, _peer: PeerId | None, _direction: Direction, /) -> bool:
    """Let everybody in."""
    return True


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """What a served protocol takes."""

    max_request: int
    """Bytes; a longer request is refused before it is read, and reported."""
    max_per_peer: int
    """Requests of one peer being handled at a time; the excess is refused."""
    max_total: int
    """Requests of all peers being handled at a time; the excess is refused."""


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What a subscribed topic takes."""

    max_size: int
    """Bytes of a message's data; a longer one is dropped and reported."""
    max_validating: int = 64
    """Messages being validated at a time; further ones wait."""
    max_per_peer: int = 16
    """Of those, messages sent by one peer."""
    max_waiting: int = 1024
    """Messages waiting for validation. Peers take turns; the excess of the peer that has most
    waiting is dropped unvalidated and forgotten, so that it can be offered again."""
    max_waiting_bytes: int = 8 << 20
    """Their data's bytes."""


class TransportStatistics(msgspec.Struct, frozen=True, gc=False):
    """Counters since the start, and levels as of the moment of asking."""

    inbound: int = 0
    outbound: int = 0
    classical: int = 0
    """Peers whose link is not post-quantum."""
    handshakes: int = 0
    """Inbound handshakes under way."""
    dials: int = 0
    dials_failed: int = 0
    gate_refused: int = 0
    handshakes_failed: int = 0
    security_mismatches: int = 0
    """Connections, of either side, without a security protocol in common."""
    connections_refused: int = 0
    """Inbound connections beyond the transport's own limits."""
    requests_sent: int = 0
    requests_failed: int = 0
    requests_served: int = 0
    requests_refused: int = 0
    gossip_published: int = 0
    gossip_received: int = 0
    gossip_duplicates: int = 0
    gossip_accepted: int = 0
    gossip_ignored: int = 0
    gossip_rejected: int = 0
    gossip_dropped: int = 0
    """Messages dropped because a queue, ours or towards a peer, was full."""
    bytes_received: int = 0
    bytes_sent: int = 0
    misbehaviours: int = 0
    faults: int = 0
    """Exceptions of this node's own handlers, validators and observers."""


class Transport(Protocol):
    """Connections to peers, requests to them, and gossip among them."""

    @property
    def id(self) -> PeerId:
        """Our own identity."""

    def addresses(self) -> Sequence[str]:
        """Return the addresses to give to others: full multiaddrs ending in ``/p2p/<id>``.

        Empty before `run` has started."""

    def set_outer(self, ip: str) -> bool:
        """Announce that a public address leads here; return whether that is news."""

    def peers(self) -> Sequence[PeerInfo]:
        """Return the connected peers, in order of connection."""

    def statistics(self) -> TransportStatistics:
        """Return counters and levels."""

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every later event. Set before `run`."""

    def set_gate(self, gate: Gate) -> None:
        """Ask `gate` from here on. It does not close what is connected."""

    async def connect(self, address: str, *, timeout: float = 10.0) -> PeerId:  # noqa: ASYNC109
        """Connect to ``/{ip4,ip6,dns,dns4,dns6}/HOST/tcp/PORT/p2p/ID`` or ``/onion3/…``; no-op if
        connected to it.

        Returns the peer, whose `PeerConnected` has then been seen. Raises `BadAddressError`,
        `DialError`, `NotRunningError`. Cancelling leaves no connection."""

    async def identify(self, address: str, *, timeout: float = 10.0) -> PeerId:  # noqa: ASYNC109
        """Ask who answers at an address that names no peer, and return who it proved to be.

        No connection stays. Raises `BadAddressError`, `DialUnreachableError`, `DialTimeoutError`,
        `DialSecurityError`, `NotRunningError`.
        """

    def refusal(self, address: Address) -> str | None:
        """Return why no address of this kind is dialled from here; None if it is."""

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connection to a peer; no-op if there is none."""

    async def request(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        *,
        max_response: int,
        timeout: float,  # noqa: ASYNC109
    ) -> bytes:
        """Send one request and return the whole answer, of at most `max_response` bytes.

        Raises `RequestError`, `NotRunningError`. Cancelling asks the peer to stop."""

    def serve(self, protocol: str, handler: Handler, limits: ServeLimits) -> None:
        """Answer requests of a protocol with `handler`, once per protocol. Set before `run`."""

    def subscribe(self, topic: str, validator: Validator, limits: TopicLimits) -> None:
        """Take part in a topic, once per topic. Set before `run`.

        Each message, by its `message_id`, goes to `validator` once while it is remembered, and
        is forwarded only after ACCEPT. REJECT makes a `Misbehaved` of kind REJECTED_GOSSIP for
        the one peer whose message was validated."""

    async def publish(self, topic: str, data: bytes) -> MessageId:
        """Gossip our own message of a subscribed topic; it is not validated.

        A message already seen is not sent again. Raises `NotRunningError`, and ValueError for a
        topic that is not subscribed or data above its limit."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled; started once listening. Raises `CannotListenError`.

        Cancelling closes all connections."""
