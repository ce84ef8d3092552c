"""What both transports share: observers, gate, request admission, and gossip's tasks."""

from __future__ import annotations

import dataclasses
import enum
import random
from dataclasses import dataclass
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.spans import span
from unchained.node.transport.address_groups import host_group
from unchained.node.transport.contract import (
    Direction,
    Event,
    Gate,
    Handler,
    Misbehaved,
    Misbehaviour,
    Observer,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    PeerIdentified,
    PeerInfo,
    PeerInformed,
    ServeLimits,
    StrangerMet,
    TransportStatistics,
    Verdict,
    open_gate,
)
from unchained.node.transport.gossip_limits import HEARTBEAT_S
from unchained.node.transport.gossip_router import (
    GossipCarrier,
    GossipRouter,
    Rpc,
)
from unchained.node.transport.served import Place, Served
from unchained.node.transport.validation_queue import ValidationJob


class ResponseStatus(enum.IntEnum):
    """The first byte of an answer."""

    OK = 0
    REFUSED = 1
    TOO_LARGE = 2
    FAILED = 3


@dataclass(slots=True)
class Counters:
    """Counted since the start, under their names in `TransportStatistics`."""

    dials: int = 0
    dials_failed: int = 0
    gate_refused: int = 0
    handshakes_failed: int = 0
    security_mismatches: int = 0
    connections_refused: int = 0
    requests_sent: int = 0
    requests_failed: int = 0
    requests_served: int = 0
    requests_refused: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    misbehaviours: int = 0
    faults: int = 0


NOT_ADMITTED: Final = "this node connects to nobody who is banned here, or of another network"
"""Why a peer is not dialled that the gate does not let in."""


class Switchboard:
    """State that a transport keeps whatever carries its bytes."""

    def __init__(
        self,
        peer: PeerId,
        log: FilteringBoundLogger,
        rng: random.Random,
        carrier: GossipCarrier,
    ) -> None:
        self.id = peer
        self.log = log
        self.counters = Counters()
        self.served: dict[str, Served] = {}
        self.peers: dict[PeerId, PeerInfo] = {}
        self.router = GossipRouter(carrier, self, rng)
        self._observers: list[Observer] = []
        self._gate: Gate = open_gate
        self._nursery: trio.Nursery | None = None
        self._somebody = trio.Event()
        """Set while anybody is connected."""

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every later event."""
        self._observers.append(observer)

    def set_gate(self, gate: Gate) -> None:
        """Ask `gate` from here on."""
        self._gate = gate

    def serve(self, protocol: str, handler: Handler, limits: ServeLimits) -> None:
        """Answer requests of a protocol."""
        if protocol in self.served:
            raise ValueError(f"already serving {protocol}")
        self.served[protocol] = Served(handler, limits)

    def statistics(self, *, handshakes: int = 0) -> TransportStatistics:
        """Return counters and levels."""
        gossip = self.router.counters
        inbound = sum(info.direction is Direction.INBOUND for info in self.peers.values())
        return TransportStatistics(
            **dataclasses.asdict(self.counters),
            inbound=inbound,
            outbound=len(self.peers) - inbound,
            classical=sum(not info.security.post_quantum for info in self.peers.values()),
            handshakes=handshakes,
            gossip_published=gossip.published,
            gossip_received=gossip.received,
            gossip_duplicates=gossip.duplicates,
            gossip_accepted=gossip.accepted,
            gossip_ignored=gossip.ignored,
            gossip_rejected=gossip.rejected,
            gossip_dropped=gossip.dropped,
        )

    def admits(self, ip: str, peer: PeerId | None, direction: Direction) -> bool:
        """Ask the gate. A gate that raises is a fault, and refuses."""
        try:
            admitted = self._gate(ip, peer, direction)
        except Exception:  # noqa: BLE001 - a fault of ours, reported by `fault`
            self.fault("net.gate_failed")
            admitted = False
        if not admitted:
            self.counters.gate_refused += 1
        return admitted

    def fault(self, event: str, **context: object) -> None:
        """Count and log an exception of this node's own code; called while handling it."""
        self.counters.faults += 1
        self.log.error(event, exc_info=True, **context)

    def notify(self, event: Event) -> None:
        """Let every observer know."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - a fault of ours, reported by `fault`
                self.fault("net.observer_failed")

    def misbehaved(
        self, ip: str, peer: PeerId | None, kind: Misbehaviour, detail: str, topic: str = ""
    ) -> None:
        """Report what a peer did wrong."""
        self.counters.misbehaviours += 1
        self.log.debug("net.misbehaved", ip=ip, peer=peer, kind=kind.value, detail=detail)
        self.notify(Misbehaved(ip, peer, kind, detail, topic))

    def connected(self, info: PeerInfo) -> None:
        """Show a peer, and begin to gossip with it."""
        self.peers[info.peer] = info
        self._somebody.set()
        self.notify(PeerConnected(info))
        self.router.peer_up(info.peer, outbound=info.direction is Direction.OUTBOUND)

    def identified(self, event: PeerIdentified) -> None:
        """Show what a peer says of itself, unless it is gone."""
        if self.peers.get(event.info.peer) is event.info:
            self.notify(event)

    def informed(self, info: PeerInfo) -> None:
        """Show that a peer has been told what we are, unless it is gone."""
        if self.peers.get(info.peer) is info:
            self.notify(PeerInformed(info))

    def disconnected(self, event: PeerDisconnected) -> None:
        """Forget a peer that was shown."""
        del self.peers[event.info.peer]
        if not self.peers:
            self._somebody = trio.Event()
        self.router.peer_down(event.info.peer)
        self.notify(event)

    def enter(self, peer: PeerId, protocol: str) -> Place | None:
        """Take a place for a request of a protocol, None if it is refused; `leave` must follow."""
        info = self.peers.get(peer)
        group = "" if info is None else host_group(info.ip, peer)
        place = self.served[protocol].enter(peer, group)
        if place is None:
            self.counters.requests_refused += 1
        return place

    def leave(self, place: Place, protocol: str) -> None:
        """Give a place back."""
        self.served[protocol].leave(place)

    async def handle(
        self, peer: PeerId, protocol: str, payload: bytes
    ) -> tuple[ResponseStatus, bytes]:
        """Handle a request that has a place; a handler's exception becomes FAILED, counted and
        logged."""
        try:
            response = await self.served[protocol].handler(peer, payload)
        except Exception:  # noqa: BLE001 - a fault of ours, reported by `fault`
            self.fault("net.handler_failed", protocol=protocol)
            return ResponseStatus.FAILED, b""
        self.counters.requests_served += 1
        return ResponseStatus.OK, response

    def gossip_in(self, peer: PeerId, rpc: Rpc) -> None:
        """Take in what a peer sent, and validate what waits for it."""
        self.router.receive(peer, rpc, trio.current_time())
        self._validate_waiting()

    def begin(self, nursery: trio.Nursery) -> None:
        """Validate in `nursery`, and keep gossip's heart beating."""
        self._nursery = nursery
        nursery.start_soon(self._beat)

    async def _beat(self) -> None:
        due = trio.current_time()
        while True:
            if not self.peers:
                # There is nothing to repair, to tell, or to expect. But time goes on: who comes is
                # not told of what was gossiped long before.
                await self._somebody.wait()
                self.router.skip(int((trio.current_time() - due) / HEARTBEAT_S))
            due = max(due + HEARTBEAT_S, trio.current_time())
            await trio.sleep_until(due)
            self.router.heartbeat(trio.current_time())

    def _validate_waiting(self) -> None:
        while self._nursery is not None and (job := self.router.next_job()) is not None:
            self._nursery.start_soon(self._validate, job)

    async def _validate(self, job: ValidationJob) -> None:
        verdict = Verdict.IGNORE
        try:
            with span("peer", job.peer):
                verdict = await self.router.validator(job.topic)(job.peer, job.data)
        except Exception:  # noqa: BLE001 - a fault of ours, reported by `fault`
            self.fault("net.validator_failed", topic=job.topic)
        finally:
            self.router.validated(job, verdict)
        self._validate_waiting()

    def accuse(self, peer: PeerId, kind: Misbehaviour, detail: str, topic: str) -> None:
        """Report a connected peer that broke gossip's rules."""
        info = self.peers.get(peer)
        self.misbehaved(info.ip if info else "", peer, kind, detail, topic)

    def met_stranger(self, peer: PeerId, topic: str) -> None:
        """Report a connected peer that takes part in none of our topics."""
        info = self.peers.get(peer)
        if info is not None:
            self.notify(StrangerMet(info, topic))
