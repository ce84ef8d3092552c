"""Outbound peers that were lost without anybody's will: dialled again soon, and for long.

An address book leaves an address alone for twice as long after each failure, as is right for one
that nobody answers at. Of a peer that was there a moment ago it is our line that is down, or its
own, or one in between: the sooner it is tried again the sooner two parts of a network are one. So
these are tried at intervals with a bound of their own, each at a moment of its own.

A peer that closed its link was not lost by a line: it is an address like others, or whoever hangs
up would be dialled more often than who stays. Only what the operator named is looked for then, too.
"""

from __future__ import annotations

import math
import random
from typing import Final

from unchained.node.transport.contract import DisconnectReason

LOST_PEERS_MAX: Final = 16
"""Lost peers that are looked for: those lost last."""
FIRST_REDIAL_S: Final = 1.0
LONGEST_REDIAL_S: Final = 30.0
"""Seconds between attempts at most in the first hour: twice as many after each attempt until
then."""
LOST_RECENTLY_S: Final = 3_600.0
LATE_REDIAL_S: Final = 300.0
"""Seconds between attempts at most at a peer that was lost longer ago."""
LOOKED_FOR_S: Final = 86_400.0
"""Seconds after which a lost peer is an address like others."""
LASTED_S: Final = 60.0
"""Seconds after which a peer of the operator's that closes is looked for: who does so sooner has no
place for us."""


def is_loss(
    reason: DisconnectReason, lasted_s: float, *, was_silent: bool = False, is_own: bool = False
) -> bool:
    """Return whether a link of `lasted_s` seconds ended without anybody's will: nothing came
    through it any more. `was_silent`: we let go of it for that; `is_own`: the operator named the
    peer."""
    closed = reason is DisconnectReason.REMOTE
    return (
        was_silent
        or reason is DisconnectReason.DEAD
        or (closed and is_own and lasted_s >= LASTED_S)
    )


class _Lost:
    """A lost peer: when it was lost, when it is due, how often it was tried. Times in seconds."""

    __slots__ = ("attempts", "due_at", "lost_at")

    def __init__(self, lost_at: float) -> None:
        self.lost_at = self.due_at = lost_at
        self.attempts = 0


class LostPeers:
    """When to dial lost peers again, by address. Times are Trio's, in seconds."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lost: dict[str, _Lost] = {}

    def __contains__(self, text: str) -> bool:
        return text in self._lost

    def note(self, text: str, now: float) -> None:
        """Note that the peer at an address was lost."""
        self._lost.pop(text, None)
        self._lost[text] = _Lost(now)
        self._put_off(self._lost[text], now)
        if len(self._lost) > LOST_PEERS_MAX:
            del self._lost[next(iter(self._lost))]

    def found(self, text: str) -> None:
        """Note that the peer at an address is there again."""
        self._lost.pop(text, None)

    def visited(self, text: str, now: float) -> None:
        """Note that the peer at an address was there, and found its place taken: it is visited
        again from time to time, as other peers of its part of the network may be nobody's."""
        lost = self._lost.get(text)
        if lost is not None:
            lost.due_at = now + LATE_REDIAL_S * self._rng.uniform(0.5, 1.0)

    def take_due(self, now: float) -> str | None:
        """Return an address that is due, which is put off by that, or None."""
        for text, lost in list(self._lost.items()):
            if now - lost.lost_at > LOOKED_FOR_S:
                del self._lost[text]
            elif lost.due_at <= now:
                lost.attempts += 1
                self._put_off(lost, now)
                return text
        return None

    def wait_s(self, now: float, most: float) -> float:
        """Return the seconds until an address is due, `most` if none is until then."""
        due_at = min((lost.due_at for lost in self._lost.values()), default=math.inf)
        return min(most, max(0.0, due_at - now))

    def _put_off(self, lost: _Lost, now: float) -> None:
        longest = LONGEST_REDIAL_S if now - lost.lost_at <= LOST_RECENTLY_S else LATE_REDIAL_S
        delay_s = min(FIRST_REDIAL_S * 2 ** min(lost.attempts, 16), longest)
        # Peers that lost each other at one moment do not all dial at one moment.
        lost.due_at = now + delay_s * self._rng.uniform(0.5, 1.0)
