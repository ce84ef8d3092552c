"""How many lines an event of the log may take that strangers can cause as often as they like."""

from __future__ import annotations

import math
from typing import Final

from unchained.node.base.token_bucket import TokenBucket

LIMITED: Final = ("library.", "net.", "peer.", "relay.", "rpc.", "sync.not_", "sync.scan_")
"""What the names of such events begin with: what peers cause, and clients with or without
credentials."""
LINES_BURST: Final = 500
LINES_PER_S: Final = 0.1
"""Lines of one event at once, and then per second."""
COUNTED: Final = ("peer.evicted",)
"""Events of which there is one line at once, and then one a minute."""
COUNTED_EVERY_S: Final = 60.0


class LineLimits:
    """Counts what is left out, and says so in the next line of the same event."""

    def __init__(self) -> None:
        self._lines: dict[str, TokenBucket] = {}
        self._untold: dict[str, int] = {}
        self._now = -math.inf

    def admits(self, event: str, now: float) -> bool:
        """Return whether an event gets a line; `now` in seconds, of a clock that may be set."""
        if not event.startswith(LIMITED):
            return True
        self._now = max(self._now, now)
        bucket = self._lines.get(event)
        if bucket is None:
            burst, per_s = (
                (1, 1 / COUNTED_EVERY_S) if event in COUNTED else (LINES_BURST, LINES_PER_S)
            )
            bucket = self._lines[event] = TokenBucket(burst, per_s, self._now)
        if bucket.take(self._now):
            return True
        self._untold[event] = self._untold.get(event, 0) + 1
        return False

    def take_untold(self, event: str) -> int:
        """Return how many lines of an event were left out since its last one."""
        return self._untold.pop(event, 0)
