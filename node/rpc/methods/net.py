"""net.*: the node's connections to others."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec
import trio

from unchained.node.base.clock import Clock
from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import (
    InvalidParamsError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    short,
)
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Hash
from unchained.node.rpc.methods.header import shown_target
from unchained.node.transport.address_groups import host_group
from unchained.node.transport.contract import BadAddressError, DialError, PeerId, Transport

if TYPE_CHECKING:
    from unchained.node.peers.manager import PeerManager
    from unchained.node.peers.peer_statistics import PeerView

DIAL_S = 15.0

Address = Annotated[
    str,
    msgspec.Meta(max_length=512, description="/ip4/HOST/tcp/PORT/p2p/ID, or with ip6 or dns"),
]
WhomToBan = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=128, description="an IP address, or a peer's id"),
]


@user_text(
    """The node's place in its network. `addresses` are those to give to others; `greeted` counts
    peers that speak the node's protocol, `classical` those whose link is not post-quantum;
    `clock_offset_ms` is what their clocks are ahead of ours, the median of those we chose."""
)
class NetInfo(msgspec.Struct, frozen=True):
    peer: str
    addresses: list[str]
    inbound: int
    outbound: int
    greeted: int
    classical: int
    known_addresses: int
    bans: int
    clock_offset_ms: int | None
    bytes_received: int
    bytes_sent: int


@user_text(
    """A connected peer. `tip`, `height` and `work` (its chain's, 32 bytes) are what it said last;
    `connected_ms` ago the connection was made. `security` is how it is encrypted and by which key
    exchange; without `post_quantum`, who records it may read it one day. `latency_ms` is how long
    it took to answer when we asked last, null before that."""
)
class Peer(msgspec.Struct, frozen=True):
    peer: str
    address: str
    outbound: bool
    connected_ms: int
    security: str
    post_quantum: bool
    version: int | None
    height: int | None
    tip: Hash | None
    work: Hash | None
    clock_offset_ms: int | None
    latency_ms: float | None


@user_text(
    """A ban of an IPv4 address or an IPv6 /64, with when it began and ends, and which one it is
    in a row."""
)
class BanInfo(msgspec.Struct, frozen=True):
    address: str
    since_time: int
    until_time: int
    count: int
    reason: str


class NetworkParts(Protocol):
    """A node's network."""

    @property
    def transport(self) -> Transport:
        """What carries it."""

    @property
    def peers(self) -> PeerManager:
        """Who is connected, known and banned."""


class NetRoom:
    """Methods about peers."""

    def __init__(self, network: NetworkParts | None, clock: Clock) -> None:
        """`network` is None for a node without one, which says so to whoever asks."""
        self._network = network
        self._clock = clock

    @property
    def _transport(self) -> Transport:
        return self._connections().transport

    @property
    def _manager(self) -> PeerManager:
        return self._connections().peers

    def _connections(self) -> NetworkParts:
        if self._network is None:
            raise UnavailableError(
                "this node runs without a network: start it with --listen or --bootstrap"
            )
        return self._network

    @method("net.info", Access.READ, errors=(UnavailableError,))
    @user_text("Return the node's id and addresses, and how it is connected.")
    async def info(self) -> NetInfo:
        counts = self._manager.statistics()
        transport = self._transport.statistics()
        return NetInfo(
            str(self._transport.id),
            [str(address) for address in self._transport.addresses()],
            counts.inbound,
            counts.outbound,
            counts.greeted,
            transport.classical,
            counts.book.new + counts.book.tried,
            counts.bans,
            counts.clock_offset_ms,
            transport.bytes_received,
            transport.bytes_sent,
        )

    @method("net.peers", Access.READ, errors=(UnavailableError,))
    @user_text("Return the connected peers, those that we chose first.")
    async def peers(self) -> list[Peer]:
        now = trio.current_time()
        found = sorted(self._manager.peers(), key=lambda peer: (not peer.outbound, peer.since))
        return [_describe(peer, now) for peer in found]

    @method(
        "net.add_peer",
        Access.FULL,
        timeout=DIAL_S + 10,
        errors=(InvalidParamsError, RefusedError, UnavailableError),
    )
    @user_text(
        """Connect to a node, remember its address, and return its id.

        Where the node that the address names is connected already, at whatever address, that stays
        as it is: the address is remembered and not tried.
        """
    )
    async def add_peer(self, address: Address) -> str:
        try:
            peer = await self._transport.connect(address, timeout=DIAL_S)
        except BadAddressError as error:
            raise InvalidParamsError(short(str(error)), error="BAD_ADDRESS") from None
        except DialError as error:
            raise RefusedError(short(str(error)), error=error.word) from None
        self._manager.book.add(address, "operator", self._clock.now_ms())
        return str(peer)

    @method("net.disconnect", Access.FULL, errors=(NotFoundError, UnavailableError))
    @user_text("Close the connection to a peer, by its id. It may come back: see net.ban.")
    async def disconnect(self, peer: Annotated[str, msgspec.Meta(max_length=128)]) -> bool:
        if all(known.peer != peer for known in self._manager.peers()):
            raise NotFoundError(f"no peer {short(peer)} is connected: see net.peers")
        await self._transport.disconnect(PeerId(peer))
        return True

    @method("net.ban", Access.FULL, errors=(InvalidParamsError, UnavailableError))
    @user_text(
        """Ban an address (IPv4, or an IPv6 /64) for some minutes, and disconnect all of it.

        A peer's id stands for its address.
        """
    )
    async def ban(
        self,
        peer: WhomToBan,
        minutes: Annotated[int, msgspec.Meta(ge=1, le=525_600)] = 1440,
        reason: Annotated[str, msgspec.Meta(max_length=200)] = "by hand",
    ) -> list[BanInfo]:
        self._manager.reputation.ban(self._group(peer), reason, minutes * 60_000)
        return self._bans()

    @method("net.unban", Access.FULL, errors=(NotFoundError, InvalidParamsError, UnavailableError))
    @user_text("End a ban: of an address, of a peer's id, or as net.bans names it.")
    async def unban(self, peer: WhomToBan) -> list[BanInfo]:
        bans = {ban.group for ban in self._manager.reputation.active_bans()}
        group = peer if peer in bans else self._banned_as(peer, bans) or self._group(peer)
        if not self._manager.reputation.lift(group):
            raise NotFoundError(f"{short(peer)} is not banned")
        return self._bans()

    @method("net.bans", Access.READ, errors=(UnavailableError,))
    @user_text("Return the present bans, the last to end first.")
    async def bans(self) -> list[BanInfo]:
        return self._bans()

    def _bans(self) -> list[BanInfo]:
        return [
            BanInfo(ban.group, ban.since, ban.until, ban.count, ban.reason)
            for ban in self._manager.reputation.active_bans()
        ]

    def _banned_as(self, peer: str, bans: Collection[str]) -> str | None:
        """Return the ban that a peer was disconnected by, if it was: by its id, it is connected no
        more."""
        own = [group for group in bans if group.rpartition("/")[2] == peer]
        known = self._manager.reputation.group_of(PeerId(peer))
        return own[0] if own else known if known in bans else None

    def _group(self, who: str) -> str:
        """Return what a ban of an address or a peer covers. Raises InvalidParamsError."""
        for known in self._manager.peers():
            if known.peer == who:
                return host_group(known.ip, known.peer)
        try:
            ip = str(ipaddress.ip_address(who))
        except ValueError:
            raise InvalidParamsError(
                f"{short(who)} is neither an IP address nor the id of a connected peer"
            ) from None
        group = host_group(ip)
        if not group:
            raise InvalidParamsError("this machine's own nodes are banned by their ids")
        return group


def _describe(peer: PeerView, now: float) -> Peer:
    status = peer.status
    return Peer(
        str(peer.peer),
        peer.address,
        peer.outbound,
        max(0, int((now - peer.since) * 1000)),
        str(peer.security),
        peer.security.post_quantum,
        None if status is None else status.version,
        None if status is None else status.height,
        None if status is None else Hash(status.tip),
        None if status is None else shown_target(int.from_bytes(status.work, "big")),
        peer.clock_offset_ms,
        None if peer.latency_s is None else round(peer.latency_s * 1000, 1),
    )
