"""What sync knows of one peer: what it has shown, and what it is still to be asked for."""

from __future__ import annotations

from typing import Final

import msgspec
import trio

from unchained.node.primitives.types import CoinId
from unchained.node.sync.long_sync import UNDER_WAY

OTHER_FIRST: Final = "another chain has more work"
UNTRIED: Final = frozenset({UNDER_WAY, OTHER_FIRST})
"""Why a chain that is shown to have more work than ours has not been tried yet, for nothing that
its peer did."""
TIP_FIRST_RETRY_S: Final = 5.0
TIP_LONGEST_RETRY_S: Final = 600.0
LATE_TIP_LONGEST_RETRY_S: Final = 60.0
"""What only did not come in time is tried again sooner: the node may be waiting for it."""
WANTED_ANCHORS_MAX: Final = 16
"""Unknown anchors of one peer that wait to be asked for."""


class _Retry(msgspec.Struct, frozen=True, gc=False):
    """A tip that led nowhere: when to try again, how long the wait was, and whether it has more
    work than ours and only did not come in time. Trio's seconds."""

    at: float = 0.0
    wait_s: float = 0.0
    is_late: bool = False


class PeerState:
    """What sync knows of one peer."""

    def __init__(self) -> None:
        self.wake = trio.Event()
        self.wanted: dict[CoinId, None] = {}
        self.retry: dict[CoinId, _Retry] = {}
        self.tip: bytes | None = None
        self.compared: tuple[bytes, bytes, float] | None = None
        self.unasked: tuple[CoinId, CoinId] | None = None
        """Tips on whose differences its votes are still to be asked for."""
        self.settled = False
        self.is_ahead = False
        """Whether it has shown a chain of more work that has not been tried to its end."""

    def may_try(self, anchor_id: CoinId) -> bool:
        """Return whether an anchor is to be followed now: not soon after it led nowhere."""
        return trio.current_time() >= self.retry.get(anchor_id, _Retry()).at

    def is_late(self, anchor_id: CoinId) -> bool:
        """Return whether a chain of more work than ours that ends in an anchor only did not come in
        time."""
        return self.retry.get(anchor_id, _Retry()).is_late

    def owe(self, one: CoinId, other: CoinId) -> None:
        """Note two tips on whose differences votes are to be asked for, with what was not asked for
        before."""
        self.unasked = (one if self.unasked is None else self.unasked[0], other)

    def tried(self, anchor_id: CoinId, why: str | None, *, is_late: bool = False) -> None:
        """Note why an anchor was not followed, None if it was; and whether its chain, of more work
        than ours, only did not come in time."""
        last = self.retry.pop(anchor_id, _Retry())
        if why is None or why in UNTRIED:
            return
        longest_s = LATE_TIP_LONGEST_RETRY_S if is_late else TIP_LONGEST_RETRY_S
        wait_s = min(max(2 * last.wait_s, TIP_FIRST_RETRY_S), longest_s)
        if len(self.retry) >= WANTED_ANCHORS_MAX:
            del self.retry[next(iter(self.retry))]
        self.retry[anchor_id] = _Retry(trio.current_time() + wait_s, wait_s, is_late)
