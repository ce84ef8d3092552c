"""Gossip without I/O: who forwards what to whom (the rules of gossipsub 1.2, content-addressed).

The router is given what arrived and what was validated, and gives what is to go out to a
`GossipCarrier`. It has no clock, no tasks and no sockets, so that the libp2p host and the in-memory
twin of tests run the very same rules. libp2p's own GossipSub is not used: see
docs/decisions/transport.md.

Messages are unsigned and carry neither author nor sequence number: the id is the hash of topic
and data, whichever peer sends it. A message is forwarded only after its validator said ACCEPT.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from unchained.node.transport.contract import (
    MessageId,
    Misbehaviour,
    PeerId,
    TopicLimits,
    Validator,
    Verdict,
)
from unchained.node.transport.message_id import message_id

MESH_PEERS: Final = 6
"""Peers per topic that messages are forwarded to, aimed at."""
MESH_PEERS_MIN: Final = 4
MESH_PEERS_MAX: Final = 12
MESH_PEERS_OUTBOUND_MIN: Final = 2
"""Of them, at least so many that we chose to dial: an attacker cannot take all places."""
LAZY_PEERS: Final = 6
"""Further peers that are only sent ids, once per heartbeat."""
HEARTBEAT_S: Final = 1.0
GRAFT_BACKOFF_S: Final = 60
"""After a prune, a peer is not grafted again for so long."""
SEEN_KEPT_S: Final = 300.0
SEEN_MAX: Final = 1 << 16
HISTORY_HEARTBEATS: Final = 5
"""Heartbeats during which a forwarded message can be asked for."""
ADVERTISED_HEARTBEATS: Final = 3
"""Heartbeats during which its id is sent."""
CACHE_BYTES_MAX: Final = 16 << 20
IDS_PER_HEARTBEAT_MAX: Final = 1024
"""Ids taken from one peer per heartbeat, of each kind; the rest is ignored."""
SENDS_ON_REQUEST_MAX: Final = 3
"""Times that one message is sent to one peer on request."""
ASK_AGAIN_S: Final = 3.0
"""An id that was asked of one peer is not asked of another meanwhile."""
UNWANTED_BYTES_MIN: Final = 1024
"""Bytes of a message above which mesh peers are asked not to send it as well."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """What one peer sends another at once."""

    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    messages: tuple[tuple[str, bytes], ...] = ()
    """Topic and data."""
    have: tuple[tuple[str, tuple[MessageId, ...]], ...] = ()
    want: tuple[MessageId, ...] = ()
    unwanted: tuple[MessageId, ...] = ()
    graft: tuple[str, ...] = ()
    prune: tuple[tuple[str, int], ...] = ()
    """Topic and backoff in seconds."""

    def size(self) -> int:
        """Return about how many bytes it takes on the wire."""
        topics = (*self.subscribe, *self.unsubscribe, *self.graft)
        return (
            sum(len(topic) + 6 for topic in topics)
            + sum(len(topic) + 9 for topic, _ in self.prune)
            + sum(len(topic) + len(data) + 10 for topic, data in self.messages)
            + sum(len(topic) + 6 + 34 * len(ids) for topic, ids in self.have)
            + 34 * (len(self.want) + len(self.unwanted))
            + 4
        )


@dataclass(frozen=True, slots=True)
class ValidationJob:
    """A message to be validated, and who sent it first."""

    topic: str
    data: bytes
    id: MessageId
    peer: PeerId


@dataclass(slots=True)
class GossipCounters:
    """Counted since the start."""

    published: int = 0
    received: int = 0
    duplicates: int = 0
    accepted: int = 0
    ignored: int = 0
    rejected: int = 0
    dropped: int = 0


@dataclass(slots=True)
class _Topic:
    validator: Validator
    limits: TopicLimits
    members: dict[PeerId, None] = field(default_factory=dict)
    mesh: dict[PeerId, None] = field(default_factory=dict)
    backoff: dict[PeerId, float] = field(default_factory=dict)
    queues: OrderedDict[PeerId, deque[ValidationJob]] = field(default_factory=OrderedDict)
    waiting: int = 0
    waiting_bytes: int = 0
    running: int = 0
    running_of: dict[PeerId, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Peer:
    outbound: bool
    ids_taken: int = 0
    missed: bool = False
    """Something for it was dropped, so it must be sent ids even if it is in the mesh."""
    sends: dict[MessageId, int] = field(default_factory=dict)
    unwanted: OrderedDict[MessageId, None] = field(default_factory=OrderedDict)


@dataclass(slots=True)
class _Seen:
    until: float
    forwarded: bool = False


class GossipCarrier(Protocol):
    """Takes gossip to peers: a transport."""

    def send_gossip(self, peer: PeerId, rpc: Rpc) -> bool:
        """Queue an RPC for a peer; False if it had to be dropped."""


class GossipAccuser(Protocol):
    """Takes note of peers that broke gossip's rules: the switchboard."""

    def accuse(self, peer: PeerId, kind: Misbehaviour, detail: str, topic: str) -> None:
        """Report what a peer did wrong."""


class GossipRouter:
    """The state of one node's gossip; it is owned by one task at a time and never awaits."""

    def __init__(
        self,
        carrier: GossipCarrier,
        accuser: GossipAccuser,
        rng: random.Random,
    ) -> None:
        self._carrier = carrier
        self._accuser = accuser
        self._rng = rng
        self._topics: dict[str, _Topic] = {}
        self._peers: dict[PeerId, _Peer] = {}
        self._seen: OrderedDict[MessageId, _Seen] = OrderedDict()
        self._in_flight: dict[MessageId, dict[PeerId, None]] = {}
        self._cache: dict[MessageId, tuple[str, bytes]] = {}
        self._cache_bytes = 0
        self._history: deque[list[MessageId]] = deque([[]])
        self._asked: dict[MessageId, float] = {}
        self.counters = GossipCounters()

    def subscribe(self, topic: str, validator: Validator, limits: TopicLimits) -> None:
        """Take part in a topic."""
        if topic in self._topics:
            raise ValueError(f"already subscribed to {topic}")
        self._topics[topic] = _Topic(validator, limits)

    def validator(self, topic: str) -> Validator:
        """Return the validator of a subscribed topic."""
        return self._topics[topic].validator

    def mesh(self, topic: str) -> tuple[PeerId, ...]:
        """Return the peers that messages of a topic are forwarded to."""
        return tuple(self._topics[topic].mesh)

    def peer_up(self, peer: PeerId, *, outbound: bool) -> None:
        """Begin with a connected peer: it is sent our topics."""
        self._peers[peer] = _Peer(outbound)
        self._carrier.send_gossip(peer, Rpc(subscribe=tuple(self._topics)))

    def peer_down(self, peer: PeerId) -> None:
        """Forget a peer and what it sent that was not validated yet."""
        self._peers.pop(peer, None)
        for topic in self._topics.values():
            topic.members.pop(peer, None)
            topic.mesh.pop(peer, None)
            for job in topic.queues.pop(peer, ()):
                self._unqueue(topic, job)

    def publish(self, topic: str, data: bytes, now: float) -> MessageId:
        """Send our own message to all members of its topic, unless it was sent before."""
        state = self._topics.get(topic)
        if state is None:
            raise ValueError(f"not subscribed to {topic}")
        if len(data) > state.limits.max_size:
            raise ValueError(f"{len(data)} bytes for {topic}: at most {state.limits.max_size}")
        mid = message_id(topic, data)
        seen = self._seen.get(mid)
        if seen is not None and seen.forwarded:
            return mid
        self.counters.published += 1
        self._remember(mid, now)
        self._forward(state, ValidationJob(topic, data, mid, PeerId("")), state.members, ())
        return mid

    def receive(self, peer: PeerId, rpc: Rpc, now: float) -> None:
        """Take in what a peer sent us."""
        known = self._peers.get(peer)
        if known is None:
            return
        for name in rpc.subscribe:
            self._join(name, peer, now)
        for name in (*rpc.unsubscribe, *(name for name, _ in rpc.prune)):
            if name in self._topics:
                self._topics[name].mesh.pop(peer, None)
        for name in rpc.unsubscribe:
            if name in self._topics:
                self._topics[name].members.pop(peer, None)
        for name, seconds in rpc.prune:
            if name in self._topics:
                until = now + min(max(seconds, 1), 10 * GRAFT_BACKOFF_S)
                self._topics[name].backoff[peer] = until
        for name in rpc.graft:
            self._grafted(name, peer, known, now)
        for mid in self._take(known, rpc.unwanted):
            known.unwanted[mid] = None
            if len(known.unwanted) > IDS_PER_HEARTBEAT_MAX:
                known.unwanted.popitem(last=False)
        for name, data in rpc.messages:
            self._message(peer, name, data, now)
        for _, ids in rpc.have:
            self._advertised(peer, self._take(known, ids), now)
        self._wanted(peer, known, self._take(known, rpc.want))

    def next_job(self) -> ValidationJob | None:
        """Return the next message to validate, if one may be now; `validated` must follow."""
        for topic in self._topics.values():
            if topic.running >= topic.limits.max_validating:
                continue
            for peer, queue in topic.queues.items():
                if topic.running_of.get(peer, 0) >= topic.limits.max_per_peer:
                    continue
                job = queue.popleft()
                if queue:
                    topic.queues.move_to_end(peer)
                else:
                    del topic.queues[peer]
                topic.waiting -= 1
                topic.waiting_bytes -= len(job.data)
                topic.running += 1
                topic.running_of[peer] = topic.running_of.get(peer, 0) + 1
                return job
        return None

    def validated(self, job: ValidationJob, verdict: Verdict) -> None:
        """Act on a validator's verdict."""
        topic = self._topics[job.topic]
        topic.running -= 1
        topic.running_of[job.peer] -= 1
        if not topic.running_of[job.peer]:
            del topic.running_of[job.peer]
        have = self._in_flight.pop(job.id, {})
        if verdict is Verdict.ACCEPT:
            self.counters.accepted += 1
            self._forward(topic, job, topic.mesh, have)
        elif verdict is Verdict.IGNORE:
            self.counters.ignored += 1
        else:
            self.counters.rejected += 1
            self._accuser.accuse(job.peer, Misbehaviour.REJECTED_GOSSIP, "rejected", job.topic)

    def heartbeat(self, now: float) -> None:
        """Repair the meshes, send ids, forget what is old. Called every `HEARTBEAT_S`."""
        for peer in self._peers.values():
            peer.ids_taken = 0
        for name, topic in self._topics.items():
            self._repair(name, topic, now)
            self._advertise(name, topic)
        for peer in self._peers.values():
            peer.missed = False
        self._history.appendleft([])
        while len(self._history) > HISTORY_HEARTBEATS:
            for mid in self._history.pop():
                self._evict(mid)
        while self._seen and next(iter(self._seen.values())).until <= now:
            self._seen.popitem(last=False)
        self._asked = {mid: until for mid, until in self._asked.items() if until > now}

    def _take(self, peer: _Peer, ids: tuple[MessageId, ...]) -> tuple[MessageId, ...]:
        room = max(0, IDS_PER_HEARTBEAT_MAX - peer.ids_taken)
        peer.ids_taken += len(ids)
        return ids[:room]

    def _join(self, name: str, peer: PeerId, now: float) -> None:
        topic = self._topics.get(name)
        if topic is None or peer in topic.members:
            return
        topic.members[peer] = None
        if len(topic.mesh) < MESH_PEERS and topic.backoff.get(peer, 0.0) <= now:
            self._graft(name, topic, peer)

    def _graft(self, name: str, topic: _Topic, peer: PeerId) -> None:
        topic.mesh[peer] = None
        self._carrier.send_gossip(peer, Rpc(graft=(name,)))

    def _prune(self, name: str, topic: _Topic, peer: PeerId, now: float) -> None:
        topic.mesh.pop(peer, None)
        topic.backoff[peer] = now + GRAFT_BACKOFF_S
        self._carrier.send_gossip(peer, Rpc(prune=((name, GRAFT_BACKOFF_S),)))

    def _grafted(self, name: str, peer: PeerId, known: _Peer, now: float) -> None:
        topic = self._topics.get(name)
        if topic is None:
            self._carrier.send_gossip(peer, Rpc(prune=((name, GRAFT_BACKOFF_S),)))
            return
        topic.members[peer] = None
        if peer in topic.mesh:
            return
        full = len(topic.mesh) >= MESH_PEERS_MAX and not known.outbound
        if full or topic.backoff.get(peer, 0.0) > now:
            self._prune(name, topic, peer, now)
        else:
            topic.mesh[peer] = None

    def _message(self, peer: PeerId, name: str, data: bytes, now: float) -> None:
        self.counters.received += 1
        topic = self._topics.get(name)
        if topic is None:
            self._accuser.accuse(
                peer, Misbehaviour.UNKNOWN_TOPIC, "message of another topic", name[:64]
            )
            return
        if len(data) > topic.limits.max_size:
            detail = f"{len(data)} bytes, at most {topic.limits.max_size}"
            self._accuser.accuse(peer, Misbehaviour.OVERSIZED_GOSSIP, detail, name)
            return
        mid = message_id(name, data)
        if mid in self._seen:
            self.counters.duplicates += 1
            if mid in self._in_flight:
                self._in_flight[mid][peer] = None
            return
        self._remember(mid, now)
        self._in_flight[mid] = {peer: None}
        self._asked.pop(mid, None)
        if len(data) >= UNWANTED_BYTES_MIN:
            for other in topic.mesh:
                if other != peer:
                    self._carrier.send_gossip(other, Rpc(unwanted=(mid,)))
        topic.queues.setdefault(peer, deque()).append(ValidationJob(name, data, mid, peer))
        topic.waiting += 1
        topic.waiting_bytes += len(data)
        while (
            topic.waiting > topic.limits.max_waiting
            or topic.waiting_bytes > topic.limits.max_waiting_bytes
        ):
            self._shed(topic)

    def _shed(self, topic: _Topic) -> None:
        peer, queue = max(topic.queues.items(), key=lambda item: len(item[1]))
        job = queue.pop()
        if not queue:
            del topic.queues[peer]
        self.counters.dropped += 1
        self._unqueue(topic, job)

    def _unqueue(self, topic: _Topic, job: ValidationJob) -> None:
        topic.waiting -= 1
        topic.waiting_bytes -= len(job.data)
        self._in_flight.pop(job.id, None)
        self._seen.pop(job.id, None)

    def _remember(self, mid: MessageId, now: float) -> None:
        self._seen.pop(mid, None)
        self._seen[mid] = _Seen(now + SEEN_KEPT_S)
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    def _forward(
        self, topic: _Topic, job: ValidationJob, to: Iterable[PeerId], have: Iterable[PeerId]
    ) -> None:
        mid = job.id
        if mid in self._seen:
            self._seen[mid].forwarded = True
        if mid not in self._cache:
            self._cache[mid] = (job.topic, job.data)
            self._cache_bytes += len(job.data)
            self._history[0].append(mid)
            while self._cache_bytes > CACHE_BYTES_MAX:
                self._evict(next(iter(self._cache)))
        rpc = Rpc(messages=((job.topic, job.data),))
        holders = set(have)
        for peer in tuple(to):
            known = self._peers.get(peer)
            if known is None or peer in holders or mid in known.unwanted:
                continue
            self._push(peer, known, rpc)

    def _push(self, peer: PeerId, known: _Peer, rpc: Rpc) -> None:
        if not self._carrier.send_gossip(peer, rpc):
            known.missed = True
            self.counters.dropped += 1

    def _evict(self, mid: MessageId) -> None:
        cached = self._cache.pop(mid, None)
        if cached is None:
            return
        self._cache_bytes -= len(cached[1])
        for peer in self._peers.values():
            peer.sends.pop(mid, None)
            peer.unwanted.pop(mid, None)

    def _advertised(self, peer: PeerId, ids: tuple[MessageId, ...], now: float) -> None:
        wanted = []
        for mid in ids:
            if mid in self._seen or self._asked.get(mid, 0.0) > now or len(mid) != 32:
                continue
            if len(self._asked) < SEEN_MAX:
                self._asked[mid] = now + ASK_AGAIN_S
                wanted.append(mid)
        if wanted:
            self._carrier.send_gossip(peer, Rpc(want=tuple(wanted)))

    def _wanted(self, peer: PeerId, known: _Peer, ids: tuple[MessageId, ...]) -> None:
        for mid in ids:
            cached = self._cache.get(mid)
            sends = known.sends.get(mid, 0)
            if cached is not None and sends < SENDS_ON_REQUEST_MAX:
                known.sends[mid] = sends + 1
                self._push(peer, known, Rpc(messages=(cached,)))

    def _repair(self, name: str, topic: _Topic, now: float) -> None:
        topic.backoff = {peer: until for peer, until in topic.backoff.items() if until > now}
        if len(topic.mesh) < MESH_PEERS_MIN:
            for peer in self._pick(topic, MESH_PEERS - len(topic.mesh), outbound=False):
                self._graft(name, topic, peer)
        if len(topic.mesh) > MESH_PEERS_MAX:
            places = list(topic.mesh)
            self._rng.shuffle(places)
            places.sort(key=lambda peer: not self._peers[peer].outbound)
            kept = places[:MESH_PEERS_OUTBOUND_MIN]
            rest = places[MESH_PEERS_OUTBOUND_MIN:]
            self._rng.shuffle(rest)
            for peer in rest[MESH_PEERS - len(kept) :]:
                self._prune(name, topic, peer, now)
        ours = sum(self._peers[peer].outbound for peer in topic.mesh)
        for peer in self._pick(topic, MESH_PEERS_OUTBOUND_MIN - ours, outbound=True):
            self._graft(name, topic, peer)

    def _pick(self, topic: _Topic, count: int, *, outbound: bool) -> list[PeerId]:
        if count <= 0:
            return []
        candidates = [
            peer
            for peer in topic.members
            if peer not in topic.mesh
            and peer not in topic.backoff
            and (self._peers[peer].outbound or not outbound)
        ]
        return self._rng.sample(candidates, min(count, len(candidates)))

    def _advertise(self, name: str, topic: _Topic) -> None:
        recent = [mid for window in list(self._history)[:ADVERTISED_HEARTBEATS] for mid in window]
        ids = [mid for mid in recent if mid in self._cache and self._cache[mid][0] == name]
        if not ids:
            return
        others = [peer for peer in topic.members if peer not in topic.mesh]
        lazy = self._rng.sample(others, min(LAZY_PEERS, len(others)))
        lazy += [peer for peer in topic.mesh if self._peers[peer].missed]
        rpc = Rpc(have=((name, tuple(ids[-IDS_PER_HEARTBEAT_MAX:])),))
        for peer in lazy:
            self._carrier.send_gossip(peer, rpc)
