"""The transport over the internet: libp2p's TCP, TLS and Yamux under our own switchboard.

libp2p's parts that speak its wire protocols are used (Yamux, Noise, peer ids, protobufs), mended
where they need it; its TLS, swarm, host and pubsub, where most of the measured faults live, are
not: see docs/decisions/transport.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock, SystemClock
from unchained.node.base.randomness import SYSTEM
from unchained.node.transport import gossip_wire
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import ONION_VISITOR
from unchained.node.transport.contract import (
    DialError,
    DialRefusedError,
    DialTimeoutError,
    DialUnreachableError,
    Direction,
    DisconnectReason,
    Gate,
    Handler,
    MessageId,
    Misbehaviour,
    NotRunningError,
    Observer,
    PeerDisconnected,
    PeerGoneError,
    PeerId,
    PeerInfo,
    RequestTimeoutError,
    ServeLimits,
    TopicLimits,
    TransportStatistics,
    Validator,
)
from unchained.node.transport.gossip_limits import RPC_BYTES_MAX
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p import requests
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.connection import Connection
from unchained.node.transport.libp2p.dials import Dials, tell_accepted
from unchained.node.transport.libp2p.handshakes import Handshake, Handshakes
from unchained.node.transport.libp2p.identify import (
    IDENTIFY_PROTOCOL,
    PING_PROTOCOL,
    echo_pings,
    introduce,
    own_message,
)
from unchained.node.transport.libp2p.listener import (
    Resolve,
    ThrottledListener,
    listen,
    parse_listen,
    resolve,
)
from unchained.node.transport.libp2p.onion_entrance import OnionEntrance
from unchained.node.transport.libp2p.own_addresses import OwnAddresses
from unchained.node.transport.libp2p.pace import WORK_PER_IDENTIFY
from unchained.node.transport.libp2p.route import route_of
from unchained.node.transport.libp2p.secured import (
    NotSecuredError,
    SecurityMismatchError,
)
from unchained.node.transport.libp2p.streams import (
    MuxedStream,
    StreamFaultError,
    TcpStream,
)
from unchained.node.transport.libp2p.upgrader import SecurityPolicy, Upgraded, Upgrader
from unchained.node.transport.libp2p.yamux import apply_mends
from unchained.node.transport.rpc_fields import BadRpcError
from unchained.node.transport.switchboard import Switchboard

SIMULTANEOUS_S: Final = 5.0
"""Two connections with one peer that are less than so far apart crossed each other."""


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Where to listen and how many to let in."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    announce: tuple[str, ...] = ()
    """Addresses to give to others instead of those that are listened on."""
    auto_port: int = 0
    """The port that `auto` stands for, or the next free one; 0: any free one."""
    proxy: str = ""
    """``HOST:PORT`` of the SOCKS5 proxy that all dials go through; empty: none."""
    only: tuple[str, ...] = ()
    """The kinds of network that are dialled: `onion`, `ipv4`, `ipv6`; empty: all."""
    onion: bool = False
    """Whether there is a door for visitors of an onion service."""
    max_connections: int = 128
    """In both directions; inbound ones beyond it are closed before their handshake."""
    security: SecurityPolicy = "hybrid"
    """Whether links that are not post-quantum are made and let in."""
    upload_kib: int = 0
    """KiB per second of answers and gossip; 0: as much as the lines take."""


class Libp2pTransport:
    """A `Transport` over TCP + TLS + Yamux."""

    def __init__(
        self,
        config: HostConfig,
        identity: Identity,
        log: FilteringBoundLogger,
        *,
        resolver: Resolve = resolve,
        clock: Clock | None = None,
    ) -> None:
        """Raises `CannotListenError` and `BadAddressError` for addresses that can never do."""
        apply_mends()
        self._listen = tuple(parse_listen(text, config.auto_port) for text in config.listen)
        fixed = [str(Address.parse(text).with_peer(identity.peer)) for text in config.announce]
        self._own = OwnAddresses(identity.peer, fixed, is_hidden=bool(config.proxy))
        rng = SYSTEM.generator()
        self._switchboard = Switchboard(identity.peer, log, rng, self)
        self._config = config
        self._identity = identity
        self._budget = NodeBudget(1024 * config.upload_kib, config.max_connections)
        self._upgrader = Upgrader(identity, self._budget, clock or SystemClock(), config.security)
        self._handshakes = Handshakes()
        self._connections: dict[PeerId, Connection] = {}
        self._open: dict[Connection, None] = {}
        self._dialling: dict[PeerId, trio.Event] = {}
        self._sockets: dict[TcpStream, None] = {}
        self.onion = OnionEntrance()
        """Where an onion service may lead to, if the settings say so."""
        self._nursery: trio.Nursery | None = None
        self._route = route_of(config.proxy, config.only)
        self._dials = Dials(self, self._switchboard, self._upgrader, resolver, self._route)

    @property
    def id(self) -> PeerId:
        """Our own identity."""
        return self._switchboard.id

    def addresses(self) -> Sequence[str]:
        """Return the addresses to give to others; none before `run` has started."""
        return (*self._own.texts, *self.onion.addresses(self.id))

    def listening(self) -> Sequence[Address]:
        """Return the places that are listened on; none before `run` has started."""
        return self._own.bound

    def set_outer(self, ip: str) -> bool:
        """Announce that a public address leads here; return whether that is news."""
        return self._own.set_outer(ip)

    def peers(self) -> Sequence[PeerInfo]:
        """Return the connected peers, in order of connection."""
        return tuple(self._switchboard.peers.values())

    def statistics(self) -> TransportStatistics:
        """Return counters and levels."""
        counted = self._switchboard.statistics(handshakes=len(self._handshakes))
        return msgspec.structs.replace(
            counted,
            bytes_received=counted.bytes_received + sum(tcp.received for tcp in self._sockets),
            bytes_sent=counted.bytes_sent + sum(tcp.sent for tcp in self._sockets),
        )

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every later event."""
        self._switchboard.observe(observer)

    def set_gate(self, gate: Gate) -> None:
        """Ask `gate` from here on."""
        self._switchboard.set_gate(gate)

    def serve(self, protocol: str, handler: Handler, limits: ServeLimits) -> None:
        """Answer requests of a protocol."""
        self._switchboard.serve(protocol, handler, limits)

    def subscribe(self, topic: str, validator: Validator, limits: TopicLimits) -> None:
        """Take part in a topic; ValueError if its messages would not fit an RPC."""
        if limits.max_size > RPC_BYTES_MAX - 1024:
            raise ValueError(f"max_size of {topic}: at most {RPC_BYTES_MAX - 1024}")
        self._switchboard.router.subscribe(topic, validator, limits)

    async def publish(self, topic: str, data: bytes) -> MessageId:
        """Gossip our own message."""
        self._running()
        await trio.lowlevel.checkpoint()
        return self._switchboard.router.publish(topic, data, trio.current_time())

    async def connect(self, address: str, *, timeout: float = 10.0) -> PeerId:  # noqa: ASYNC109
        """Connect to a peer; see `Transport.connect`."""
        nursery = self._running()
        parsed = Address.parse(address)
        peer = parsed.peer
        if peer is None or peer == self.id:
            raise DialRefusedError(
                address, "it names no peer (…/p2p/PEER)" if peer is None else "it is ourselves"
            )
        outcome: DialError | None = DialTimeoutError(address, f"no connection in {timeout} s")
        with trio.move_on_after(timeout):
            await trio.lowlevel.checkpoint()
            while peer in self._dialling:
                await self._dialling[peer].wait()
            if peer in self._connections:
                return peer
            self._dialling[peer] = trio.Event()
            try:
                self._switchboard.counters.dials += 1
                outcome = await nursery.start(self._outbound, parsed, peer)
            finally:
                self._dialling.pop(peer).set()
        # A dial that crossed the peer's own may lose to it.
        if outcome is not None and peer not in self._connections:
            self._switchboard.counters.dials_failed += 1
            raise outcome
        return peer

    async def identify(self, address: str, *, timeout: float = 10.0) -> PeerId:  # noqa: ASYNC109
        """Ask who answers at an address; see `Transport.identify`."""
        self._running()
        try:
            with trio.fail_after(timeout):
                return await self._identify(Address.parse(address))
        except trio.TooSlowError:
            raise DialTimeoutError(address, f"no answer in {timeout} s") from None

    async def _identify(self, address: Address) -> PeerId:
        found: list[PeerId] = []

        async def ask(tcp: TcpStream, _ip: str) -> None:
            found.append(await self._upgrader.identify(tcp))

        problem = await self._dials.reach(address, ask)
        if problem is not None:
            raise problem
        return found[0]

    def refusal(self, address: Address) -> str | None:
        """Return why no address of this kind is dialled from here; None if it is."""
        return self._route.refusal(address)

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connection to a peer; no-op if there is none."""
        connection = self._connections.get(peer)
        if connection is not None:
            self._lost(connection, DisconnectReason.LOCAL)
        await trio.lowlevel.checkpoint()

    async def request(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        *,
        max_response: int,
        timeout: float,  # noqa: ASYNC109
    ) -> bytes:
        """Send one request and return its answer; see `Transport.request`."""
        self._running()
        connection = self._connections.get(peer)
        if connection is None:
            await trio.lowlevel.checkpoint()
            raise PeerGoneError(peer, protocol, "not connected")
        counters = self._switchboard.counters
        counters.requests_sent += 1
        answered = False
        try:
            with trio.fail_after(timeout):
                response = await requests.ask(connection, protocol, payload, max_response)
            answered = True
        except trio.TooSlowError:
            raise RequestTimeoutError(peer, protocol, f"no answer in {timeout} s") from None
        finally:
            counters.requests_failed += not answered
        return response

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled; see `Transport.run`."""
        bound = await listen(self._listen)
        doors = [ThrottledListener(listening, self) for _, listening in bound]
        for place, (address, _) in zip(self._listen, bound, strict=True):
            if place.takes_next and address.port != (wanted := place.address.port or address.port):
                self._switchboard.log.warning("net.port_in_use", port=wanted, instead=address.port)
        try:
            if self._config.onion:
                doors.append(ThrottledListener(await self.onion.open(), self, ONION_VISITOR))
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._own.bind([address for address, _ in bound])
                self._switchboard.begin(nursery)
                nursery.start_soon(self._handshakes.run)
                nursery.start_soon(self._budget.work.run)
                # A call for each: one call for none, where a node only dials, raises.
                serve = partial(trio.serve_listeners, self._inbound, handler_nursery=nursery)
                for door in doors:
                    nursery.start_soon(serve, [door])
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._own.release()
            for connection in tuple(self._connections.values()):
                self._lost(connection, DisconnectReason.LOCAL)
            for door in doors:
                door.close()

    def _running(self) -> trio.Nursery:
        if self._nursery is None:
            raise NotRunningError("the transport is not running")
        return self._nursery

    def may_connect(self, ip: str) -> bool:
        """Return whether a connection is looked at (`listener.Doorkeeper`)."""
        if not self._switchboard.admits(ip, None, Direction.INBOUND):
            return False
        has_room = len(self._open) < self._config.max_connections
        if not has_room or not self._handshakes.has_room(ip):
            self._switchboard.counters.connections_refused += 1
            return False
        return True

    async def _inbound(self, stream: trio.SocketStream) -> None:
        try:
            ip, port = self.onion.ip_of(stream), stream.socket.getpeername()[1]
        except (OSError, ValueError):
            return
        handshake = self._handshakes.enter(ip)
        if handshake is None:
            self._switchboard.counters.connections_refused += 1
            return
        tcp = self.begin(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tcp.flush)
            try:
                upgraded = await self._shake_hands(tcp, ip, handshake)
                if upgraded is not None and self._has_room(ip, upgraded.peer):
                    address = str(Address.of_ip(ip, port))
                    await self._live(upgraded, ip, address, Direction.INBOUND)
            finally:
                self.end(tcp)
                nursery.cancel_scope.cancel()

    def _has_room(self, ip: str, peer: PeerId) -> bool:
        """Ask again: others may have come in during the handshake."""
        if len(self._open) >= self._config.max_connections:
            self._switchboard.counters.connections_refused += 1
            return False
        return self._switchboard.admits(ip, peer, Direction.INBOUND)

    async def _shake_hands(self, tcp: TcpStream, ip: str, handshake: Handshake) -> Upgraded | None:
        def proven(peer: PeerId) -> bool:
            return peer != self.id and self._switchboard.admits(ip, peer, Direction.INBOUND)

        detail = "not finished in time"
        try:
            with handshake.scope:
                await tcp.begun()
                handshake.has_spoken = True
                await self._handshakes.turn(handshake)
                return await self._upgrader.inbound(tcp, proven)
        except NotSecuredError as error:
            detail = str(error)
            if isinstance(error, SecurityMismatchError):
                self._switchboard.counters.security_mismatches += 1
        except Exception as error:  # noqa: BLE001 - a stranger's bytes may raise anything
            detail = type(error).__name__
        finally:
            self._handshakes.leave(handshake)
        self._switchboard.counters.handshakes_failed += 1
        self._switchboard.misbehaved(ip, None, Misbehaviour.HANDSHAKE_FAILED, detail)
        return None

    async def _outbound(
        self,
        address: Address,
        peer: PeerId,
        task_status: trio.TaskStatus[DialError | None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        accepted = trio.Event()

        async def live(tcp: TcpStream, ip: str) -> DialError | None:
            upgraded = await self._upgrader.outbound(tcp, peer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell_accepted, upgraded, tcp.received, accepted, task_status)
                await self._live(upgraded, ip, str(address), Direction.OUTBOUND)
                nursery.cancel_scope.cancel()
            if accepted.is_set():
                return None
            return DialUnreachableError(str(address), "the peer closed the connection at once")

        problem = await self._dials.reach(address, live, gated=peer)
        if problem is not None and not accepted.is_set():
            task_status.started(problem)

    def begin(self, stream: trio.SocketStream) -> TcpStream:
        """Take a socket into the table (`dials.SocketTable`)."""
        tcp = TcpStream(stream)
        self._sockets[tcp] = None
        return tcp

    def end(self, tcp: TcpStream) -> None:
        """Close a socket and count what went over it."""
        tcp.abort()
        del self._sockets[tcp]
        self._switchboard.counters.bytes_received += tcp.received
        self._switchboard.counters.bytes_sent += tcp.sent

    async def _live(self, upgraded: Upgraded, ip: str, address: str, direction: Direction) -> None:
        now = trio.current_time()
        info = PeerInfo(upgraded.peer, ip, address, direction, now, upgraded.security)
        connection = Connection(upgraded, info, self._switchboard)
        old = self._connections.get(info.peer)
        if old is not None:
            if self._keep(old, connection):
                return
            self._lost(old, DisconnectReason.REMOTE)
        self._connections[info.peer] = connection
        self._open[connection] = None
        self._switchboard.connected(info)
        try:
            await connection.run(self._protocols(), partial(self._serve, connection))
        except Exception:  # noqa: BLE001 - fault 1: no peer may end the process
            self._switchboard.fault("net.connection_failed", peer=info.peer)
        finally:
            del self._open[connection]
            self._lost(connection, connection.reason)

    def _keep(self, old: Connection, new: Connection) -> bool:
        """Fault 15: of two connections that crossed, both sides keep the one that the lower id
        dialled; otherwise the peer must have lost the old one."""
        if old.info.direction is new.info.direction:
            return False
        if new.info.since - old.info.since > SIMULTANEOUS_S:
            return False
        return (self.id < old.info.peer) is (old.info.direction is Direction.OUTBOUND)

    def _lost(self, connection: Connection, reason: DisconnectReason) -> None:
        connection.close(reason)
        if self._connections.get(connection.info.peer) is connection:
            del self._connections[connection.info.peer]
            self._switchboard.disconnected(PeerDisconnected(connection.info, reason))

    def _protocols(self) -> tuple[str, ...]:
        """Return what a peer may open a stream for."""
        common = (*gossip_wire.GOSSIP_PROTOCOLS, IDENTIFY_PROTOCOL, PING_PROTOCOL)
        return (*common, *self._switchboard.served)

    async def _serve(self, connection: Connection, protocol: str, stream: MuxedStream) -> None:
        if protocol in self._switchboard.served:
            await requests.answer(self._switchboard, connection, protocol, stream)
        elif protocol == IDENTIFY_PROTOCOL:
            if not connection.may_identify():
                return
            await connection.pace.spend(WORK_PER_IDENTIFY)
            info, served = connection.info, self._protocols()
            await introduce(stream, own_message(self._identity, served, self.addresses(), info))
            self._switchboard.informed(info)
        elif protocol == PING_PROTOCOL:
            await echo_pings(stream, connection.pings, connection.pace)
        else:
            await self._take_gossip(connection, stream)

    async def _take_gossip(self, connection: Connection, stream: MuxedStream) -> None:
        await connection.listen_to(stream)
        try:
            while True:
                rpc, work = await connection.read_gossip(stream)
                self._switchboard.gossip_in(connection.info.peer, rpc)
                await connection.pace.spend(work)
        except (BadRpcError, StreamFaultError) as error:
            connection.accuse_and_close(Misbehaviour.BAD_GOSSIP, str(error))

    def send_gossip(self, peer: PeerId, rpc: Rpc) -> bool:
        """Queue gossip for a peer (`gossip_router.GossipCarrier`)."""
        connection = self._connections.get(peer)
        return connection is not None and connection.send(rpc)
