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
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from unchained.node.transport.contract import (
    MessageId,
    Misbehaviour,
    PeerId,
    TopicLimits,
    Validator,
    Verdict,
)
from unchained.node.transport.gossip_limits import (
    IDS_PER_HEARTBEAT_MAX,
    SENDS_ON_REQUEST_MAX,
    WASTE_OF_BROKEN_PROMISE,
    WASTE_OF_GRAFT,
    WASTE_OF_UNKNOWN_TOPIC,
)
from unchained.node.transport.gossip_peer import GossipPeer
from unchained.node.transport.seen_ids import SeenIds, message_id
from unchained.node.transport.validation_queue import ValidationJob, ValidationQueue

MESH_PEERS: Final = 6
"""Peers per topic that messages are forwarded to, aimed at."""
MESH_PEERS_MIN: Final = 4
MESH_PEERS_MAX: Final = 12
MESH_PEERS_OUTBOUND_MIN: Final = 2
"""Of them, at least so many that we chose to dial: an attacker cannot take all places."""
LAZY_PEERS: Final = 6
"""Further peers that are only sent ids, once per heartbeat."""
GRAFT_BACKOFF_S: Final = 60
"""After a prune, a peer is not grafted again for so long."""
HISTORY_HEARTBEATS: Final = 5
"""Heartbeats during which a forwarded message can be asked for."""
ADVERTISED_HEARTBEATS: Final = 3
"""Heartbeats during which its id is sent."""
CACHE_BYTES_MAX: Final = 16 << 20
CACHE_ENTRY_BYTES: Final = 160
"""What a message in the cache takes beside its data."""
CACHE_ALONE_MAX: Final = IDS_PER_HEARTBEAT_MAX
"""Messages kept while nobody is connected: who comes next is told of no more."""
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
    queue: ValidationQueue
    members: dict[PeerId, None] = field(default_factory=dict)
    mesh: dict[PeerId, None] = field(default_factory=dict)
    backoff: dict[PeerId, float] = field(default_factory=dict)


class _Cached(NamedTuple):
    """A message that can be asked for."""

    topic: str
    data: bytes
    beat: int
    """The heartbeat that it was forwarded after."""


@dataclass(slots=True)
class _Asked:
    """An id that a peer announced and was asked for."""

    peer: PeerId
    until: float


class GossipCarrier(Protocol):
    """Takes gossip to peers: a transport."""

    def send_gossip(self, peer: PeerId, rpc: Rpc) -> bool:
        """Queue an RPC for a peer; False if it had to be dropped."""


class GossipAccuser(Protocol):
    """Takes note of peers that broke gossip's rules: the switchboard."""

    def accuse(self, peer: PeerId, kind: Misbehaviour, detail: str, topic: str) -> None:
        """Report what a peer did wrong."""

    def met_stranger(self, peer: PeerId, topic: str) -> None:
        """Report a peer that takes part in this topic and in none of ours."""


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
        self._peers: dict[PeerId, GossipPeer] = {}
        self._seen = SeenIds()
        self._in_flight: dict[MessageId, dict[PeerId, None]] = {}
        self._cache: dict[MessageId, _Cached] = {}
        """Oldest first."""
        self._cache_bytes = 0
        self._beats = 0
        self._asked: dict[MessageId, _Asked] = {}
        self.counters = GossipCounters()

    def subscribe(self, topic: str, validator: Validator, limits: TopicLimits) -> None:
        """Take part in a topic."""
        if topic in self._topics:
            raise ValueError(f"already subscribed to {topic}")
        self._topics[topic] = _Topic(validator, limits, ValidationQueue(limits))

    def validator(self, topic: str) -> Validator:
        """Return the validator of a subscribed topic."""
        return self._topics[topic].validator

    def mesh(self, topic: str) -> tuple[PeerId, ...]:
        """Return the peers that messages of a topic are forwarded to."""
        return tuple(self._topics[topic].mesh)

    def peer_up(self, peer: PeerId, *, outbound: bool) -> None:
        """Begin with a connected peer: it is sent our topics."""
        self._peers[peer] = GossipPeer(outbound=outbound)
        self._carrier.send_gossip(peer, Rpc(subscribe=tuple(self._topics)))

    def peer_down(self, peer: PeerId) -> None:
        """Forget a peer and what it sent that was not validated yet."""
        self._peers.pop(peer, None)
        self._asked = {mid: it for mid, it in self._asked.items() if it.peer != peer}
        for topic in self._topics.values():
            topic.members.pop(peer, None)
            topic.mesh.pop(peer, None)
            for job in topic.queue.drop(peer):
                self._forget(job)

    def publish(self, topic: str, data: bytes, now: float) -> MessageId:
        """Send our own message on as any other, unless it was sent before: nobody is to see that
        it is ours."""
        state = self._topics.get(topic)
        if state is None:
            raise ValueError(f"not subscribed to {topic}")
        if len(data) > state.limits.max_size:
            raise ValueError(f"{len(data)} bytes for {topic}: at most {state.limits.max_size}")
        mid = message_id(topic, data)
        if self._seen.was_sent_on(mid):
            return mid
        self.counters.published += 1
        if self._peers:
            # Alone it reaches nobody: it may be published again, and nobody sends it back.
            self._seen.add(mid, now)
        self._forward(state, ValidationJob(topic, data, mid, PeerId("")), state.mesh, ())
        return mid

    def receive(self, peer: PeerId, rpc: Rpc, now: float) -> None:
        """Take in what a peer sent us."""
        known = self._peers.get(peer)
        if known is None:
            return
        for name in dict.fromkeys(rpc.subscribe):
            self._join(name, peer, known, now)
        if rpc.subscribe and not any(peer in topic.members for topic in self._topics.values()):
            self._accuser.met_stranger(peer, rpc.subscribe[0])
        for name in rpc.unsubscribe:
            self._leave(name, peer, known)
        for name, seconds in dict(rpc.prune).items():
            self._pruned(name, peer, known, now + min(max(seconds, 1), 10 * GRAFT_BACKOFF_S))
        for name in rpc.graft:
            self._grafted(name, peer, known, now)
        known.does_not_want(rpc.unwanted)
        for name, data in rpc.messages:
            self._message(peer, name, data, now)
        for _, ids in rpc.have:
            self._advertised(peer, known, known.take(ids), now)
        self._wanted(peer, known, known.take(rpc.want))
        for _ in range(known.take_faults()):
            detail = "ids, grafts and topics of no use"
            self._accuser.accuse(peer, Misbehaviour.WASTED_GOSSIP, detail, "")

    def next_job(self) -> ValidationJob | None:
        """Return the next message to validate, if one may be now; `validated` must follow."""
        for topic in self._topics.values():
            job = topic.queue.begin()
            if job is not None:
                self._spare_copies(topic, job)
                return job
        return None

    def _spare_copies(self, topic: _Topic, job: ValidationJob) -> None:
        """Ask mesh peers not to send as well what is long. Only from here on: what waits may be
        dropped unvalidated, and then another's copy has to come."""
        if len(job.data) < UNWANTED_BYTES_MIN:
            return
        have = self._in_flight.get(job.id, {})
        for peer in topic.mesh:
            if peer not in have and self._peers[peer].may_be_told():
                self._carrier.send_gossip(peer, Rpc(unwanted=(job.id,)))

    def validated(self, job: ValidationJob, verdict: Verdict) -> None:
        """Act on a validator's verdict."""
        topic = self._topics[job.topic]
        topic.queue.end(job)
        have = self._in_flight.pop(job.id, {})
        if verdict is Verdict.ACCEPT:
            self.counters.accepted += 1
            self._forward(topic, job, topic.mesh, have)
        elif verdict in (Verdict.IGNORE, Verdict.DEFER):
            self.counters.ignored += 1
            if verdict is Verdict.DEFER:
                # Protocol §11: "that of a coin held for its time is not remembered"
                self._seen.forget(job.id)
        else:
            self.counters.rejected += 1
            self._accuser.accuse(job.peer, Misbehaviour.REJECTED_GOSSIP, "rejected", job.topic)

    def heartbeat(self, now: float) -> None:
        """Repair the meshes, send ids, forget what is old. Called every `HEARTBEAT_S`."""
        self._forget_asked(now)
        for peer in self._peers.values():
            peer.heartbeat()
        for name, topic in self._topics.items():
            self._repair(name, topic, now)
            self._advertise(name, topic)
        for peer in self._peers.values():
            peer.missed = False
        self.skip(1)
        self._seen.forget_old(now)

    def skip(self, beats: int) -> None:
        """Let as much time have gone by as so many heartbeats, of which nobody was to hear."""
        self._beats += beats
        last = self._beats - HISTORY_HEARTBEATS
        while self._cache and next(iter(self._cache.values())).beat <= last:
            self._evict(next(iter(self._cache)))

    def _forget_asked(self, now: float) -> None:
        while self._asked:
            mid, asked = next(iter(self._asked.items()))
            if asked.until > now:
                return
            self._came(mid)
            if mid not in self._seen and asked.peer in self._peers:
                self._peers[asked.peer].wastes(WASTE_OF_BROKEN_PROMISE)

    def _came(self, mid: MessageId) -> None:
        asked = self._asked.pop(mid, None)
        if asked is not None and asked.peer in self._peers:
            self._peers[asked.peer].asked -= 1

    def _join(self, name: str, peer: PeerId, known: GossipPeer, now: float) -> None:
        topic = self._topics.get(name)
        if topic is None:
            known.wastes(WASTE_OF_UNKNOWN_TOPIC)
            return
        if peer in topic.members:
            return
        topic.members[peer] = None
        if len(topic.mesh) < MESH_PEERS and topic.backoff.get(peer, 0.0) <= now:
            self._graft(name, topic, peer)

    def _leave(self, name: str, peer: PeerId, known: GossipPeer) -> None:
        topic = self._topics.get(name)
        if topic is None:
            known.wastes(WASTE_OF_UNKNOWN_TOPIC)
            return
        topic.mesh.pop(peer, None)
        topic.members.pop(peer, None)

    def _pruned(self, name: str, peer: PeerId, known: GossipPeer, until: float) -> None:
        topic = self._topics.get(name)
        if topic is None:
            known.wastes(WASTE_OF_UNKNOWN_TOPIC)
            return
        topic.mesh.pop(peer, None)
        topic.backoff[peer] = until

    def _graft(self, name: str, topic: _Topic, peer: PeerId) -> None:
        topic.mesh[peer] = None
        self._carrier.send_gossip(peer, Rpc(graft=(name,)))

    def _prune(self, name: str, topic: _Topic, peer: PeerId, now: float) -> None:
        topic.mesh.pop(peer, None)
        topic.backoff[peer] = now + GRAFT_BACKOFF_S
        self._carrier.send_gossip(peer, Rpc(prune=((name, GRAFT_BACKOFF_S),)))

    def _grafted(self, name: str, peer: PeerId, known: GossipPeer, now: float) -> None:
        topic = self._topics.get(name)
        if topic is None:
            # Not answered: a topic's name is as long as its sender likes.
            known.wastes(WASTE_OF_UNKNOWN_TOPIC)
            return
        topic.members[peer] = None
        if peer in topic.mesh:
            known.wastes(1)
            return
        is_early = topic.backoff.get(peer, 0.0) > now
        known.wastes(WASTE_OF_GRAFT * is_early)
        if is_early or (len(topic.mesh) >= MESH_PEERS_MAX and not known.outbound):
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
            if not topic.queue.waits(mid):
                return
        else:
            self._seen.add(mid, now)
            self._in_flight[mid] = {peer: None}
            self._came(mid)
        for dropped in topic.queue.push(ValidationJob(name, data, mid, peer)):
            self.counters.dropped += 1
            self._forget(dropped)

    def _forget(self, job: ValidationJob) -> None:
        self._in_flight.pop(job.id, None)
        self._seen.forget(job.id)

    def _forward(
        self, topic: _Topic, job: ValidationJob, to: Iterable[PeerId], have: Iterable[PeerId]
    ) -> None:
        mid = job.id
        self._seen.sent_on(mid)
        if mid not in self._cache:
            self._cache[mid] = _Cached(job.topic, job.data, self._beats)
            self._cache_bytes += len(job.data) + CACHE_ENTRY_BYTES
            while self._cache_bytes > CACHE_BYTES_MAX or (
                not self._peers and len(self._cache) > CACHE_ALONE_MAX
            ):
                self._evict(next(iter(self._cache)))
        rpc = Rpc(messages=((job.topic, job.data),))
        holders = set(have)
        for peer in tuple(to):
            known = self._peers.get(peer)
            if known is None or peer in holders or not known.wants(mid):
                continue
            self._push(peer, known, rpc)

    def _push(self, peer: PeerId, known: GossipPeer, rpc: Rpc) -> None:
        if not self._carrier.send_gossip(peer, rpc):
            known.missed = True
            self.counters.dropped += 1

    def _evict(self, mid: MessageId) -> None:
        cached = self._cache.pop(mid, None)
        if cached is None:
            return
        self._cache_bytes -= len(cached.data) + CACHE_ENTRY_BYTES
        for peer in self._peers.values():
            peer.sends.pop(mid, None)

    def _advertised(
        self, peer: PeerId, known: GossipPeer, ids: list[MessageId], now: float
    ) -> None:
        wanted = [mid for mid in ids if mid not in self._seen and mid not in self._asked]
        del wanted[known.asks_left() :]
        if wanted and self._carrier.send_gossip(peer, Rpc(want=tuple(wanted))):
            known.asked += len(wanted)
            self._asked.update((mid, _Asked(peer, now + ASK_AGAIN_S)) for mid in wanted)

    def _wanted(self, peer: PeerId, known: GossipPeer, ids: list[MessageId]) -> None:
        for mid in ids:
            cached = self._cache.get(mid)
            sends = known.sends.get(mid, 0)
            if cached is None or sends >= SENDS_ON_REQUEST_MAX:
                known.wastes(1)
                continue
            known.sends[mid] = sends + 1
            self._push(peer, known, Rpc(messages=(cached[:2],)))

    def _repair(self, name: str, topic: _Topic, now: float) -> None:
        if topic.backoff:
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
        ids: list[MessageId] = []
        for mid, cached in reversed(self._cache.items()):
            if cached.beat <= self._beats - ADVERTISED_HEARTBEATS:
                break
            if cached.topic == name:
                ids.append(mid)
                if len(ids) == IDS_PER_HEARTBEAT_MAX:
                    break
        if not ids:
            return
        others = [peer for peer in topic.members if peer not in topic.mesh]
        lazy = self._rng.sample(others, min(LAZY_PEERS, len(others)))
        lazy += [peer for peer in topic.mesh if self._peers[peer].missed]
        rpc = Rpc(have=((name, tuple(ids)),))
        for peer in lazy:
            self._carrier.send_gossip(peer, rpc)
