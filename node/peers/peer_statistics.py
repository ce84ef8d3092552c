"""What the peers' manager shows: each peer, and counts of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from unchained.node.base.latency import LatencyStatistics
from unchained.node.peers.address_book import BookStatistics
from unchained.node.transport.contract import LinkSecurity, PeerId, PeerInfo
from unchained.node.wire.messages import Status


class Connected(Protocol):
    """Whatever is kept of a connected peer."""

    @property
    def info(self) -> PeerInfo:
        """The peer."""


class PeerView(msgspec.Struct, frozen=True):
    """A peer, for display. `clock_offset_ms` is what its clock is ahead of ours, `latency_s` how
    long it took to answer when it was asked last how it stands, None before that."""

    peer: PeerId
    address: str
    ip: str
    outbound: bool
    since: float
    security: LinkSecurity
    status: Status | None
    clock_offset_ms: int | None
    latency_s: float | None


class PeerStatistics(msgspec.Struct, frozen=True):
    """Counts since the start, and what is held."""

    outbound: int
    inbound: int
    greeted: int
    dials: int
    dials_failed: int
    probes: int
    book: BookStatistics
    bans: int
    penalties: Mapping[str, int]
    tips: tuple[bytes, ...]
    """Those that greeted peers named last."""
    claimed_height: int
    """The greatest height that one of them claims; nobody has seen it."""
    bans_made: int
    clock_offset_ms: int | None
    """The median of the outbound peers' offsets, None while there are too few."""
    latency: LatencyStatistics
    """How long peers took to answer when they were asked how they stand."""
