"""How fast a node sends: answers wait for what gossip leaves of it."""

from __future__ import annotations

import math
from typing import Final

import trio

from unchained.node.base.token_bucket import TokenBucket

UPLOAD_BURST_S: Final = 2.0
"""Seconds' worth that may go out at once."""
UPLOAD_WAIT_S_MAX: Final = 5.0
"""Seconds for which answers may wait; while it is more, requests are refused."""


class Upload:
    """A cap on the bytes of answers and gossip per second; 0: none."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bucket = (
            TokenBucket(UPLOAD_BURST_S * bytes_per_s, bytes_per_s, -math.inf)
            if bytes_per_s
            else None
        )

    @property
    def is_busy(self) -> bool:
        """Whether an answer would have to wait for too long."""
        return (
            self._bucket is not None
            and self._bucket.delay(trio.current_time(), 0) > UPLOAD_WAIT_S_MAX
        )

    def note_gossip(self, size: int) -> None:
        """Note bytes that are sent in any case."""
        if self._bucket is not None:
            self._bucket.spend(trio.current_time(), size)

    async def turn(self, size: int) -> None:
        """Wait until so many bytes of an answer may be sent."""
        if self._bucket is not None:
            await trio.sleep(self._bucket.spend(trio.current_time(), size))
