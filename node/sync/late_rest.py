"""For how long a node does not mine while a better chain only does not come in time."""

from __future__ import annotations

from typing import Final

LATE_REST_S: Final = 600.0
"""Seconds for which nothing is mined, since any of it came last, while a chain that is shown to
have more work only does not come in time: between two tries of a sync what is here is not the best
that there is. Who withholds such a chain has paid for it by work, and stops nobody for good."""
LATE_AGAIN_S: Final = 3_600.0
"""Seconds after which a chain that is late is waited for once more, though nothing came of one."""


class LateRest:
    """Whether to wait for what is late. Times in seconds, of any clock that does not go back."""

    def __init__(self) -> None:
        self._ends: float | None = None

    def is_on(self, now: float) -> bool:
        """Return whether what is late is waited for."""
        return self._ends is not None and now < self._ends

    def note_late(self, now: float, *, came: bool) -> None:
        """Note that a chain of more work did not come in time; `came`: some of it did."""
        if self._ends is None or came or now >= self._ends + LATE_AGAIN_S:
            self._ends = now + LATE_REST_S
