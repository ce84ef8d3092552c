"""The in-memory twin of the network: whole nodes in one process, under virtual time.

`MemoryNetwork` carries frames between `MemoryTransport`s with latency, bandwidth, loss,
reordering and partitions, all drawn from one seed. The rules of gossip, gates, limits and events
are the very code that the libp2p host runs (`transport.gossip_router`, `transport.switchboard`);
only what carries the bytes is different. As over TCP, nothing is lost on a connection that lives:
loss costs the time of sending again, and a partition holds frames back until it heals or the
connection is given up as dead.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from tests.framework.simulation.link_model import LinkModel, memory_peer_id
from tests.framework.simulation.virtual_clock import Nap
from unchained.node.transport.address import Address
from unchained.node.transport.contract import (
    DialRefusedError,
    DialTimeoutError,
    DialUnreachableError,
    DialWrongPeerError,
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
    PeerIdentified,
    PeerInfo,
    ProtocolUnsupportedError,
    RequestError,
    RequestFailedError,
    RequestRefusedError,
    RequestTimeoutError,
    RequestTooLargeError,
    ResponseTooLargeError,
    ServeLimits,
    TopicLimits,
    TransportStatistics,
    Validator,
)
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.switchboard import NOT_ADMITTED, ResponseStatus, Switchboard

DEAD_AFTER_S: Final = 20.0
"""A connection on which nothing arrives for so long is given up."""
MAX_OUTBOX_BYTES: Final = 4 << 20
"""Gossip that waits for a link's bandwidth; the excess is dropped, as from a full queue."""
PORT: Final = 9000
_FRAME_BYTES: Final = 60

_STATUS_ERRORS: Final[dict[ResponseStatus | None, tuple[type[RequestError], str]]] = {
    ResponseStatus.REFUSED: (RequestRefusedError, "refused"),
    ResponseStatus.TOO_LARGE: (RequestTooLargeError, "request too large"),
    ResponseStatus.FAILED: (RequestFailedError, "the handler failed"),
    None: (ProtocolUnsupportedError, "not served"),
}


class MemoryNetwork:
    """The weather between nodes; run `run` beside them."""

    def __init__(self, seed: int, model: LinkModel | None = None) -> None:
        self.rng = random.Random(seed)
        self.usual = model or LinkModel()
        """How a link behaves of which nothing else is said."""
        self._models: dict[frozenset[PeerId], LinkModel] = {}
        self._listening: dict[tuple[str, int], MemoryTransport] = {}
        self._inhabited: set[str] = set()
        """Where somebody has listened: from elsewhere comes no answer, not even a refusal."""
        self.names: dict[str, str] = {}
        self.replayed = 0
        """Gossip that has come once more."""
        self.held_back: Counter[tuple[PeerId, PeerId]] = Counter()
        """Frames that a partition has kept, by who sent them to whom."""
        self.bent: Counter[frozenset[PeerId]] = Counter()
        """Frames that have gone over a link that was not as all others are."""
        self._groups: dict[PeerId, int] = {}
        self._blocked: Counter[tuple[PeerId, PeerId]] = Counter()
        self._wires: dict[_Wire, None] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._nap = Nap()
        self._healed = trio.Event()

    def set_link(self, one: PeerId, other: PeerId, model: LinkModel) -> None:
        """Let the link between two nodes behave otherwise from here on."""
        self._models[frozenset((one, other))] = model

    def link(self, one: PeerId, other: PeerId) -> LinkModel:
        """Return how the link between two nodes behaves."""
        if not self._models:
            return self.usual
        return self._models.get(frozenset((one, other)), self.usual)

    def set_name(self, name: str, ip: str) -> None:
        """Let a DNS name mean an address."""
        self.names[name] = ip

    def partition(self, groups: Iterable[Iterable[PeerId]]) -> None:
        """Let nothing pass between groups from here on; nodes of no group form one more."""
        self._groups = {peer: 1 + n for n, group in enumerate(groups) for peer in group}
        self._recheck_all()

    def block(self, pairs: Iterable[tuple[PeerId, PeerId]]) -> None:
        """Let nothing pass from the one to the other of each pair, until as many `unblock`."""
        self._blocked.update(pairs)
        self._recheck_all()

    def unblock(self, pairs: Iterable[tuple[PeerId, PeerId]]) -> None:
        """Take back what a `block` of the same pairs did."""
        self._blocked.subtract(pairs)
        self._blocked = +self._blocked
        self._recheck_all()

    def _recheck_all(self) -> None:
        now = trio.current_time()
        for wire in tuple(self._wires):
            self._recheck(wire, now)
        healed, self._healed = self._healed, trio.Event()
        healed.set()

    def heal(self) -> None:
        """Join all groups again. Connections that were not yet given up go on."""
        self.partition(())

    def separated(self, one: PeerId, other: PeerId) -> bool:
        """Return whether a partition stands between two nodes, or what the one sends is blocked."""
        return (
            self._groups.get(one, 0) != self._groups.get(other, 0) or (one, other) in self._blocked
        )

    def _are_apart(self, one: PeerId, other: PeerId) -> bool:
        if not self._groups and not self._blocked:
            return False
        return self.separated(one, other) or self.separated(other, one)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry frames until cancelled."""
        task_status.started()
        while True:
            await self._nap.until(self._due[0][0] if self._due else math.inf)
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time of Trio's clock; at one time, in the order of calling."""
        self._sequence += 1
        heapq.heappush(self._due, (when, self._sequence, action))
        if self._due[0][1] == self._sequence:
            self._nap.end()

    def replay(self, end: _End, rpc: Rpc) -> None:
        """Let an RPC come to the other side once more, later, if they are still connected."""
        other = end.other

        def again() -> None:
            if end.open and other.open:
                self.replayed += 1
                end.transmit(
                    rpc.size(), lambda: other.me.switchboard.gossip_in(other.info.peer, rpc)
                )

        after = self.rng.uniform(0.0, end.wire.model().replay_after)
        self.at(trio.current_time() + after, again)

    def _listen(self, transport: MemoryTransport) -> None:
        place = (transport.ip, PORT)
        if place in self._listening:
            raise ValueError(f"{transport.ip} is taken")
        self._listening[place] = transport
        self._inhabited.add(transport.ip)

    def _leave(self, transport: MemoryTransport) -> None:
        self._listening.pop((transport.ip, PORT), None)

    def _find(self, address: Address) -> MemoryTransport | None:
        host = self.names.get(address.host, "") if address.is_name else address.host
        return self._listening.get((host, address.port))

    async def _answered(self, address: Address) -> None:
        """Wait for ever where nobody has listened: a packet to nowhere is not told of."""
        host = self.names.get(address.host) if address.is_name else address.host
        if host is not None and host not in self._inhabited:
            await trio.sleep_forever()

    async def _reachable(self, one: PeerId, other: PeerId) -> None:
        while self._are_apart(one, other):
            await self._healed.wait()

    def _recheck(self, wire: _Wire, now: float) -> None:
        if not self._are_apart(wire.ends[0].me.id, wire.ends[1].me.id):
            wire.cut_since = None
            held, wire.held = wire.held, []
            for deliver in held:
                self.at(now + wire.model().latency, deliver)
        elif wire.cut_since is None:
            wire.cut_since = now
            self.at(now + DEAD_AFTER_S, lambda: wire.give_up(now))


@dataclass(slots=True)
class _Waiting:
    """A request that waits for its answer."""

    done: trio.Event = field(default_factory=trio.Event)
    status: ResponseStatus | None = None
    data: bytes = b""
    gone: bool = False


class _End:
    """One side of a connection."""

    def __init__(self, wire: _Wire, me: MemoryTransport, info: PeerInfo) -> None:
        self.wire = wire
        self.me = me
        self.info = info
        self.other: _End = self
        self.open = True
        self.waiting: dict[int, _Waiting] = {}
        self.answering: dict[int, trio.CancelScope] = {}
        self._free_at = 0.0
        self._last_at = 0.0
        self._leaving: deque[tuple[float, int]] = deque()
        """When each frame that waits for bandwidth will have left, and its bytes."""
        self._leaving_bytes = 0

    def backlog(self) -> float:
        """Return the bytes that wait for bandwidth."""
        return max(0.0, self._free_at - trio.current_time()) * self.wire.model().bandwidth

    def waiting_bytes(self) -> int:
        """Return the bytes of the frames that have not left yet, whatever the link is now."""
        now = trio.current_time()
        while self._leaving and self._leaving[0][0] <= now:
            self._leaving_bytes -= self._leaving.popleft()[1]
        return self._leaving_bytes

    def transmit(self, size: int, deliver: Callable[[], None]) -> None:
        """Call `deliver` at the other side when `size` bytes would have arrived there."""
        network, model, now = self.wire.network, self.wire.model(), trio.current_time()
        size += _FRAME_BYTES
        if model is not network.usual:
            network.bent[frozenset((self.me.id, self.other.me.id))] += 1
        self.me.switchboard.counters.bytes_sent += size
        self.other.me.switchboard.counters.bytes_received += size
        self._free_at = max(now, self._free_at) + size / model.bandwidth
        self.waiting_bytes()
        self._leaving.append((self._free_at, size))
        self._leaving_bytes += size
        when = self._free_at + model.latency + network.rng.uniform(0.0, model.jitter)
        while network.rng.random() < model.loss:
            when += model.resend_after
        if network.rng.random() < model.reorder:
            when += network.rng.uniform(0.0, model.reorder_by)
        else:
            when = max(when, self._last_at)
            self._last_at = when
        network.at(when, lambda: self.wire.arrive(self.other, deliver))

    def identify(self) -> None:
        """Tell the other side, if it asks, what this one serves and where it sees the other."""
        if not self.other.me.asks:
            return
        served = tuple(self.me.switchboard.served)
        event = PeerIdentified(self.other.info, "memory", served, self.info.ip)

        def deliver() -> None:
            self.other.me.switchboard.identified(event)
            self.me.switchboard.informed(self.info)

        self.transmit(sum(map(len, served)), deliver)

    def shut(self, reason: DisconnectReason) -> None:
        """Close this side: requests fail, handlers are cancelled, the peer is shown as gone."""
        if not self.open:
            return
        self.open = False
        for waiting in self.waiting.values():
            waiting.gone = True
            waiting.done.set()
        for scope in self.answering.values():
            scope.cancel()
        self.me.lost(self, reason)
        if not self.other.open:
            self.wire.network._wires.pop(self.wire, None)


class _Wire:
    """A connection between two transports."""

    def __init__(self, network: MemoryNetwork, dialer: MemoryTransport, target: MemoryTransport):
        now = trio.current_time()
        self.network = network
        self.held: list[Callable[[], None]] = []
        self.cut_since: float | None = None
        out = PeerInfo(target.id, target.ip, target.address, Direction.OUTBOUND, now)
        remote = str(Address.of_ip(dialer.ip, 40000))
        into = PeerInfo(dialer.id, dialer.ip, remote, Direction.INBOUND, now)
        self.ends = (_End(self, dialer, out), _End(self, target, into))
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]
        network._wires[self] = None

    def model(self) -> LinkModel:
        return self.network.link(self.ends[0].me.id, self.ends[1].me.id)

    def arrive(self, end: _End, deliver: Callable[[], None]) -> None:
        if self.network.separated(end.other.me.id, end.me.id):
            self.network.held_back[(end.other.me.id, end.me.id)] += 1
            self.held.append(lambda: self.arrive(end, deliver))
        elif end.open:
            deliver()

    def give_up(self, cut_since: float) -> None:
        if self.cut_since == cut_since:
            for end in self.ends:
                end.shut(DisconnectReason.DEAD)


class MemoryTransport:
    """A `Transport` over a `MemoryNetwork`."""

    def __init__(
        self, network: MemoryNetwork, name: str, ip: str, log: FilteringBoundLogger
    ) -> None:
        """`name` makes the id; `ip` is an address literal that no other node has."""
        self.ip = ip
        self.address = str(Address.of_ip(ip, PORT, memory_peer_id(name)))
        rng = random.Random(f"{network.rng.random()} {name}")
        self.switchboard = Switchboard(memory_peer_id(name), log, rng, self)
        self._network = network
        self._ends: dict[PeerId, _End] = {}
        self._nursery: trio.Nursery | None = None
        self._request_number = 0
        self.asks = True
        """Whether it asks its peers what they are."""

    @property
    def id(self) -> PeerId:
        """Our own identity."""
        return self.switchboard.id

    def addresses(self) -> Sequence[str]:
        """Return the address to give to others; none before `run` has started."""
        return () if self._nursery is None else (self.address,)

    def set_outer(self, _ip: str) -> bool:
        """Do nothing: here every node has the address that others see it at."""
        return False

    def peers(self) -> Sequence[PeerInfo]:
        """Return the connected peers, in order of connection."""
        return tuple(self.switchboard.peers.values())

    def statistics(self) -> TransportStatistics:
        """Return counters and levels."""
        return self.switchboard.statistics()

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every later event."""
        self.switchboard.observe(observer)

    def set_gate(self, gate: Gate) -> None:
        """Ask `gate` from here on."""
        self.switchboard.set_gate(gate)

    def serve(self, protocol: str, handler: Handler, limits: ServeLimits) -> None:
        """Answer requests of a protocol."""
        self.switchboard.serve(protocol, handler, limits)

    def subscribe(self, topic: str, validator: Validator, limits: TopicLimits) -> None:
        """Take part in a topic."""
        self.switchboard.router.subscribe(topic, validator, limits)

    async def publish(self, topic: str, data: bytes) -> MessageId:
        """Gossip our own message."""
        self._running()
        await trio.lowlevel.checkpoint()
        return self.switchboard.router.publish(topic, data, trio.current_time())

    async def connect(self, address: str, *, timeout: float = 10.0) -> PeerId:  # noqa: ASYNC109
        """Connect to another transport of the network; see `Transport.connect`."""
        self._running()
        parsed = Address.parse(address)
        peer = parsed.peer
        if peer is None or peer == self.id:
            raise DialRefusedError(
                address, "it names no peer (…/p2p/PEER)" if peer is None else "it is ourselves"
            )
        if peer in self._ends:
            await trio.lowlevel.checkpoint()
            return peer
        ip = self._network.names.get(parsed.host, parsed.host)
        if not self.switchboard.admits(ip, peer, Direction.OUTBOUND):
            raise DialRefusedError(address, NOT_ADMITTED)
        self.switchboard.counters.dials += 1
        try:
            with trio.fail_after(timeout):
                await self._dial(parsed, peer)
        except trio.TooSlowError:
            self.switchboard.counters.dials_failed += 1
            raise DialTimeoutError(address, f"no answer in {timeout} s") from None
        except (DialUnreachableError, DialWrongPeerError):
            self.switchboard.counters.dials_failed += 1
            raise
        return peer

    async def identify(self, address: str, *, timeout: float = 10.0) -> PeerId:  # noqa: ASYNC109
        """Ask who answers at an address; see `Transport.identify`."""
        self._running()
        parsed = Address.parse(address)
        try:
            with trio.fail_after(timeout):
                await self._network._answered(parsed)
                target = self._network._find(parsed)
                if target is not None:
                    await self._network._reachable(self.id, target.id)
                    await trio.sleep(4 * self._network.link(self.id, target.id).latency)
                    target = self._network._find(parsed)
                await trio.lowlevel.checkpoint()
        except trio.TooSlowError:
            raise DialTimeoutError(address, f"no answer in {timeout} s") from None
        if target is None or target._nursery is None:
            raise DialUnreachableError(address, "nobody answers")
        return target.id

    def refusal(self, _address: Address) -> str | None:
        """Return nothing: every address is dialled."""
        return None

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connection to a peer; no-op if there is none."""
        await trio.lowlevel.checkpoint()
        end = self._ends.get(peer)
        if end is not None:
            self._hang_up(end)

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
        end = self._ends.get(peer)
        if end is None:
            await trio.lowlevel.checkpoint()
            raise PeerGoneError(peer, protocol, "not connected")
        self.switchboard.counters.requests_sent += 1
        self._request_number += 1
        number, waiting = self._request_number, _Waiting()
        end.waiting[number] = waiting
        other = end.other
        end.transmit(len(payload), lambda: other.me.asked(other, number, protocol, payload))
        try:
            with trio.fail_after(timeout):
                await waiting.done.wait()
            return self._outcome(end, protocol, waiting, max_response)
        except trio.TooSlowError:
            raise RequestTimeoutError(peer, protocol, f"no answer in {timeout} s") from None
        finally:
            if not waiting.done.is_set() or waiting.status is not ResponseStatus.OK:
                self.switchboard.counters.requests_failed += 1
            del end.waiting[number]
            if not waiting.done.is_set() and end.open:
                end.transmit(0, lambda: other.me.unasked(other, number))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part in the network until cancelled; then all connections are closed."""
        self._network._listen(self)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.switchboard.begin(nursery)
                task_status.started()
                await trio.sleep_forever()
        finally:
            if self._network._listening.get((self.ip, PORT)) is self:
                self._network._leave(self)
            for end in tuple(self._ends.values()):
                self._hang_up(end)
            self._nursery = None

    def vanish(self, *, silently: bool) -> None:
        """Be gone at once, as when the process is killed; when `silently`, as when the machine's
        power is lost: peers find out when nothing has come for long."""
        if self._network._listening.get((self.ip, PORT)) is self:
            self._network._leave(self)
        self._nursery = None
        now = trio.current_time()
        for end in tuple(self._ends.values()):
            wire, other = end.wire, end.other
            if silently:
                self._network.at(now + DEAD_AFTER_S, partial(other.shut, DisconnectReason.DEAD))
            else:
                end.transmit(0, partial(other.shut, DisconnectReason.REMOTE))
            end.shut(DisconnectReason.LOCAL)
            wire.held.clear()

    def asked(self, end: _End, number: int, protocol: str, payload: bytes) -> None:
        """Take a request that arrived."""
        served = self.switchboard.served.get(protocol)
        if self._nursery is None:
            return
        if served is None:
            self._reply(end, number, None, b"")
        elif len(payload) > served.limits.max_request:
            detail = f"{len(payload)} bytes, at most {served.limits.max_request}"
            kind = Misbehaviour.OVERSIZED_REQUEST
            self.switchboard.misbehaved(end.info.ip, end.info.peer, kind, detail, protocol)
            self._reply(end, number, ResponseStatus.TOO_LARGE, b"")
        else:
            self._nursery.start_soon(self._answer, end, number, protocol, payload)

    def unasked(self, end: _End, number: int) -> None:
        """Stop answering a request."""
        scope = end.answering.pop(number, None)
        if scope is not None:
            scope.cancel()

    def lost(self, end: _End, reason: DisconnectReason) -> None:
        """Forget a connection whose side of ours was closed."""
        if self._ends.get(end.info.peer) is end:
            del self._ends[end.info.peer]
            self.switchboard.disconnected(PeerDisconnected(end.info, reason))

    def _running(self) -> None:
        if self._nursery is None:
            raise NotRunningError("the transport is not running")

    async def _dial(self, address: Address, peer: PeerId) -> None:
        text = str(address)
        await self._network._answered(address)
        target = self._network._find(address)
        model = self._network.link(self.id, peer)
        if target is not None:
            await self._network._reachable(self.id, target.id)
        await trio.sleep(4 * model.latency + self._network.rng.uniform(0.0, model.jitter))
        target = self._network._find(address)
        if target is None or target._nursery is None:
            raise DialUnreachableError(text, "nobody answers")
        if target.id != peer:
            raise DialWrongPeerError(text, f"{target.id} answers")
        if peer in self._ends:
            return
        inbound = Direction.INBOUND
        switchboard = target.switchboard
        if not (
            switchboard.admits(self.ip, None, inbound)
            and switchboard.admits(self.ip, self.id, inbound)
        ):
            raise DialUnreachableError(text, "closed during the handshake")
        stale = target._ends.get(self.id)
        if stale is not None:
            stale.shut(DisconnectReason.REMOTE)
        wire = _Wire(self._network, self, target)
        for end in wire.ends:
            end.me._ends[end.info.peer] = end
        self._network._recheck(wire, trio.current_time())
        for end in wire.ends:
            end.me.switchboard.connected(end.info)
        for end in wire.ends:
            end.identify()

    def _hang_up(self, end: _End) -> None:
        other = end.other
        end.transmit(0, lambda: other.shut(DisconnectReason.REMOTE))
        end.shut(DisconnectReason.LOCAL)

    def _outcome(self, end: _End, protocol: str, waiting: _Waiting, max_response: int) -> bytes:
        peer = end.info.peer
        if waiting.gone:
            raise PeerGoneError(peer, protocol, "the connection broke")
        if waiting.status is not ResponseStatus.OK:
            error, why = _STATUS_ERRORS[waiting.status]
            raise error(peer, protocol, why)
        if len(waiting.data) > max_response:
            detail = f"{len(waiting.data)} bytes, at most {max_response}"
            kind = Misbehaviour.BAD_RESPONSE
            self.switchboard.misbehaved(end.info.ip, peer, kind, detail, protocol)
            raise ResponseTooLargeError(peer, protocol, detail)
        return waiting.data

    async def _answer(self, end: _End, number: int, protocol: str, payload: bytes) -> None:
        if not end.open:
            return
        peer = end.info.peer
        place = self.switchboard.enter(peer, protocol)
        status, data, is_wanted = ResponseStatus.REFUSED, b"", True
        if place is not None:
            end.answering[number] = place.scope
            try:
                with place.scope:
                    status, data = await self.switchboard.handle(peer, protocol, payload)
            finally:
                is_wanted = end.answering.pop(number, None) is not None
                self.switchboard.leave(place, protocol)
        if is_wanted and end.open:
            self._reply(end, number, status, data)

    def _reply(self, end: _End, number: int, status: ResponseStatus | None, data: bytes) -> None:
        def deliver() -> None:
            waiting = end.other.waiting.get(number)
            if waiting is not None:
                waiting.status, waiting.data = status, data
                waiting.done.set()

        end.transmit(len(data), deliver)

    def send_gossip(self, peer: PeerId, rpc: Rpc) -> bool:
        end = self._ends.get(peer)
        if end is None or end.backlog() > MAX_OUTBOX_BYTES:
            return False
        if self._network.rng.random() < end.wire.model().gossip_loss:
            return True
        other = end.other
        end.transmit(rpc.size(), lambda: other.me.switchboard.gossip_in(other.info.peer, rpc))
        replay = end.wire.model().replay
        if rpc.messages and replay and self._network.rng.random() < replay:
            self._network.replay(end, Rpc(messages=rpc.messages))
        return True
