"""When what has changed goes to disk, and what happened since somebody last asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from unchained.node.chain.ledger import Ledger
from unchained.node.chain.results import Changes

BULK_BATCH_BYTES: Final = 1 << 20
"""Bytes after which changes of several anchors that share a batch are written."""

BULK_BATCH_ANCHORS: Final = 256
"""Anchors after which they are written all the same: what a crash during a long sync loses, and
the pages of the ranges that change with them, which the bytes do not count."""


class Journal:
    """Writes the ledger's batch, and keeps account of what is in it.

    `running_ms()` is how long nodes have run on this store, in ms.
    """

    def __init__(self, ledger: Ledger, running_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self.running_ms = running_ms
        self.changes = Changes(ledger.next_event)
        self._bulk = False
        self._must_sync = False
        self._unwritten_anchors = 0

    def begin_bulk(self) -> None:
        """Let anchors share batches from here on: sync and import."""
        self._bulk = True

    def end_bulk(self) -> None:
        """Write what is left and go back to one synced batch for each anchor."""
        self._bulk = False
        self.flush()

    def write(self, *, tip_moved: bool) -> None:
        """Write the batch unless others are to share it."""
        self._must_sync = self._must_sync or tip_moved
        self._unwritten_anchors += tip_moved
        if (
            not self._bulk
            or self._ledger.batch.size > BULK_BATCH_BYTES
            or self._unwritten_anchors >= BULK_BATCH_ANCHORS
        ):
            self.flush(force=True)

    def flush(self, *, force: bool = False) -> None:
        """Write the batch at the end of an operation; in bulk only if forced to."""
        if (self._bulk and not force) or not len(self._ledger.batch):
            return
        events = self._ledger.flush(sync=self._must_sync, running_ms=self.running_ms())
        self.changes.events.extend(events)
        self._must_sync = False
        self._unwritten_anchors = 0

    def take_changes(self) -> Changes:
        """Return what happened since the last time, and begin anew."""
        changes, self.changes = self.changes, Changes(self._ledger.next_event_on_disk)
        return changes
