"""Bytes to bytes, ordered by key: what the node asks of a database.

Everything is synchronous and may be called from any thread; a caller with an event loop hops to
a worker thread once for a whole operation. Ranges include `start` and exclude `stop`; a `stop`
of None is the end of the store. Every method raises a `StoreError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

import msgspec

from unchained.node.base.latency import NOTHING_NOTED, LatencyStatistics


class Batch:
    """Changes that are written together or not at all. A key's last change is the one that
    counts."""

    __slots__ = ("changes", "size")

    def __init__(self) -> None:
        self.changes: dict[bytes, bytes | None] = {}
        """What is to be done, to be read only: each key's value, None for a deletion."""
        self.size = 0
        """Bytes of keys and values recorded so far, those since replaced included."""

    def put(self, key: bytes, value: bytes) -> None:
        """Record that `key` shall hold `value`."""
        self.changes[key] = value
        self.size += len(key) + len(value)

    def delete(self, key: bytes) -> None:
        """Record that `key` shall be absent, whether or not it is there."""
        self.changes[key] = None
        self.size += len(key)

    def clear(self) -> None:
        """Forget all changes."""
        self.changes.clear()
        self.size = 0

    def __len__(self) -> int:
        return len(self.changes)


class Getter(Protocol):
    """What a store, its snapshots and an overlay can be asked: values by their keys."""

    def get(self, key: bytes) -> bytes | None:
        """Return the key's value, or None."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value or None of each key, in the order of `keys`."""


class Reader(Getter, Protocol):
    """What a store and its snapshots can be asked: values by keys, and ranges of keys."""

    def items(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Return the range's keys and values in order, as they are at the time of this call."""

    def keys(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[bytes]:
        """Return the range's keys in order, as they are at the time of this call."""


class Snapshot(Reader, Protocol):
    """The store as it was at one moment. Close it: it keeps old values alive."""

    def close(self) -> None:
        """Let go of the moment. Closing again does nothing."""

    def __enter__(self) -> Snapshot:
        """Return the snapshot, to be closed at the end of the block."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the snapshot."""


class StoreStatistics(msgspec.Struct, frozen=True):
    """What a store has done since it was opened. `bytes_written` of keys and values."""

    batches: int
    changes: int
    bytes_written: int
    synced_batches: int
    failed: bool
    calls: int = 0
    """Calls into the database, reads and steps of iterators among them."""
    reading: LatencyStatistics = NOTHING_NOTED
    """Of single reads, one in 64."""
    writing: LatencyStatistics = NOTHING_NOTED
    """Of batches that survive the end of the process."""
    syncing: LatencyStatistics = NOTHING_NOTED
    """Of batches that survive the loss of power."""


class KeyValueStore(Reader, Protocol):
    """An ordered, durable map of byte strings with atomic batches and snapshots."""

    def write(self, batch: Batch, *, sync: bool) -> None:
        """Apply all of the batch or nothing.

        With `sync` it survives the loss of power from the moment this returns; without, the
        end of this process alone. After a failure nothing more can be written until the store
        has been opened again: what the failed batch left behind is only known then.
        """

    def snapshot(self) -> Snapshot:
        """Return the store as it is at this moment."""

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        """Return about how many bytes the range takes on disk, recent writes left out."""

    def compact(self) -> None:
        """Drop what was deleted or replaced, and lay the rest out in order. Takes its time."""

    def statistics(self) -> StoreStatistics:
        """Return what the store has done since it was opened."""

    def close(self) -> None:
        """Wait for calls in other threads and close. Closing again does nothing; iterators
        and snapshots that are still about raise `StoreClosedError` from then on."""


class Overlay:
    """Reads a store through a batch that is not yet written to it.

    What is put into or deleted from the batch later is seen as well.
    """

    __slots__ = ("_changes", "_reader")

    def __init__(self, reader: Getter, batch: Batch) -> None:
        self._reader = reader
        self._changes = batch.changes

    def get(self, key: bytes) -> bytes | None:
        """Return the key's value as it will be, or None."""
        if key in self._changes:
            return self._changes[key]
        return self._reader.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value or None of each key, as they will be, in the order of `keys`."""
        changes = self._changes
        below = [key for key in keys if key not in changes]
        found = iter(self._reader.get_many(below))
        return [changes[key] if key in changes else next(found) for key in keys]


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the least key above all keys that begin with `prefix`; None if there is none."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return None
    return stem[:-1] + bytes((stem[-1] + 1,))
