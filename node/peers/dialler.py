"""Dialling: outbound peers until there are enough, the operator's addresses, probes, seeds."""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Mapping
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.peers.address_book import AddressBook
from unchained.node.peers.address_table import OWN, BookEntry
from unchained.node.peers.lost_peers import LASTED_S, LostPeers, is_loss
from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.peers.peer_statistics import Connected
from unchained.node.peers.reputation import PeerLimits, Reputation
from unchained.node.peers.seeds import SEED_PATIENCE_S, Resolver, Seeds
from unchained.node.peers.turned_away import TurnedAway
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import is_public
from unchained.node.transport.contract import (
    Direction,
    DisconnectReason,
    PeerDisconnected,
    PeerId,
    PeerInfo,
    Transport,
    TransportError,
)

DIAL_EVERY_S: Final = 5.0
"""Seconds between looks for missing outbound peers, when nothing happens."""
FIRST_DIAL_DELAY_S: Final = 1.0
LONGEST_DIAL_DELAY_S: Final = 60.0
"""Seconds between attempts at an address of the operator's where nobody answers: twice as many
after each, as nodes that are started together are up within moments."""
DIAL_TIMEOUT_S: Final = 10.0


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a node looks for peers: through the addresses of `bootstrap`, and while they do not
    suffice through `seeds`, names that stand for many nodes."""

    bootstrap: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    limits: PeerLimits = PeerLimits()
    groups: NetworkGroups = NetworkGroups()
    """Which addresses count as one network."""
    probe_every_s: float = 120.0
    """Seconds between attempts at an address that was never tried, or whose place another wants."""
    exchange_every_s: float = 4 * 3600.0
    """Seconds between exchanges of an outbound link."""
    stale_tip_s: float = 1800.0
    """Seconds without another tip after which one more outbound link is made."""
    status_s: float = 15.0
    """Seconds between requests for a peer's status."""
    clock_bound_ms: int = 30_000
    """Offset from the median of the outbound peers' clocks that is warned of."""
    loopback_is_home: bool = True
    """Whether peers at loopback addresses are this machine's own, as on networks for trying things
    out, and not whoever came through a tunnel."""
    onion_is_apart: bool = False
    """Whether who comes through an onion service of ours is known by that."""


class Purpose(enum.Enum):
    """What an outbound link is made for beside those that the node wants."""

    PROBE = "probe"
    """To see whether its address is good."""
    EXCHANGE = "exchange"
    """To take the place of another."""
    STALE_TIP = "stale tip"
    """To learn of a chain that the others do not tell of."""
    RETURN = "return"
    """To learn of the chain of a peer that was lost, and whose place has been taken since: a visit,
    for which nobody else goes."""


class Dialler:
    """Keeps up the number of outbound peers. Construct before the transport runs.

    `connected` holds the peers of the moment; its owner reports those that are gone.
    """

    def __init__(
        self,
        transport: Transport,
        book: AddressBook,
        reputation: Reputation,
        settings: PeerSettings,
        *,
        connected: Mapping[PeerId, Connected],
        clock: Clock,
        rng: random.Random,
        resolver: Resolver,
        log: FilteringBoundLogger,
    ) -> None:
        """Raises `BadAddressError` for a bootstrap address or a seed that is none."""
        self._transport = transport
        self._book = book
        self._reputation = reputation
        self._settings = settings
        self._connected = connected
        self._clock = clock
        self._rng = rng
        self._log = log
        self._seeds = Seeds(
            settings.seeds,
            transport,
            seeker=self,
            resolver=resolver,
            log=log,
        )
        self._unnamed = [text for text in settings.bootstrap if Address.parse(text).peer is None]
        for text in settings.bootstrap:
            book.add(text, OWN, clock.now_ms())
        self._under_way: set[str] = set()
        self._passing: dict[PeerId, Purpose] = {}
        """Peers that have no place yet among those that the node wants."""
        self._dialled: dict[PeerId, str] = {}
        self._reported: dict[str, str] = {}
        """Why the operator's addresses could not be reached, as last said aloud."""
        self._lost = LostPeers(rng)
        self._turned_away = TurnedAway(rng)
        self._need = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.dials = self.failed = self.probes = 0
        """Counts since the start."""

    @property
    def missing(self) -> int:
        """How many outbound peers are missing; negative if there are more than enough."""
        outbound = sum(
            known.info.direction is Direction.OUTBOUND and peer not in self._passing
            for peer, known in self._connected.items()
        )
        return self._settings.limits.outbound - outbound - len(self._under_way)

    def wake(self) -> None:
        """Look at once for missing peers: one was lost, or addresses were found."""
        self._need.set()

    def address_of(self, info: PeerInfo) -> str:
        """Return the address at which an outbound peer was reached."""
        return self._dialled.get(info.peer, info.address)

    def chosen(self) -> list[str]:
        """Return the addresses of the connected peers that are meant to last."""
        return [
            self._dialled[peer]
            for peer in self._connected
            if peer in self._dialled and peer not in self._passing
        ]

    def is_passing(self, peer: PeerId) -> bool:
        """Return whether a peer has no place yet among those that the node wants."""
        return peer in self._passing

    def is_visited(self, peer: PeerId) -> bool:
        """Return whether a peer was lost, and has no place now that it is there again."""
        return peer in self._dialled and self._passing.get(peer) is Purpose.RETURN

    def is_own(self, peer: PeerId) -> bool:
        """Return whether the operator gave the address at which a peer was reached."""
        entry = self._book.get(self._dialled.get(peer, ""))
        return entry is not None and entry.is_own

    def settle(self, peer: PeerId) -> Purpose | None:
        """Note that a peer counts from here on; return what else its link was made for."""
        purpose = self._passing.pop(peer, None)
        if purpose is Purpose.RETURN:
            self._lost.found(self._dialled[peer])
        return purpose

    def dial_one_more(self, purpose: Purpose) -> bool:
        """Make one more link if there is an address that is fit for it; return whether there is.

        An exchange is for an address that has worked before.
        """
        only_tried = purpose is Purpose.EXCHANGE
        entry = self._book.pick(self._clock.now_ms(), self._is_fit, only_tried=only_tried)
        if entry is not None and self._nursery is not None:
            self._start_dial(entry.text, purpose)
        return entry is not None

    def forget(self, event: PeerDisconnected, *, was_silent: bool) -> None:
        """Note that a peer is gone; if nobody wanted that, it is looked for. `was_silent`: it was
        let go of because it did not answer."""
        peer, now = event.info.peer, trio.current_time()
        is_own = self.is_own(peer)
        text = self._dialled.pop(peer, None)
        purpose = self._passing.pop(peer, None)
        lasted_s = now - event.info.since
        if text is not None and lasted_s >= LASTED_S:
            self._turned_away.forget(text)
        elif text is not None and event.reason is DisconnectReason.REMOTE:
            self._turned_away.note(text, now, is_own=is_own)
        if text is not None and purpose is Purpose.RETURN:
            self._lost.visited(text, now)
        elif text is not None and (
            purpose is None
            and is_loss(event.reason, lasted_s, was_silent=was_silent, is_own=is_own)
        ):
            self._lost.note(text, now)
        self.wake()

    async def run(self) -> None:
        """Dial until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._keep_dialling, name="peers.dial")
                for text in self._unnamed:
                    nursery.start_soon(self._keep_joined, text, name="peers.bootstrap")
                patience_s = SEED_PATIENCE_S if len(self._book) or self._unnamed else 0.0
                nursery.start_soon(self._seeds.run, patience_s, name="peers.seeds")
                nursery.start_soon(self._keep_probing, name="peers.probe")
        finally:
            self._nursery = None

    async def _keep_dialling(self) -> None:
        first = list(self._book.anchors)
        while True:
            self._need = trio.Event()
            self._dial_lost()
            while self.missing > 0 and (found := self._next_address(first)) is not None:
                self._start_dial(found)
            # Time alone makes addresses fit for a dial again, but not peers missing.
            most_s = DIAL_EVERY_S if self.missing > 0 else math.inf
            with trio.move_on_after(self._lost.wait_s(trio.current_time(), most_s)):
                await self._need.wait()

    def _dial_lost(self) -> None:
        """Dial those lost peers whose time has come, also where others have taken their places: it
        may be a whole part of the network that was lost with them."""
        while (text := self._lost.take_due(trio.current_time())) is not None:
            address = Address.parse(text)
            if address.peer is not None and address.peer in self._connected:
                if not self.is_visited(address.peer):
                    self._lost.found(text)
            elif self._is_fit_address(text, address):
                self._start_dial(text, None if self.missing > 0 else Purpose.RETURN)

    def _next_address(self, first: list[str]) -> str | None:
        while first:
            # Who was a peer before the restart comes first, whatever the book holds of it.
            text = first.pop(0)
            if self._is_fit_address(text, Address.parse(text)):
                return text
        entry = self._book.pick(self._clock.now_ms(), self._is_fit)
        return None if entry is None else entry.text

    def _is_fit(self, entry: BookEntry) -> bool:
        return self._is_fit_address(entry.text, entry.address)

    def _is_fit_address(self, text: str, address: Address) -> bool:
        peer = address.peer
        return (
            peer is not None
            and peer != self._transport.id
            and peer not in self._connected
            and text not in self._under_way
            and not self._turned_away.is_waiting(text, trio.current_time())
            and self._transport.refusal(address) is None
            and (address.is_name or self._may_dial(address.ip, peer))
        )

    def _may_dial(self, ip: str, peer: PeerId) -> bool:
        """Ask whether an address is fit beside the peers there are and those being dialled."""
        dialled = map(Address.parse, self._under_way)
        under_way = {address.ip for address in dialled if not address.is_name}
        group = self._settings.groups.of
        return self._reputation.may_dial(ip, peer) and not (
            is_public(ip) and group(ip) in map(group, under_way)
        )

    def _start_dial(self, text: str, purpose: Purpose | None = None) -> None:
        assert self._nursery is not None, "only `run` dials"
        self._under_way.add(text)
        self._nursery.start_soon(self._dial, text, purpose, name="peers.dial")

    async def _dial(self, text: str, purpose: Purpose | None) -> None:
        try:
            await self._reach(text, purpose)
        except TransportError as error:
            self._report_failure(text, error)

    async def _reach(self, text: str, purpose: Purpose | None) -> None:
        """Connect to an address that is under way, and names its peer. Raises `TransportError`."""
        self.dials += 1
        self._book.attempted(text, self._clock.now_ms())
        expected = PeerId(text.rpartition("/")[2])
        already = expected in self._connected
        if purpose is not None and not already:
            self._passing[expected] = purpose
        if not already:
            self._dialled[expected] = text
        try:
            await self._transport.connect(text, timeout=DIAL_TIMEOUT_S)
            if purpose is not Purpose.RETURN:
                self._lost.found(text)
            self._reported.pop(text, None)
        except TransportError:
            self._passing.pop(expected, None)
            self._dialled.pop(expected, None)
            self._note_failed(text)
            raise
        finally:
            self._under_way.discard(text)
            self.wake()

    def _note_failed(self, text: str) -> None:
        entry = self._book.get(text)
        # Where nobody at all is reached, it is our line that is down: no address waits longer.
        if self._connected or (entry is not None and not entry.failures):
            self._book.failed(text, self._clock.now_ms())

    async def _keep_joined(self, text: str) -> None:
        """Keep in touch with an address of the operator's whose peer nobody named.

        Who answers there is remembered: the book only holds addresses of known peers. One that
        turned us away is left alone like any other.
        """
        named = ""
        failures = 0
        while True:
            delay_s = DIAL_EVERY_S
            if self.missing > 0 and self._is_free(named):
                try:
                    self.dials += 1
                    peer = await self._transport.identify(text, timeout=DIAL_TIMEOUT_S)
                    named = str(Address.parse(text).with_peer(peer))
                    if self._is_free(named):
                        self._under_way.add(named)
                        await self._reach(named, None)
                        self._book.add(named, OWN, self._clock.now_ms())
                    failures = 0
                    self._reported.pop(text, None)
                except TransportError as error:
                    delay_s = min(FIRST_DIAL_DELAY_S * 2**failures, LONGEST_DIAL_DELAY_S)
                    failures = min(failures + 1, 16)
                    self._report_failure(text, error)
            await trio.sleep(delay_s * self._rng.uniform(0.5, 1.5))

    def _is_free(self, named: str) -> bool:
        """Return whether nothing speaks against a dial to an address of the operator's: no link to
        its peer, none that is being made, and no wait."""
        return not (
            PeerId(named.rpartition("/")[2]) in self._connected
            or named in self._under_way
            or self._turned_away.is_waiting(named, trio.current_time())
        )

    def _report_failure(self, text: str, error: TransportError) -> None:
        """Say why a dial failed: of what the operator named, aloud each time the reason changes."""
        self.failed += 1
        entry = self._book.get(text)
        is_named = text in self._unnamed or (entry is not None and entry.source == OWN)
        why = str(error)
        if is_named and self._reported.get(text) != why:
            self._reported[text] = why
            self._log.warning("peer.dial_failed", address=text, why=why)
        else:
            self._log.debug("peer.dial_failed", address=text, why=why)

    async def _keep_probing(self) -> None:
        """Try, from time to time, an address that was only heard of, or whose place another
        wants."""
        while True:
            await trio.sleep(self._settings.probe_every_s * self._rng.uniform(0.5, 1.5))
            now_ms = self._clock.now_ms()
            entry = self._book.to_test(now_ms, self._is_fit) or self._book.pick(
                now_ms, self._is_fit, only_new=True
            )
            if entry is not None:
                self.probes += 1
                self._start_dial(entry.text, Purpose.PROBE)

    def found_by_seed(self, address: str, seed: str) -> None:
        """Note an address that a seed stands for, and dial if need be."""
        self._book.add(address, seed, self._clock.now_ms())
        self.wake()
