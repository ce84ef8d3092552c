"""Dialling: outbound peers until there are enough, the operator's addresses, probes, seeds."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.peers.address_book import OWN, AddressBook, BookEntry
from unchained.node.peers.reputation import PeerLimits, Reputation
from unchained.node.peers.seeds import SEED_PATIENCE_S, Resolver, Seeds
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import is_public, network_group
from unchained.node.transport.contract import (
    Connected,
    Direction,
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
    probe_every_s: float = 120.0
    """Seconds between attempts at an address that was never tried."""
    status_s: float = 15.0
    """Seconds between requests for a peer's status."""
    clock_bound_ms: int = 30_000
    """Offset from the median of the outbound peers' clocks that is warned of."""


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
        self._probed: set[PeerId] = set()
        self._dialled: dict[PeerId, str] = {}
        self._reported: dict[str, str] = {}
        """Why the operator's addresses could not be reached, as last said aloud."""
        self._need = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.dials = self.failed = self.probes = 0
        """Counts since the start."""

    @property
    def missing(self) -> int:
        """How many outbound peers are missing; negative if there are more than enough."""
        outbound = sum(
            known.info.direction is Direction.OUTBOUND and peer not in self._probed
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
            if peer in self._dialled and peer not in self._probed
        ]

    def end_probe(self, peer: PeerId) -> bool:
        """Note that a peer was greeted; return whether it was only to be probed, and may go."""
        if peer not in self._probed:
            return False
        self._probed.discard(peer)
        return self.missing < 0

    def forget(self, peer: PeerId) -> None:
        """Note that a peer is gone."""
        self._dialled.pop(peer, None)
        self._probed.discard(peer)
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
            while self.missing > 0 and (found := self._next_address(first)) is not None:
                self._start_dial(found)
            with trio.move_on_after(DIAL_EVERY_S):
                await self._need.wait()

    def _next_address(self, first: list[str]) -> str | None:
        now_ms = self._clock.now_ms()
        while first:
            # Who was a peer before the restart comes first.
            entry = self._book.get(first.pop(0))
            if entry is not None and self._is_fit(entry):
                return entry.text
        entry = self._book.pick(now_ms, self._is_fit)
        return None if entry is None else entry.text

    def _is_fit(self, entry: BookEntry) -> bool:
        address = entry.address
        peer = address.peer
        return (
            peer is not None
            and peer != self._transport.id
            and peer not in self._connected
            and entry.text not in self._under_way
            and (address.is_name or self._may_dial(address.host, peer))
        )

    def _may_dial(self, ip: str, peer: PeerId) -> bool:
        """Ask whether an address is fit beside the peers there are and those being dialled."""
        under_way = {text.split("/")[2] for text in self._under_way if text.startswith("/ip")}
        return self._reputation.may_dial(ip, peer) and not (
            is_public(ip) and network_group(ip) in map(network_group, under_way)
        )

    def _start_dial(self, text: str, *, probe: bool = False) -> None:
        assert self._nursery is not None, "only `run` dials"
        self._under_way.add(text)
        self._nursery.start_soon(self._dial, text, probe, name="peers.dial")

    async def _dial(self, text: str, probe: bool) -> None:
        self.dials += 1
        self._book.attempted(text, self._clock.now_ms())
        expected = PeerId(text.rpartition("/")[2])
        already = expected in self._connected
        if probe and not already:
            self._probed.add(expected)
        if not already:
            self._dialled[expected] = text
        try:
            await self._transport.connect(text, timeout=DIAL_TIMEOUT_S)
            self._reported.pop(text, None)
        except TransportError as error:
            self._probed.discard(expected)
            self._dialled.pop(expected, None)
            self._book.failed(text, self._clock.now_ms())
            self._report_failure(text, error)
        finally:
            self._under_way.discard(text)
            self.wake()

    async def _keep_joined(self, text: str) -> None:
        """Keep in touch with an address of the operator's whose peer nobody named.

        Who answers there is remembered: the book only holds addresses of known peers.
        """
        peer: PeerId | None = None
        failures = 0
        while True:
            delay_s = DIAL_EVERY_S
            if peer not in self._connected and self.missing > 0:
                self.dials += 1
                try:
                    peer = await self._transport.identify(text, timeout=DIAL_TIMEOUT_S)
                    named = str(Address.parse(text).with_peer(peer))
                    await self._transport.connect(named, timeout=DIAL_TIMEOUT_S)
                    self._book.add(named, OWN, self._clock.now_ms())
                    failures = 0
                    self._reported.pop(text, None)
                except TransportError as error:
                    delay_s = min(FIRST_DIAL_DELAY_S * 2**failures, LONGEST_DIAL_DELAY_S)
                    failures = min(failures + 1, 16)
                    self._report_failure(text, error)
            await trio.sleep(delay_s * self._rng.uniform(0.5, 1.5))

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
        """Try, from time to time, an address that was only heard of."""
        while True:
            await trio.sleep(self._settings.probe_every_s * self._rng.uniform(0.5, 1.5))
            entry = self._book.pick(self._clock.now_ms(), self._is_fit, only_new=True)
            if entry is not None:
                self.probes += 1
                self._start_dial(entry.text, probe=True)

    def found_by_seed(self, address: str, seed: str) -> None:
        """Note an address that a seed stands for, and dial if need be."""
        self._book.add(address, seed, self._clock.now_ms())
        self.wake()
