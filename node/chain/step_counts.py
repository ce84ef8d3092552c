"""What the steps of a chain add up to: the counts that its statistics show."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from unchained.node.base.latency import Latency, LatencyStatistics
from unchained.node.chain.results import Changes
from unchained.node.primitives.types import CoinId

RECENT_ANCHORS: Final = 64
"""Anchors whose ids are kept: a peer whose tip is among them is not on another chain."""

EPOCHS_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Classes of the time from one anchor to the next, as parts of what it is on average."""


class StepStatistics(msgspec.Struct, frozen=True):
    """Counts since the start. `fresh`, `late` and `stray` are the coins that connected anchors
    list, `transfers` theirs too. `reorgs` counts steps that took anchors back, `deepest_reorg` and
    `last_reorg` are how many; `epochs` are the times between connected anchors by their own
    clocks."""

    coins: int
    connected: int
    disconnected: int
    fresh: int
    late: int
    stray: int
    transfers: int
    invalid: int
    dead: int
    refused: int
    reorgs: int
    deepest_reorg: int
    last_reorg: int
    epochs: LatencyStatistics
    recent: tuple[CoinId, ...]
    """The last anchors that were connected, also those that were undone since."""


class StepCounts:
    """Adds up what the chain's writer did."""

    def __init__(self, epoch_ms: int, tip_time: int) -> None:
        self._tip_time = tip_time
        self._epochs = Latency([share * epoch_ms / 1000 for share in EPOCHS_BOUNDS])
        self._coins = self._connected = self._disconnected = 0
        self._fresh = self._late = self._stray = self._transfers = 0
        self._invalid = self._dead = self._refused = 0
        self._reorgs = self._deepest = self._last = 0
        self._recent: deque[CoinId] = deque(maxlen=RECENT_ANCHORS)

    def add(self, steps: Sequence[Changes]) -> None:
        """Count what happened, in order."""
        for step in steps:
            self._coins += len(step.coins)
            self._invalid += len(step.ruled_out)
            self._dead += len(step.dead)
            self._refused += step.refused is not None
            if step.disconnected:
                self._reorgs += 1
                self._last = len(step.disconnected)
                self._disconnected += self._last
                self._deepest = max(self._deepest, self._last)
                # What came before the branch is not at hand: its first interval is left out.
                self._tip_time = 0
            for anchor in step.connected:
                self._connected += 1
                self._recent.append(anchor.coin.id)
                self._fresh += anchor.fresh
                self._late += anchor.late
                self._stray += anchor.stray
                self._transfers += anchor.transfers
                # Genesis, the first one, has a time that says nothing of when mining began.
                if self._tip_time and anchor.coin.height > 1:
                    self._epochs.note(max(0, anchor.coin.header.time - self._tip_time) / 1000)
                self._tip_time = anchor.coin.header.time

    def statistics(self) -> StepStatistics:
        """Return a snapshot."""
        return StepStatistics(
            coins=self._coins,
            connected=self._connected,
            disconnected=self._disconnected,
            fresh=self._fresh,
            late=self._late,
            stray=self._stray,
            transfers=self._transfers,
            invalid=self._invalid,
            dead=self._dead,
            refused=self._refused,
            reorgs=self._reorgs,
            deepest_reorg=self._deepest,
            last_reorg=self._last,
            epochs=self._epochs.statistics(),
            recent=tuple(self._recent),
        )
