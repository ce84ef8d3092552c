"""Addresses whose peers had no place for us: left alone for a while, or all newcomers of a network
would dial its full nodes again and again as fast as a link is made, and keep each other from being
heard there.

Not the address book's failures: somebody answers there, and others may well be sent there.
"""

from __future__ import annotations

import random
from typing import Final

TURNED_AWAY_MAX: Final = 1_024
"""Addresses that are remembered: those that turned us away last."""
FIRST_WAIT_S: Final = 5.0
"""Seconds for which an address is left alone: twice as many after each further time."""
LONGEST_WAIT_S: Final = 600.0
LONGEST_WAIT_FOR_OWN_S: Final = 60.0
"""What the operator named may be the only way in."""


class TurnedAway:
    """Which addresses to leave alone, and until when. Times are Trio's, in seconds."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._times: dict[str, tuple[int, float]] = {}
        """How often an address has turned us away, and when it may be dialled again."""

    def note(self, text: str, now: float, *, is_own: bool) -> None:
        """Note that a peer closed its link before it had lasted."""
        times, _ = self._times.pop(text, (0, 0.0))
        longest = LONGEST_WAIT_FOR_OWN_S if is_own else LONGEST_WAIT_S
        wait_s = min(FIRST_WAIT_S * 2 ** min(times, 16), longest)
        # Newcomers that were turned away at one moment do not come back at one moment.
        self._times[text] = times + 1, now + wait_s * self._rng.uniform(0.5, 1.0)
        if len(self._times) > TURNED_AWAY_MAX:
            del self._times[next(iter(self._times))]

    def forget(self, text: str) -> None:
        """Note that a peer had a place for us."""
        self._times.pop(text, None)

    def is_waiting(self, text: str, now: float) -> bool:
        """Return whether an address is to be left alone."""
        return text in self._times and now < self._times[text][1]
