"""The in-memory twin of the LevelDB store: the same interface, the same semantics.

A `MemoryDisk` is what stays when a store is closed; opening another store on it is a restart.
"""

from __future__ import annotations

import heapq
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final

from sortedcontainers import SortedDict  # type: ignore[import-untyped]

from unchained.storage.errors import StoreClosedError
from unchained.storage.kv import Batch, StoreStatistics

_CHUNK: Final = 64
"""Most entries that an iterator fetches at a time."""


class MemoryDisk:
    """What a memory store keeps: it outlives the store."""

    __slots__ = ("lock", "values", "views")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: SortedDict = SortedDict()
        self.views: weakref.WeakSet[_View] = weakref.WeakSet()

    def range(self, view: _View, low: bytes, high: bytes | None, reverse: bool) -> Iterator[bytes]:
        """Return keys that the store holds or the view remembers; twice if both."""
        bounds = {"inclusive": (True, False), "reverse": reverse}
        return heapq.merge(
            self.values.irange(low, high, **bounds),
            view.saved.irange(low, high, **bounds),
            reverse=reverse,
        )


class _View:
    """One moment of a disk. `saved` holds what keys changed since then had: None if nothing."""

    __slots__ = ("__weakref__", "saved")

    def __init__(self) -> None:
        self.saved: SortedDict = SortedDict()


class _MemoryReader:
    """Reads a disk as it is, or as it was at a view's moment."""

    def __init__(self, disk: MemoryDisk, view: _View | None) -> None:
        self._disk = disk
        self._view = view
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """Return the key's value, or None."""
        with self._disk.lock:
            self._check_open()
            return self._get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value or None of each key, in the order of `keys`."""
        with self._disk.lock:
            self._check_open()
            return [self._get(key) for key in keys]

    def items(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Return the range's keys and values in order, as they are at the time of this call."""
        with self._disk.lock:
            self._check_open()
            view = self._view
            if view is None:
                view = _View()
                self._disk.views.add(view)
        return self._walk(view, start, stop, reverse)

    def keys(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[bytes]:
        """Return the range's keys in order, as they are at the time of this call."""
        return (key for key, _value in self.items(start, stop, reverse=reverse))

    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None
        if self._view is not None and key in self._view.saved:
            value = self._view.saved[key]
        else:
            value = self._disk.values.get(key)
        return value

    def _walk(
        self, view: _View, low: bytes, high: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        while True:
            with self._disk.lock:
                self._check_open()
                chunk = self._chunk(view, low, high, reverse)
            yield from chunk
            if len(chunk) < _CHUNK:
                return
            if reverse:
                high = chunk[-1][0]
            else:
                low = chunk[-1][0] + b"\x00"

    def _chunk(
        self, view: _View, low: bytes, high: bytes | None, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        chunk: list[tuple[bytes, bytes]] = []
        previous = None
        for key in self._disk.range(view, low, high, reverse):
            if key == previous:
                continue
            previous = key
            value = view.saved[key] if key in view.saved else self._disk.values[key]
            if value is not None:
                chunk.append((key, value))
                if len(chunk) == _CHUNK:
                    break
        return chunk

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the store is closed")


class MemorySnapshot(_MemoryReader):
    """A memory store as it was at one moment."""

    def __init__(self, store: MemoryStore, disk: MemoryDisk, view: _View) -> None:
        super().__init__(disk, view)
        self._store = store

    def close(self) -> None:
        """Let go of the moment. Closing again does nothing."""
        with self._disk.lock:
            self._closed = True
            if self._view is not None:
                self._disk.views.discard(self._view)

    def _check_open(self) -> None:
        self._store._check_open()
        super()._check_open()

    def __enter__(self) -> MemorySnapshot:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class MemoryStore(_MemoryReader):
    """A store without a file: for tests and simulations."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        super().__init__(MemoryDisk() if disk is None else disk, None)
        self._batches = 0
        self._changes = 0
        self._bytes = 0
        self._synced = 0

    @property
    def disk(self) -> MemoryDisk:
        """What a later store can be opened on."""
        return self._disk

    def write(self, batch: Batch, *, sync: bool) -> None:
        """Apply all of the batch."""
        with self._disk.lock:
            self._check_open()
            values = self._disk.values
            views = list(self._disk.views)
            for key, value in batch.changes.items():
                for view in views:
                    if key not in view.saved:
                        view.saved[key] = values.get(key)
                if value is None:
                    values.pop(key, None)
                else:
                    values[key] = value
            self._batches += 1
            self._changes += len(batch)
            self._bytes += batch.size
            self._synced += sync

    def snapshot(self) -> MemorySnapshot:
        """Return the store as it is at this moment."""
        with self._disk.lock:
            self._check_open()
            view = _View()
            self._disk.views.add(view)
            return MemorySnapshot(self, self._disk, view)

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        """Return how many bytes the range's keys and values have."""
        return sum(len(key) + len(value) for key, value in self.items(start, stop))

    def compact(self) -> None:
        """Do nothing: nothing is kept of what was deleted."""
        with self._disk.lock:
            self._check_open()

    def statistics(self) -> StoreStatistics:
        """Return what the store has done since it was opened."""
        return StoreStatistics(self._batches, self._changes, self._bytes, self._synced, False)

    def close(self) -> None:
        """Close. Closing again does nothing."""
        with self._disk.lock:
            self._closed = True
