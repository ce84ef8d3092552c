"""The peer manager: whom a node is connected to.

It dials until there are enough outbound peers, greets every peer (status, clock, addresses), asks
how it stands from time to time, and drops who is of no use. What peers need of the chain is handed
in as callables.
"""

from __future__ import annotations

import math
import random
import statistics as numbers
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.fanout import Watch
from unchained.node.p2p.address import Address
from unchained.node.p2p.addressbook import OWN, AddressBook, BookStatistics, Entry
from unchained.node.p2p.bans import BanList
from unchained.node.p2p.eviction import Candidate, News, choose
from unchained.node.p2p.exchanges import Exchanges
from unchained.node.p2p.groups import host_group, is_public, network_group
from unchained.node.p2p.penalties import Penalty
from unchained.node.p2p.seeds import PATIENCE_S, ResolveAll, Seeds, ask_system
from unchained.node.p2p.standing import PeerLimits, Standing
from unchained.node.p2p.telling import Introductions
from unchained.node.p2p.transport import (
    Direction,
    Event,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    PeerInfo,
    RequestError,
    Transport,
    TransportError,
)
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.runtime import Clock, Runner
from unchained.node.wire.errors import AnswerError, RefusedAnswer
from unchained.node.wire.messages import (
    STATUS_EXCHANGE,
    Status,
)
from unchained.storage.kv import Batch, KeyValueStore

DIAL_EVERY_S: Final = 5.0
"""Seconds between looks for missing outbound peers, when nothing happens."""
FIRST_DIAL_DELAY_S: Final = 1.0
LONGEST_DIAL_DELAY_S: Final = 60.0
"""Seconds between attempts at an address of the operator's where nobody answers: twice as many
after each, as nodes that are started together are up within moments."""
DIAL_TIMEOUT_S: Final = 10.0
SAVE_EVERY_S: Final = 60.0
SILENT_POLLS: Final = 3
"""Status requests in a row without an answer after which a peer is dropped."""
VISIT_S: Final = 20.0
"""Seconds that a peer may stay that came when all inbound places were taken, and got none."""
CLOCKS_NEEDED: Final = 3
"""Outbound peers whose clocks are needed before they are compared (Protocol §11)."""
CLOCK_WARNING_EVERY_S: Final = 600.0


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a node looks for peers: through the addresses of `bootstrap`, and while they do not
    suffice through `seeds`, names that stand for many nodes."""

    bootstrap: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    limits: PeerLimits = PeerLimits()
    feeler_s: float = 120.0
    """Seconds between attempts at an address that was never tried."""
    status_s: float = 15.0
    """Seconds between requests for a peer's status."""
    clock_bound_ms: int = 30_000
    """Offset from the median of the outbound peers' clocks that is warned of."""


class PeerView(msgspec.Struct, frozen=True):
    """A peer, for display. `clock_offset_ms` is what its clock is ahead of ours."""

    peer: PeerId
    address: str
    ip: str
    outbound: bool
    since: float
    status: Status | None
    clock_offset_ms: int | None


class PeerStatistics(msgspec.Struct, frozen=True):
    """Counts since the start, and what is held."""

    outbound: int
    inbound: int
    greeted: int
    dials: int
    dials_failed: int
    feelers: int
    book: BookStatistics
    bans: int
    penalties: Mapping[str, int]
    clock_offset_ms: int | None
    """The median of the outbound peers' offsets, None while there are too few."""


class _Peer:
    """What the manager knows of one connected peer."""

    __slots__ = (
        "clock_offset_ms", "greeted", "info", "news", "poke", "round_trip_s", "scope", "silent",
        "status", "visit",
    )  # fmt: skip

    def __init__(self, info: PeerInfo) -> None:
        self.info = info
        self.status: Status | None = None
        self.clock_offset_ms: int | None = None
        self.silent = 0
        self.greeted = False
        self.round_trip_s = math.inf
        """The shortest that it took to tell its status."""
        self.news: dict[News, float] = {}
        """Trio's time at which it last was the first to bring something."""
        self.poke = trio.Event()
        self.scope = trio.CancelScope()
        self.visit = trio.CancelScope()
        """Its deadline is the visit's end, never for a peer that has a place."""

    @property
    def is_inbound(self) -> bool:
        return self.info.direction is Direction.INBOUND

    @property
    def is_visitor(self) -> bool:
        return self.visit.deadline < math.inf


class PeerManager:
    """Keeps a node in touch with others. Construct before the transport runs; `run` beside it."""

    def __init__(
        self,
        transport: Transport,
        store: KeyValueStore,
        settings: PeerSettings,
        *,
        genesis_id: bytes,
        own_status: Callable[[], Status],
        clock: Clock,
        rng: random.Random,
        writer: Runner,
        log: FilteringBoundLogger,
        resolve_all: ResolveAll = ask_system,
    ) -> None:
        """Raises `BadAddress` for a bootstrap address or a seed that is none."""
        self.settings = settings
        self.book = AddressBook(store, rng)
        self.standing = Standing(
            BanList(store),
            settings.limits,
            clock=clock,
            peers=transport.peers,
            drop=self.drop,
            changed=self._save_soon,
            log=log,
        )
        self.exchanges = Exchanges(
            transport, genesis_id, self.standing.penalize, self.standing.group_of
        )
        self.changed: Watch[int] = Watch(0)
        """Counts statuses learned and peers lost: wakes whoever follows the peers."""
        self._transport = transport
        self._store = store
        self._genesis_id = genesis_id
        self._own_status = own_status
        self._clock = clock
        self._rng = rng
        self._writer = writer
        self._log = log
        self._seeds = Seeds(
            settings.seeds,
            transport,
            missing=lambda: self._missing() > 0,
            found=self._found_by_seed,
            resolve_all=resolve_all,
            log=log,
        )
        self._to_save = trio.Event()
        self._peers: dict[PeerId, _Peer] = {}
        self._dialling: set[str] = set()
        self._feelers: set[PeerId] = set()
        self._dialled: dict[PeerId, str] = {}
        self._need = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._clock_warned_at = float("-inf")
        self._secret = rng.randbytes(32)
        self._dials = self._dials_failed = self._feelers_tried = 0
        self._unnamed = [text for text in settings.bootstrap if Address.parse(text).peer is None]
        for text in settings.bootstrap:
            self.book.add(text, OWN, clock.now_ms())
        transport.set_gate(self.standing.gate)
        transport.observe(self._on_event)
        self.exchanges.serve(STATUS_EXCHANGE, Status, self._serve_status)
        self._introductions = Introductions(
            transport,
            self.exchanges,
            self.book,
            self.standing.penalize,
            clock,
            lambda peer: None if (known := self._peers.get(peer)) is None else known.info,
        )

    # Reading

    @property
    def knows_others(self) -> bool:
        """Whether there is anybody to look for."""
        return bool(len(self.book) or self.settings.bootstrap or self.settings.seeds or self._peers)

    def status_of(self, peer: PeerId) -> Status | None:
        """Return what a connected peer said last of itself."""
        known = self._peers.get(peer)
        return None if known is None else known.status

    def greeted(self) -> list[PeerId]:
        """Return the connected peers that have told their status, outbound ones first."""
        ready = [peer for peer in self._peers.values() if peer.status is not None]
        ready.sort(key=lambda peer: peer.info.direction is Direction.INBOUND)
        return [peer.info.peer for peer in ready]

    def is_outbound(self, peer: PeerId) -> bool:
        """Tell whether we chose the peer."""
        known = self._peers.get(peer)
        return known is not None and known.info.direction is Direction.OUTBOUND

    def peers(self) -> list[PeerView]:
        """Return the connected peers."""
        return [
            PeerView(
                peer.info.peer,
                peer.info.address,
                peer.info.ip,
                peer.info.direction is Direction.OUTBOUND,
                peer.info.since,
                peer.status,
                peer.clock_offset_ms,
            )
            for peer in self._peers.values()
        ]

    def statistics(self) -> PeerStatistics:
        """Return counts and levels."""
        outbound = sum(self.is_outbound(peer) for peer in self._peers)
        return PeerStatistics(
            outbound=outbound,
            inbound=len(self._peers) - outbound,
            greeted=len(self.greeted()),
            dials=self._dials,
            dials_failed=self._dials_failed,
            feelers=self._feelers_tried,
            book=self.book.statistics(),
            bans=len(self.standing.active_bans()),
            penalties=dict(self.standing.penalties),
            clock_offset_ms=self.clock_offset_ms(),
        )

    def clock_offset_ms(self) -> int | None:
        """Return the median offset of the outbound peers' clocks, None while there are few."""
        offsets = [
            peer.clock_offset_ms
            for peer in self._peers.values()
            if peer.clock_offset_ms is not None and peer.info.direction is Direction.OUTBOUND
        ]
        return int(numbers.median(offsets)) if len(offsets) >= CLOCKS_NEEDED else None

    # Doing

    def penalize(self, peer: PeerId, penalty: Penalty, why: str, *, ms: float = 0.0) -> None:
        """Apply a penalty (`exchanges.Penalize`)."""
        self.standing.penalize(peer, penalty, why, ms=ms)

    def drop(self, peer: PeerId) -> None:
        """Disconnect a peer soon."""
        if self._nursery is not None:
            self._nursery.start_soon(self._transport.disconnect, peer, name="peers.drop")

    def note_news(self, peer: PeerId, kind: News) -> None:
        """Note that a peer, if it is connected, was the first to bring something valid."""
        known = self._peers.get(peer)
        if known is not None:
            known.news[kind] = trio.current_time()

    def refresh(self) -> None:
        """Ask all peers for their status at once."""
        for peer in self._peers.values():
            peer.poke.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for peers and tend them until cancelled; then the book and the bans are saved."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for peer in self._peers.values():
                    nursery.start_soon(self._tend, peer, name="peers.tend")
                nursery.start_soon(self._keep_dialling, name="peers.dial")
                for text in self._unnamed:
                    nursery.start_soon(self._keep_joined, text, name="peers.bootstrap")
                patience_s = PATIENCE_S if len(self.book) or self._unnamed else 0.0
                nursery.start_soon(self._seeds.run, patience_s, name="peers.seeds")
                nursery.start_soon(self._feel, name="peers.feel")
                nursery.start_soon(self._keep_saved, name="peers.save")
                task_status.started()
        finally:
            self._nursery = None
            with trio.CancelScope(shield=True):
                await self._save()

    def _on_event(self, event: Event) -> None:
        self.standing.note(event)
        if isinstance(event, PeerConnected):
            peer = _Peer(event.info)
            if peer.is_inbound and self._is_full():
                peer.visit.deadline = trio.current_time() + VISIT_S
            self._peers[event.info.peer] = peer
            if self._nursery is not None:
                self._nursery.start_soon(self._tend, peer, name="peers.tend")
        elif isinstance(event, PeerDisconnected):
            gone = self._peers.pop(event.info.peer, None)
            if gone is not None:
                gone.scope.cancel()
                if gone.status is not None:
                    reason = event.reason.value
                    self._log.info("peer.lost", peer=event.info.peer, reason=reason)
            self._dialled.pop(event.info.peer, None)
            self._feelers.discard(event.info.peer)
            self._introductions.forget(event.info.peer)
            self._need.set()
            self.changed.set(self.changed.value + 1)

    # Dialling

    async def _keep_dialling(self) -> None:
        first = list(self.book.anchors)
        while True:
            self._need = trio.Event()
            while self._missing() > 0 and (found := self._next_address(first)) is not None:
                self._start_dial(found)
            with trio.move_on_after(DIAL_EVERY_S):
                await self._need.wait()

    def _missing(self) -> int:
        outbound = sum(
            peer.info.direction is Direction.OUTBOUND and peer.info.peer not in self._feelers
            for peer in self._peers.values()
        )
        return self.settings.limits.outbound - outbound - len(self._dialling)

    def _next_address(self, first: list[str]) -> str | None:
        now_ms = self._clock.now_ms()
        while first:
            # Who was a peer before the restart comes first.
            entry = self.book.get(first.pop(0))
            if entry is not None and self._is_fit(entry):
                return entry.text
        entry = self.book.pick(now_ms, self._is_fit)
        return None if entry is None else entry.text

    def _is_fit(self, entry: Entry) -> bool:
        address = entry.address
        peer = address.peer
        return (
            peer is not None
            and peer != self._transport.id
            and peer not in self._peers
            and entry.text not in self._dialling
            and (address.is_name or self._may_dial(address.host, peer))
        )

    def _may_dial(self, ip: str, peer: PeerId) -> bool:
        """Ask whether an address is fit beside the peers there are and those being dialled."""
        under_way = {text.split("/")[2] for text in self._dialling if text.startswith("/ip")}
        return self.standing.may_dial(ip, peer) and not (
            is_public(ip) and network_group(ip) in map(network_group, under_way)
        )

    def _start_dial(self, text: str, *, feeler: bool = False) -> None:
        assert self._nursery is not None  # noqa: S101 - only `run` dials
        self._dialling.add(text)
        self._nursery.start_soon(self._dial, text, feeler, name="peers.dial")

    async def _dial(self, text: str, feeler: bool) -> None:
        self._dials += 1
        self.book.attempted(text, self._clock.now_ms())
        expected = PeerId(text.rpartition("/")[2])
        already = expected in self._peers
        if feeler and not already:
            self._feelers.add(expected)
        if not already:
            self._dialled[expected] = text
        try:
            await self._transport.connect(text, timeout=DIAL_TIMEOUT_S)
        except TransportError as error:
            self._dials_failed += 1
            self._feelers.discard(expected)
            self._dialled.pop(expected, None)
            self.book.failed(text, self._clock.now_ms())
            self._log.debug("peer.dial_failed", address=text, why=str(error))
        finally:
            self._dialling.discard(text)
            self._need.set()

    async def _keep_joined(self, text: str) -> None:
        """Keep in touch with an address of the operator's whose peer nobody named.

        Who answers there is remembered: the book only holds addresses of known peers.
        """
        peer: PeerId | None = None
        failures = 0
        while True:
            delay_s = DIAL_EVERY_S
            if peer not in self._peers and self._missing() > 0:
                self._dials += 1
                try:
                    peer = await self._transport.identify(text, timeout=DIAL_TIMEOUT_S)
                    named = str(Address.parse(text).with_peer(peer))
                    await self._transport.connect(named, timeout=DIAL_TIMEOUT_S)
                    self.book.add(named, OWN, self._clock.now_ms())
                    failures = 0
                except TransportError as error:
                    self._dials_failed += 1
                    delay_s = min(FIRST_DIAL_DELAY_S * 2**failures, LONGEST_DIAL_DELAY_S)
                    failures = min(failures + 1, 16)
                    self._log.debug("peer.dial_failed", address=text, why=str(error))
            await trio.sleep(delay_s * self._rng.uniform(0.5, 1.5))

    async def _feel(self) -> None:
        """Try, from time to time, an address that was only heard of."""
        while True:
            await trio.sleep(self.settings.feeler_s * self._rng.uniform(0.5, 1.5))
            entry = self.book.pick(self._clock.now_ms(), self._is_fit, only_new=True)
            if entry is not None:
                self._feelers_tried += 1
                self._start_dial(entry.text, feeler=True)

    def _found_by_seed(self, text: str, seed: str) -> None:
        self.book.add(text, seed, self._clock.now_ms())
        self._need.set()

    # Tending

    async def _tend(self, peer: _Peer) -> None:
        """Greet a peer, then ask it how it stands until it is gone; who gets no place soon goes."""
        with peer.scope:
            with peer.visit:
                await self._keep_asking(peer)
            if peer.visit.cancelled_caught:
                if self._is_full():
                    await self._transport.disconnect(peer.info.peer)
                else:
                    peer.visit = trio.CancelScope()
                    await self._keep_asking(peer)

    def _is_full(self) -> bool:
        return len(self._guests()) >= self.settings.limits.inbound

    def _guests(self) -> list[_Peer]:
        """Return the inbound peers that have a place."""
        return [peer for peer in self._peers.values() if peer.is_inbound and not peer.is_visitor]

    async def _give_place(self, visitor: _Peer) -> None:
        """Let a visitor that has told its status stay, instead of another if there is one to go."""
        if self._is_full():
            evicted = choose(
                [
                    Candidate(
                        peer.info.peer,
                        network_group(peer.info.ip),
                        peer.info.since,
                        peer.round_trip_s,
                        peer.news,
                    )
                    for peer in self._guests()
                ],
                self._secret,
            )
            if evicted is None:
                return
            self._log.info("peer.evicted", peer=evicted, by=visitor.info.peer)
            await self._transport.disconnect(evicted)
        visitor.visit.deadline = math.inf

    async def _keep_asking(self, peer: _Peer) -> None:
        while True:
            peer.poke = trio.Event()
            if await self._ask_status(peer):
                if not peer.greeted:
                    peer.greeted = True
                    await self._welcome(peer)
                elif self._introductions.is_due(peer.info.peer, missing=self._missing() > 0):
                    await self._ask_addresses(peer)
            elif peer.silent >= SILENT_POLLS:
                self._log.info("peer.silent", peer=peer.info.peer)
                await self._transport.disconnect(peer.info.peer)
                return
            with trio.move_on_after(self.settings.status_s):
                await peer.poke.wait()

    async def _ask_status(self, peer: _Peer) -> bool:
        asked_ms = self._clock.now_ms()
        asked_at = trio.current_time()
        try:
            status = await self.exchanges.ask(STATUS_EXCHANGE, peer.info.peer, self._own_status())
        except (RequestError, RefusedAnswer):
            peer.silent += 1
            return False
        except (AnswerError, NonCanonicalError) as error:
            self.penalize(peer.info.peer, Penalty.FAULT, f"status: {error}")
            peer.silent += 1
            return False
        peer.silent = 0
        if not self._take_status(peer, status):
            return False
        peer.round_trip_s = min(peer.round_trip_s, trio.current_time() - asked_at)
        halfway_ms = (asked_ms + self._clock.now_ms()) // 2
        peer.clock_offset_ms = status.clock - halfway_ms
        self._watch_clocks()
        return True

    def _take_status(self, peer: _Peer, status: Status) -> bool:
        if status.genesis != self._genesis_id:
            self.penalize(peer.info.peer, Penalty.BAN, "status of another network")
            return False
        news = peer.status is None or peer.status.tip != status.tip
        peer.status = status
        if news:
            self.changed.set(self.changed.value + 1)
        return True

    async def _welcome(self, peer: _Peer) -> None:
        info = peer.info
        outbound = info.direction is Direction.OUTBOUND
        self._log.info("peer.connected", peer=info.peer, address=info.address, outbound=outbound)
        if outbound:
            self.book.good(self._dialled.get(info.peer, info.address), self._clock.now_ms())
            self.book.set_anchors(
                self._dialled[other.info.peer]
                for other in self._peers.values()
                if other.info.peer in self._dialled and other.info.peer not in self._feelers
            )
        if peer.is_visitor:
            await self._give_place(peer)
        await self._ask_addresses(peer)
        if info.peer in self._feelers:
            self._feelers.discard(info.peer)
            if self._missing() < 0:
                await self._transport.disconnect(info.peer)

    async def _ask_addresses(self, peer: _Peer) -> None:
        await self._introductions.ask(peer.info)
        self._need.set()

    def _watch_clocks(self) -> None:
        # Protocol §11: only outbound peers' clocks are compared, and only to warn
        offset = self.clock_offset_ms()
        if offset is None or abs(offset) <= self.settings.clock_bound_ms:
            return
        now = trio.current_time()
        if now - self._clock_warned_at >= CLOCK_WARNING_EVERY_S:
            self._clock_warned_at = now
            self._log.warning("net.clock_off", peers_ahead_ms=offset)

    async def _serve_status(self, peer: PeerId, status: Status) -> Status:
        known = self._peers.get(peer)
        if known is not None:
            self._take_status(known, status)
        return self._own_status()

    # The store

    async def _keep_saved(self) -> None:
        while True:
            with trio.move_on_after(SAVE_EVERY_S):
                await self._to_save.wait()
            self._to_save = trio.Event()
            await self._save()

    def _save_soon(self) -> None:
        self._to_save.set()

    async def _save(self) -> None:
        batch = Batch()
        self.book.pending(batch)
        self.standing.bans.pending(batch)
        if len(batch):
            await self._writer.run(lambda: self._store.write(batch, sync=False))

    def ban(self, ip: str, why: str, length_ms: int | None = None) -> None:
        """Ban an address, and disconnect it."""
        self.standing.ban(host_group(ip), why, length_ms)
