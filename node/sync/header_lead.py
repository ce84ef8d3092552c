"""Who gives the headers of a chain whose bodies are being fetched: of those who have that chain,
one who keeps pace.

The others' pace is known from the comparison. Who takes much longer for each page, though he
answers, would stretch a first sync from minutes to hours, while the node does not mine.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from typing import Final

from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import FetchError, NotServedByPeerError
from unchained.node.sync.header_scan import HeaderScan
from unchained.node.sync.header_walk import HeaderWalk
from unchained.node.transport.contract import PeerId

FAIR_PACE_FACTOR: Final = 3.0
"""So many times what another would need may pass."""
LEAD_GRACE_S: Final = 10.0
"""Seconds more that may pass in all: a bad moment is no reason to ask somebody else."""


class BrokenWordError(FetchError):
    """A peer does not give the headers that it has shown."""


class HeaderLead:
    """The peer that is asked for the headers of a scanned chain, and who could take over."""

    def __init__(self, scan: HeaderScan, scans: Iterable[HeaderScan]) -> None:
        self._chain = scan
        self._leader = scan
        self._others = [other for other in scans if other is not scan]
        self._pages = 0
        self._waited_s = 0.0

    @property
    def peer(self) -> PeerId:
        """Who is asked."""
        return self._leader.peer

    @property
    def tips(self) -> set[CoinId]:
        """Where the scanned chain ends, and that of who is asked."""
        return {CoinId(self._chain.tip), CoinId(self._leader.tip)}

    def check_word_kept(self, walk: HeaderWalk, known: Container[bytes]) -> None:
        """Check that a walk to the end has led through as much work as was shown when headers were
        compared. Who has shown a chain that ends in a tip of `known` owes nothing: all of it is
        here by now, from whomever, and nobody gives it again. Raises `BrokenWordError`, or
        `NotServedByPeerError` where that had to be taken from one that showed less."""
        chain_work, leader_work = (
            0 if scan.tip in known else scan.work_above(walk.fork_height)
            for scan in (self._chain, self._leader)
        )
        if walk.work < (min(chain_work, leader_work) if self._chain.is_cut else leader_work):
            raise BrokenWordError(self.peer, "gives fewer headers than it has shown")
        if walk.work < chain_work:
            raise NotServedByPeerError(self._chain.peer, "nobody else has all of its headers")

    def note_page(self, waited_s: float) -> None:
        """Note how long a page took."""
        self._pages += 1
        self._waited_s += waited_s

    def patience_s(self, walk: HeaderWalk) -> float:
        """Return how long the next page may take: as long as it likes where nobody could take
        over."""
        other = self._best_other(walk)
        if other is None:
            return math.inf
        fair_s = FAIR_PACE_FACTOR * other.page_s * (self._pages + 1)
        return max(0.0, LEAD_GRACE_S + fair_s - self._waited_s)

    def hand_over(self, walk: HeaderWalk) -> None:
        """Let whoever is fastest of the others go on from where a walk is; there is one, as
        patience was limited."""
        other = self._best_other(walk)
        assert other is not None, "patience had a limit"
        self._others.remove(other)
        self._leader = other
        self._pages, self._waited_s = 0, 0.0
        walk.hand_over(other.peer)

    def _best_other(self, walk: HeaderWalk) -> HeaderScan | None:
        others = (other for other in self._others if self._can_go_on(other, walk))
        return min(others, key=lambda other: other.page_s, default=None)

    def _can_go_on(self, other: HeaderScan, walk: HeaderWalk) -> bool:
        """Return whether another has the chain where a walk is, and up to where it is to end if
        that is below its tip."""
        chain = self._chain
        if chain.is_cut and not other.has(CoinId(chain.tip), chain.height):
            return False
        if walk.tip_id is not None and walk.height > chain.base_height:
            return other.has(walk.tip_id, walk.height)
        first = chain.ids_above(chain.base_height, 1)
        return bool(first) and other.has(first[0], chain.base_height + 1)
