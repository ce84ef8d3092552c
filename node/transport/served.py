"""A protocol that is answered, and the places of those who are being answered."""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio

from unchained.node.transport.contract import Handler, PeerId, ServeLimits

PLACE_KEPT_S: Final = 2.0
"""Seconds for which nobody loses a place to another peer that has but one place less."""


class Place:
    """One request, from its first byte until its answer is taken; `scope` is cancelled when the
    place is given to another."""

    def __init__(self, peer: PeerId, group: str = "") -> None:
        """`group`: where the peer is, which many names may share; the peer itself, if not given."""
        self.peer = peer
        self.group = group or str(peer)
        self.since = trio.current_time()
        self.scope = trio.CancelScope()


class Served:
    """A protocol's handler, its limits and its places.

    A place is kept until the answer is taken, so that who does not take it cannot ask for more.
    Where all places are taken, a peer with fewer of them gets that of one that has most. One that
    has none takes nobody's only place: it is given a further one, so that no company of peers, each
    with a place that it takes anew in time, shuts out another, and newcomers cut off no answer that
    is being taken. There are but as many more as there are connected peers.
    """

    def __init__(self, handler: Handler, limits: ServeLimits) -> None:
        self.handler = handler
        self.limits = limits
        self._places: dict[Place, None] = {}
        self._of_peer: Counter[PeerId] = Counter()

    def enter(self, peer: PeerId, group: str = "") -> Place | None:
        """Take a place for one request, if there is one; `leave` must follow."""
        if self._of_peer[peer] >= self.limits.max_per_peer:
            return None
        is_full = len(self._places) >= self.limits.max_total
        if is_full and not self._make_room(peer) and self._of_peer[peer]:
            return None
        place = Place(peer, group)
        self._places[place] = None
        self._of_peer[peer] += 1
        return place

    def leave(self, place: Place) -> None:
        """Give a place back; calling it again changes nothing."""
        if place not in self._places:
            return
        del self._places[place]
        self._of_peer[place.peer] -= 1
        if not self._of_peer[place.peer]:
            del self._of_peer[place.peer]

    def _make_room(self, peer: PeerId) -> bool:
        own = self._of_peer[peer]
        oldest = max(self._places, key=lambda place: self._of_peer[place.peer], default=None)
        if oldest is None:
            return False
        # Who has none is given a further place anyway: nobody's only one has to end for that.
        is_short = own == 0 or trio.current_time() - oldest.since < PLACE_KEPT_S
        if self._of_peer[oldest.peer] < own + (2 if is_short else 1):
            return False
        oldest.scope.cancel()
        self.leave(oldest)
        return True
