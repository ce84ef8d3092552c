"""The peer manager: whom a node is connected to.

It dials until there are enough outbound peers, greets every peer (status, clock, addresses), asks
how it stands from time to time, and drops who is of no use. What the node says of itself comes from
a `StatusSource`.
"""

from __future__ import annotations

import math
import random
import statistics as numbers
from typing import Final, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Broadcast, Watch
from unchained.node.base.latency import Latency
from unchained.node.base.runner import Runner
from unchained.node.peers.address_book import AddressBook
from unchained.node.peers.address_exchange import AddressExchange
from unchained.node.peers.ban_list import BanList
from unchained.node.peers.dialler import Dialler, PeerSettings
from unchained.node.peers.eviction import Candidate, News, choose, choose_visitor
from unchained.node.peers.exchanges import Exchanges
from unchained.node.peers.link_exchange import LinkExchange
from unchained.node.peers.peer_records import PeerRecords
from unchained.node.peers.peer_statistics import PeerStatistics, PeerView
from unchained.node.peers.penalty import Penalty
from unchained.node.peers.reputation import VISITORS_MAX, Reputation
from unchained.node.peers.seeds import Resolver, SystemResolver
from unchained.node.peers.strangers import Strangers
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.transport.contract import (
    Direction,
    Event,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    PeerIdentified,
    PeerInfo,
    RequestError,
    Transport,
)
from unchained.node.wire.errors import AnswerError, RefusedAnswerError
from unchained.node.wire.messages import STATUS_EXCHANGE, Status
from unchained.storage.kv import KeyValueStore

SILENT_POLLS: Final = 3
"""Status requests in a row without an answer after which a peer is dropped."""
TOLD_PERIODS: Final = 1.5
"""Periods in which peers are asked, for which one is not asked that has asked us itself: it will
again after one, and the time that its request takes."""
VISIT_S: Final = 20.0
"""Seconds that a peer may stay that came when all inbound places were taken, and got none."""
CLOCKS_NEEDED: Final = 3
"""Outbound peers whose clocks are needed before they are compared (Protocol §11)."""
CLOCK_WARNING_EVERY_S: Final = 600.0
DROPS_KEPT: Final = 256
"""Banned peers that who follows bans may be behind."""


class StatusSource(Protocol):
    """Knows what the node says of itself."""

    def current(self) -> Status:
        """Return the status of the moment."""


class _Peer:
    """What the manager knows of one connected peer."""

    __slots__ = (
        "clock_offset_ms", "greeted", "identified", "info", "latency_s", "news", "poke",
        "round_trip_s", "scope", "silent", "status", "told_at", "visit", "wait",
    )  # fmt: skip

    def __init__(self, info: PeerInfo) -> None:
        self.info = info
        self.status: Status | None = None
        self.clock_offset_ms: int | None = None
        self.silent = 0
        self.told_at = -math.inf
        """Trio's time at which it last asked us, and so said how it stands."""
        self.greeted = False
        self.identified = trio.Event()
        """Set once it has said what it is, or will not."""
        self.round_trip_s = math.inf
        """The shortest time that it took to send its status."""
        self.latency_s: float | None = None
        """That of the last time."""
        self.news: dict[News, float] = {}
        """Trio's time at which it last was the first to bring something."""
        self.poke = trio.Event()
        self.scope = trio.CancelScope()
        self.visit = trio.CancelScope()
        """Its deadline is the visit's end, never for a peer that has a place."""
        self.wait = trio.CancelScope()
        """Its deadline is when it is asked again how it stands."""

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
        own_status: StatusSource,
        clock: Clock,
        rng: random.Random,
        writer: Runner,
        log: FilteringBoundLogger,
        resolver: Resolver | None = None,
    ) -> None:
        """Raises `BadAddressError` for a bootstrap address or a seed that is none."""
        self.settings = settings
        self.book = AddressBook(store, rng, settings.groups)
        bans = BanList(store)
        self.reputation = Reputation(
            bans,
            settings.limits,
            connections=transport,
            observer=self,
            clock=clock,
            log=log,
            groups=settings.groups,
        )
        self._records = PeerRecords(store, writer, self.book, bans)
        self.exchanges = Exchanges(transport, genesis_id, self.reputation)
        self.changed: Watch[int] = Watch(0)
        """Counts statuses learned and peers lost: wakes those who follow the peers."""
        self.dropped: Broadcast[PeerId] = Broadcast(DROPS_KEPT)
        """Peers that are disconnected because they are banned."""
        self._transport = transport
        self._genesis_id = genesis_id
        self._own_status = own_status
        self._clock = clock
        self._rng = rng
        self._log = log
        self._peers: dict[PeerId, _Peer] = {}
        self._dialler = Dialler(
            transport,
            self.book,
            self.reputation,
            settings,
            connected=self._peers,
            clock=clock,
            rng=rng,
            resolver=resolver or SystemResolver(),
            log=log,
        )
        self._links = LinkExchange(
            self._dialler,
            settings,
            peers=self._peers,
            tip_source=own_status,
            leaver=self,
            rng=rng,
            log=log,
        )
        if self.book.unreadable or bans.unreadable:
            log.warning(
                "peer.rows_unreadable", addresses=self.book.unreadable, bans=bans.unreadable
            )
        if self.book.left_out:
            log.info("peer.addresses_left_out", held=len(self.book), left_out=self.book.left_out)
        self._latency = Latency()
        self._nursery: trio.Nursery | None = None
        self._clock_warned_at = float("-inf")
        self._secret = rng.randbytes(32)
        self.strangers = Strangers(genesis_id, log)
        transport.set_gate(self._gate)
        transport.observe(self._on_event)
        self.exchanges.serve(STATUS_EXCHANGE, Status, self._serve_status)
        self._address_exchange = AddressExchange(
            transport,
            self.exchanges,
            self.book,
            self.reputation,
            clock,
            self._peers,
            settings.groups,
            loopback_is_home=settings.loopback_is_home,
            onion_is_apart=settings.onion_is_apart,
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
        """Return the connected peers that have sent their status, outbound ones first."""
        ready = [peer for peer in self._peers.values() if peer.status is not None]
        ready.sort(key=lambda peer: peer.is_inbound)
        return [peer.info.peer for peer in ready]

    def is_outbound(self, peer: PeerId) -> bool:
        """Return whether we chose the peer."""
        known = self._peers.get(peer)
        return known is not None and not known.is_inbound

    def peers(self) -> list[PeerView]:
        """Return the connected peers."""
        return [
            PeerView(
                peer.info.peer,
                peer.info.address,
                peer.info.ip,
                not peer.is_inbound,
                peer.info.since,
                peer.info.security,
                peer.status,
                peer.clock_offset_ms,
                peer.latency_s,
            )
            for peer in self._peers.values()
        ]

    def statistics(self) -> PeerStatistics:
        """Return counts and levels."""
        outbound = sum(self.is_outbound(peer) for peer in self._peers)
        statuses = [peer.status for peer in self._peers.values() if peer.status is not None]
        return PeerStatistics(
            outbound=outbound,
            inbound=len(self._peers) - outbound,
            greeted=len(self.greeted()),
            dials=self._dialler.dials,
            dials_failed=self._dialler.failed,
            probes=self._dialler.probes,
            book=self.book.statistics(),
            bans=len(self.reputation.active_bans()),
            penalties=dict(self.reputation.penalties),
            tips=tuple(status.tip for status in statuses),
            claimed_height=max((status.height for status in statuses), default=0),
            bans_made=self.reputation.bans_made,
            clock_offset_ms=self.clock_offset_ms(),
            latency=self._latency.statistics(),
        )

    def clock_offset_ms(self) -> int | None:
        """Return the median offset of the outbound peers' clocks, None while there are few."""
        offsets = [
            peer.clock_offset_ms
            for peer in self._peers.values()
            if peer.clock_offset_ms is not None and not peer.is_inbound
        ]
        return int(numbers.median(offsets)) if len(offsets) >= CLOCKS_NEEDED else None

    # Doing

    def drop(self, peer: PeerId) -> None:
        """Disconnect a peer soon: it is banned."""
        self.dropped.send(peer)
        self.leave(peer)

    def leave(self, peer: PeerId) -> None:
        """Disconnect a peer soon, for nothing that it did (`link_exchange.LinkLeaver`)."""
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
                nursery.start_soon(self._dialler.run, name="peers.dial")
                nursery.start_soon(self._links.run, name="peers.exchange")
                nursery.start_soon(self._records.run, name="peers.save")
                task_status.started()
        finally:
            self._nursery = None
            with trio.CancelScope(shield=True):
                await self._records.save()

    def _gate(self, ip: str, peer: PeerId | None, direction: Direction, /) -> bool:
        return not self.strangers.has(peer) and self.reputation.gate(ip, peer, direction)

    def _on_event(self, event: Event) -> None:
        self.reputation.note(event)
        if self.strangers.note(event):
            if self._nursery is not None:
                self._nursery.start_soon(self._part, event.info.peer, name="peers.part")
        elif isinstance(event, PeerIdentified) and event.info.peer in self._peers:
            self._peers[event.info.peer].identified.set()
        if isinstance(event, PeerConnected):
            peer = _Peer(event.info)
            if peer.is_inbound and self._is_full():
                peer.visit.deadline = trio.current_time() + VISIT_S
            self._peers[event.info.peer] = peer
            self._show_out_visitor()
            if self._nursery is not None:
                self._nursery.start_soon(self._tend, peer, name="peers.tend")
        elif isinstance(event, PeerDisconnected):
            gone = self._peers.pop(event.info.peer, None)
            if gone is not None:
                gone.scope.cancel()
                if gone.status is not None:
                    self._log.info("peer.lost", peer=event.info.peer, reason=event.reason.value)
            self._address_exchange.forget(event.info.peer)
            was_silent = gone is not None and gone.silent >= SILENT_POLLS
            self._dialler.forget(event, was_silent=was_silent)
            self.changed.set(self.changed.value + 1)

    async def _part(self, stranger: PeerId) -> None:
        await self.strangers.until_informed(stranger)
        await self._transport.disconnect(stranger)

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

    def _show_out_visitor(self) -> None:
        """Keep a visitor's place open for who comes next, whoever sits in the others."""
        here = [p.info for p in self._peers.values() if p.is_visitor and not p.visit.cancel_called]
        if len(here) >= VISITORS_MAX:
            served = [info for info in here if self._address_exchange.has_answered(info.peer)]
            self._peers[choose_visitor(served or here, self.settings.groups)].visit.cancel()

    async def _give_place(self, visitor: _Peer) -> None:
        """Let a visitor that has sent its status stay, instead of another if there is one to go."""
        if self._is_full():
            of = self.settings.groups.of
            guests = [
                Candidate(it.info.peer, of(it.info.ip), it.info.since, it.round_trip_s, it.news)
                for it in self._guests()
            ]
            evicted = choose(guests, self._secret)
            if evicted is None:
                return
            self._log.info("peer.evicted", peer=evicted, by=visitor.info.peer)
            await self._transport.disconnect(evicted)
        visitor.visit.deadline = math.inf

    async def _keep_asking(self, peer: _Peer) -> None:
        await peer.identified.wait()
        while True:
            peer.poke = trio.Event()
            if await self._ask_status(peer):
                if not peer.greeted:
                    await self._welcome(peer)
                    peer.greeted = True
                elif self._is_due(peer):
                    await self._ask_addresses(peer)
            elif peer.silent >= SILENT_POLLS:
                self._log.info("peer.silent", peer=peer.info.peer)
                await self._transport.disconnect(peer.info.peer)
                return
            again_at = trio.current_time() + self.settings.status_s
            with trio.move_on_at(max(again_at, self._told_until(peer))) as peer.wait:
                await peer.poke.wait()

    def _told_until(self, peer: _Peer) -> float:
        """Return until when there is no need to ask a peer: one that came to us, and asks us, says
        itself how it stands."""
        if not peer.is_inbound or self._is_due(peer):
            return -math.inf
        return peer.told_at + TOLD_PERIODS * self.settings.status_s

    async def _ask_status(self, peer: _Peer) -> bool:
        asked_ms = self._clock.now_ms()
        asked_at = trio.current_time()
        try:
            status = await self.exchanges.ask(
                STATUS_EXCHANGE, peer.info.peer, self._own_status.current()
            )
        except (RequestError, RefusedAnswerError):
            peer.silent += 1
            return False
        except (AnswerError, NonCanonicalError) as error:
            self.reputation.penalize(peer.info.peer, Penalty.FAULT, f"status: {error}")
            peer.silent += 1
            return False
        peer.silent = 0
        if not self._take_status(peer, status):
            return False
        peer.latency_s = trio.current_time() - asked_at
        self._latency.note(peer.latency_s)
        peer.round_trip_s = min(peer.round_trip_s, peer.latency_s)
        halfway_ms = (asked_ms + self._clock.now_ms()) // 2
        peer.clock_offset_ms = status.clock - halfway_ms
        self._watch_clocks()
        return True

    def _take_status(self, peer: _Peer, status: Status) -> bool:
        if status.genesis != self._genesis_id:
            self.reputation.penalize(peer.info.peer, Penalty.BAN, "status of another network")
            return False
        news = peer.status is None or peer.status.tip != status.tip
        peer.status = status
        if news:
            self.changed.set(self.changed.value + 1)
        return True

    async def _welcome(self, peer: _Peer) -> None:
        info = peer.info
        outbound = not peer.is_inbound
        self._log.info("peer.connected", peer=info.peer, address=info.address, outbound=outbound)
        if outbound:
            address, now_ms = self._dialler.address_of(info), self._clock.now_ms()
            # One of the last outbound peers may be known from nowhere else.
            self.book.add(address, self.settings.groups.of(info.ip), now_ms)
            self.book.good(address, now_ms)
        if peer.is_visitor:
            await self._give_place(peer)
        await self._ask_addresses(peer)
        going = self._links.greeted(info.peer)
        if going is not None:
            await self._transport.disconnect(going)
        if outbound:
            self.book.note_outbound(self._dialler.chosen(), self.settings.limits.outbound)

    def _is_due(self, peer: _Peer) -> bool:
        return self._address_exchange.is_due(peer.info.peer, missing=self._dialler.missing > 0)

    async def _ask_addresses(self, peer: _Peer) -> None:
        await self._address_exchange.ask(peer.info)
        self._dialler.wake()

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
            known.told_at = trio.current_time()
            known.wait.deadline = max(known.wait.deadline, self._told_until(known))
            self._take_status(known, status)
        return self._own_status.current()

    # The store

    def bans_changed(self) -> None:
        """Save the bans soon (`reputation.BanObserver`)."""
        self._records.bans_changed()
