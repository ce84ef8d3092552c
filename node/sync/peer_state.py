"""What sync knows of one peer: what it has shown, and what it is still to be asked for."""

from __future__ import annotations

from typing import Final

import trio

from unchained.node.primitives.types import CoinId
from unchained.node.sync.long_sync import UNDER_WAY

OTHER_FIRST: Final = "another chain has more work"
UNTRIED: Final = frozenset({UNDER_WAY, OTHER_FIRST})
"""Why a chain that is shown to have more work than ours has not been tried yet, for nothing that
its peer did."""
TIP_FIRST_RETRY_S: Final = 5.0
TIP_LONGEST_RETRY_S: Final = 600.0
WANTED_ANCHORS_MAX: Final = 16
"""Unknown anchors of one peer that wait to be asked for."""


class PeerState:
    """What sync knows of one peer."""

    def __init__(self) -> None:
        self.wake = trio.Event()
        self.wanted: dict[CoinId, None] = {}
        self.retry: dict[CoinId, tuple[float, float]] = {}
        """Tips that led nowhere: when to try again, and how long the wait was."""
        self.tip: bytes | None = None
        self.compared: tuple[bytes, bytes, float] | None = None
        self.unasked: tuple[CoinId, CoinId] | None = None
        """Tips on whose differences its votes are still to be asked for."""
        self.settled = False
        self.is_ahead = False
        """Whether it has shown a chain of more work that has not been tried to its end."""

    def may_try(self, anchor_id: CoinId) -> bool:
        """Return whether an anchor is to be followed now: not soon after it led nowhere."""
        retry_at, _ = self.retry.get(anchor_id, (0.0, 0.0))
        return trio.current_time() >= retry_at

    def owe(self, one: CoinId, other: CoinId) -> None:
        """Note two tips on whose differences votes are to be asked for, with what was not asked for
        before."""
        self.unasked = (one if self.unasked is None else self.unasked[0], other)

    def tried(self, anchor_id: CoinId, why: str | None) -> None:
        """Note why an anchor was not followed, None if it was."""
        _, waited = self.retry.pop(anchor_id, (0.0, 0.0))
        if why is None or why in UNTRIED:
            return
        wait = min(max(2 * waited, TIP_FIRST_RETRY_S), TIP_LONGEST_RETRY_S)
        if len(self.retry) >= WANTED_ANCHORS_MAX:
            del self.retry[next(iter(self.retry))]
        self.retry[anchor_id] = (trio.current_time() + wait, wait)
