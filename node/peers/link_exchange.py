"""Which outbound links are exchanged, and when: so that nobody who never hangs up has them all.

Honest peers restart, an attacker's do not. If a node only replaced what it loses, each loss would
be one more chance for the attacker, and none of its gains would be lost again. So every few hours
a link is made to a tried address of another network, and another link goes for it. And while the
tip does not change, there is one link more than usual (after Bitcoin Core's net_processing.cpp).

A peer that was lost, and whose place has been taken, comes for a visit: it goes itself, and nobody
for it. Otherwise each peer that falls silent, and is there again, would cost another its link.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.peers.dialler import Dialler, PeerSettings, Purpose
from unchained.node.peers.eviction import News
from unchained.node.transport.contract import Direction, PeerId, PeerInfo
from unchained.node.wire.messages import Status

LOOK_EVERY_S: Final = 30.0
"""Seconds between looks at the tip and at links beyond those that the node wants."""
STAY_S: Final = 1800.0
"""Seconds for which a link is not exchanged: what it is worth is not known before."""
EXTRA_STAY_S: Final = 120.0
"""Seconds after which a visit ends, or one of the links goes that are too many."""
STALE_AGAIN_S: Final = 600.0
"""Seconds between further links while the tip stays the same."""
AT_RANDOM: Final = 0.5
"""Share of cases in which any link goes, not the worst: an attacker that behaves well is never the
worst."""


class OutboundPeer(Protocol):
    """What is known of a peer."""

    @property
    def info(self) -> PeerInfo:
        """The peer."""

    @property
    def round_trip_s(self) -> float:
        """The shortest time that it took to send its status."""

    @property
    def news(self) -> Mapping[News, float]:
        """Trio's time at which it last was the first to bring something."""


class TipSource(Protocol):
    """Knows the node's own tip: `StatusSource`."""

    def current(self) -> Status:
        """Return the status of the moment."""


class LinkLeaver(Protocol):
    """Ends links: the peer manager."""

    def leave(self, peer: PeerId) -> None:
        """Disconnect a peer soon, for nothing that it did."""


class LinkExchange:
    """Exchanges outbound links. `peers` holds those of the moment; `run` beside the dialler."""

    def __init__(
        self,
        dialler: Dialler,
        settings: PeerSettings,
        *,
        peers: Mapping[PeerId, OutboundPeer],
        tip_source: TipSource,
        leaver: LinkLeaver,
        rng: random.Random,
        log: FilteringBoundLogger,
    ) -> None:
        self._dialler = dialler
        self._settings = settings
        self._peers = peers
        self._tip_source = tip_source
        self._leaver = leaver
        self._rng = rng
        self._log = log
        self.exchanged = self.stale_tips = 0
        """Counts since the start."""

    def greeted(self, peer: PeerId) -> PeerId | None:
        """Note that an outbound peer was greeted; return whose link ends for it, if one does."""
        if self._dialler.is_visited(peer) and self._dialler.missing <= 0:
            return None
        purpose = self._dialler.settle(peer)
        stays = purpose in {None, Purpose.STALE_TIP, Purpose.RETURN}
        if stays or self._dialler.missing >= 0:
            return None
        if purpose is Purpose.PROBE:
            return peer
        others = [one for one in self._candidates(STAY_S) if one.info.peer != peer]
        gone = choose_worst(others, self._rng, at_random=self._rng.random() < AT_RANDOM)
        if gone is None:
            return peer
        self.exchanged += 1
        self._log.info("peer.exchanged", peer=gone, by=peer)
        return gone

    def _candidates(self, stay_s: float) -> list[OutboundPeer]:
        """Return the outbound peers that may go for another, connected for so long, none of them
        the operator's, or without a place."""
        now = trio.current_time()
        return [
            peer
            for peer in self._peers.values()
            if peer.info.direction is Direction.OUTBOUND
            and now - peer.info.since >= stay_s
            and not self._dialler.is_own(peer.info.peer)
            and not self._dialler.is_passing(peer.info.peer)
        ]

    async def run(self) -> None:
        """Exchange links until cancelled."""
        exchange_at = self._next_exchange()
        tip, tip_since, one_more_at = b"", trio.current_time(), -math.inf
        while True:
            await trio.sleep(LOOK_EVERY_S)
            now = trio.current_time()
            present = self._tip_source.current().tip
            if present != tip:
                tip, tip_since = present, now
            self._end_visits()
            missing = self._dialler.missing
            if missing < 0:
                self._part_with_one()
            elif missing == 0 and self._settings.limits.outbound:
                if now - tip_since >= self._settings.stale_tip_s and now >= one_more_at:
                    one_more_at = now + STALE_AGAIN_S
                    if self._dialler.dial_one_more(Purpose.STALE_TIP):
                        self.stale_tips += 1
                        self._log.info("peer.stale_tip", seconds=int(now - tip_since))
                elif now >= exchange_at:
                    exchange_at = self._next_exchange()
                    self._dialler.dial_one_more(Purpose.EXCHANGE)

    def _next_exchange(self) -> float:
        every_s = self._settings.exchange_every_s
        return trio.current_time() + every_s * self._rng.uniform(0.5, 1.5)

    def _end_visits(self) -> None:
        """Part with lost peers that were there again for their time, or keep whom there is a place
        for."""
        now = trio.current_time()
        for known in list(self._peers.values()):
            peer = known.info.peer
            if not self._dialler.is_visited(peer) or now - known.info.since < EXTRA_STAY_S:
                continue
            if self._dialler.missing > 0:
                self._dialler.settle(peer)
            else:
                self._leaver.leave(peer)

    def _part_with_one(self) -> None:
        """End a link if there are too many, and the last one has had its time."""
        since = [
            peer.info.since
            for peer in self._peers.values()
            if peer.info.direction is Direction.OUTBOUND
            and not self._dialler.is_passing(peer.info.peer)
        ]
        if trio.current_time() - max(since, default=math.inf) < EXTRA_STAY_S:
            return
        at_random = self._rng.random() < AT_RANDOM
        gone = choose_worst(self._candidates(EXTRA_STAY_S), self._rng, at_random=at_random)
        if gone is not None:
            self._leaver.leave(gone)


def choose_worst(
    peers: Sequence[OutboundPeer], rng: random.Random, *, at_random: bool
) -> PeerId | None:
    """Return whose link is of least use, None if there is none: who brought no news for longest,
    and of those that never did, who is farthest. Or any, `at_random`."""
    if not peers:
        return None
    if at_random:
        return rng.choice(peers).info.peer
    return min(
        peers, key=lambda peer: (max(peer.news.values(), default=-math.inf), -peer.round_trip_s)
    ).info.peer
