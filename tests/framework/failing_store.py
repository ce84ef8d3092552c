"""A store whose writes fail when a test says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unchained.storage.errors import StoreError, StoreFullError
from unchained.storage.kv import Batch, KeyValueStore, Snapshot, StoreStatistics


class FailingStore:
    """Passes everything on to another store, but for the `fail_at`th write counted from 1.

    That write does nothing and raises `error`, and so does every later one until `heal`.
    """

    def __init__(
        self, store: KeyValueStore, *, fail_at: int | None = None, error: StoreError | None = None
    ) -> None:
        self._store = store
        self._fail_at = fail_at
        self._error = error or StoreFullError("the disk is full: make room and start again")
        self.writes = 0
        """Writes that were tried."""

    def heal(self) -> None:
        """Let writes through from here on."""
        self._fail_at = None

    def write(self, batch: Batch, *, sync: bool) -> None:
        """Write, or fail."""
        self.writes += 1
        if self._fail_at is not None and self.writes >= self._fail_at:
            raise self._error
        self._store.write(batch, sync=sync)

    def get(self, key: bytes) -> bytes | None:
        """Pass on."""
        return self._store.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Pass on."""
        return self._store.get_many(keys)

    def items(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pass on."""
        return self._store.items(start, stop, reverse=reverse)

    def keys(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[bytes]:
        """Pass on."""
        return self._store.keys(start, stop, reverse=reverse)

    def snapshot(self) -> Snapshot:
        """Pass on."""
        return self._store.snapshot()

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        """Pass on."""
        return self._store.approximate_size(start, stop)

    def compact(self) -> None:
        """Pass on."""
        self._store.compact()

    def statistics(self) -> StoreStatistics:
        """Pass on."""
        return self._store.statistics()

    def close(self) -> None:
        """Pass on."""
        self._store.close()
