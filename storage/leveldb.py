"""LevelDB as a `KeyValueStore`.

Every read verifies checksums and damage found while opening is an error (LevelDB's "paranoid"
checks): a store that lost a batch from its middle must never look like a whole one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec
import plyvel  # type: ignore[import-untyped]

from unchained.node.base.latency import Latency
from unchained.storage.errors import (
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
    StoreReadOnlyError,
    StoreUnreadableError,
)
from unchained.storage.kv import Batch, StoreStatistics

T = TypeVar("T")

_CHUNK: Final = 32
"""Most entries that an iterator fetches at a time; the largest values are transfers of 256 KiB."""

READS_PER_TIMED: Final = 64
"""Reads of which one is timed."""

REPAIR_HINT: Final = "restore a backup, or run `unchained-node db check --repair`"
"""What to do about a damaged store."""


class LevelOptions(msgspec.Struct, frozen=True):
    """How much memory LevelDB takes, all sizes in bytes.

    Up to two write buffers are held at once. `open_files` bounds the tables that are mapped
    into memory, and so, with `file_size`, the node's resident size; LevelDB takes no less
    than 74.
    """

    write_buffer: int = 4 << 20
    block_cache: int = 2 << 20
    open_files: int = 138
    file_size: int = 1 << 20
    bloom_bits: int = 10


class _Gate:
    """Lets calls through until closed, counts those inside, and translates what they raise.

    Closing LevelDB under a call in another thread would end the process.
    """

    __slots__ = ("_closed", "_inside", "_lock", "_path", "_quiet", "calls", "reading")

    def __init__(self, path: Path) -> None:
        self._path = path
        # taken as it is where nobody waits or is woken: every read passes here twice
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._inside = 0
        self._closed = False
        self.calls = 0
        self.reading = Latency()

    def __enter__(self) -> None:
        with self._lock:
            if self._closed:
                raise StoreClosedError(f"{self._path}: the store is closed", path=self._path)
            self._inside += 1
            self.calls += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._closed and not self._inside:
                self._quiet.notify_all()
        if exc is None:
            return
        if isinstance(exc, plyvel.Error):
            raise translate(exc, self._path) from None
        # plyvel's own word for a snapshot or iterator that was closed
        if type(exc) is RuntimeError:
            raise StoreClosedError(f"{self._path}: {exc}", path=self._path) from None

    def close(self) -> bool:
        """Wait for the calls inside. Return whether it was this call that closed the gate."""
        with self._quiet:
            first = not self._closed
            self._closed = True
            self._quiet.wait_for(lambda: not self._inside)
            return first


class _LevelReader:
    """The reads of a database and of its snapshots."""

    def __init__(self, source: Any, gate: _Gate) -> None:
        self._source = source
        self._gate = gate

    def get(self, key: bytes) -> bytes | None:
        """Return the key's value, or None."""
        gate = self._gate
        with gate:
            # To time each of them would cost a tenth of what a cached one takes.
            if gate.calls % READS_PER_TIMED:
                value: bytes | None = self._source.get(key, verify_checksums=True)
                return value
            began = time.perf_counter()
            value = self._source.get(key, verify_checksums=True)
            gate.reading.note(time.perf_counter() - began)
            return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value or None of each key, in the order of `keys`."""
        with self._gate:
            get = self._source.get
            # in the order of the tables: each is opened once, and not once for each key
            found = {key: get(key, verify_checksums=True) for key in sorted(keys)}
        return [found[key] for key in keys]

    def items(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Return the range's keys and values in order, as they are at the time of this call."""
        raw = self._iterator()
        return self._walk(raw, raw.item, start, stop, reverse)

    def keys(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[bytes]:
        """Return the range's keys in order, as they are at the time of this call."""
        raw = self._iterator()
        return self._walk(raw, raw.key, start, stop, reverse)

    def _iterator(self) -> Any:
        # plyvel's other iterator ends quietly at a damaged block, and loses a range's first
        # key when it goes backwards and finds no other
        with self._gate:
            return self._source.raw_iterator(verify_checksums=True)

    def _walk(
        self, raw: Any, read: Callable[[], T], start: bytes, stop: bytes | None, reverse: bool
    ) -> Iterator[T]:
        limit = 2
        with self._gate:
            _seek(raw, start, stop, reverse)
        while True:
            with self._gate:
                chunk = list(_take(raw, read, start, stop, reverse, limit))
            yield from chunk
            if len(chunk) < limit:
                raw.close()
                return
            limit = min(2 * limit, _CHUNK)


def _seek(raw: Any, start: bytes, stop: bytes | None, reverse: bool) -> None:
    if not reverse:
        raw.seek(start)
    elif stop is None:
        raw.seek_to_last()
    else:
        raw.seek(stop)
        if raw.valid():
            raw.prev()
        else:
            raw.seek_to_last()


def _take(
    raw: Any, read: Callable[[], T], start: bytes, stop: bytes | None, reverse: bool, limit: int
) -> Iterator[T]:
    step = raw.prev if reverse else raw.next
    for _ in range(limit):
        if not raw.valid():
            return
        key = raw.key()
        if key < start if reverse else stop is not None and key >= stop:
            return
        yield read()
        step()


class LevelSnapshot(_LevelReader):
    """A LevelDB store as it was at one moment."""

    def close(self) -> None:
        """Let go of the moment. Closing again does nothing."""
        try:
            with self._gate:
                self._source.close()
        except StoreClosedError:
            pass  # the store let go of it when it was closed

    def __enter__(self) -> LevelSnapshot:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class LevelStore(_LevelReader):
    """A LevelDB database in a directory of its own.

    `create` makes one where there is none. Raises a `StoreError`.
    """

    def __init__(
        self, path: Path, *, create: bool = False, options: LevelOptions | None = None
    ) -> None:
        options = options or LevelOptions()
        self.path = path
        if not (path / "CURRENT").exists():
            # LevelDB would make an empty database and delete what is left of the lost one
            if any(any(path.glob(pattern)) for pattern in ("*.ldb", "*.log", "MANIFEST-*")):
                raise StoreCorruptError(
                    f"{path}: the store is damaged (CURRENT is missing): {REPAIR_HINT}", path=path
                )
            if not create:
                raise StoreMissingError(f"{path}: there is no store here", path=path)
        gate = _Gate(path)
        with gate:
            self._db = plyvel.DB(
                str(path),
                create_if_missing=create,
                paranoid_checks=True,
                write_buffer_size=options.write_buffer,
                lru_cache_size=options.block_cache,
                max_open_files=options.open_files,
                max_file_size=options.file_size,
                bloom_filter_bits=options.bloom_bits,
                # hashes, keys and signatures do not get smaller: it would only take time
                compression=None,
            )
        super().__init__(self._db, gate)
        self._writing = threading.Lock()
        self._failure: StoreError | None = None
        self._batches = 0
        self._changes = 0
        self._bytes = 0
        self._synced = 0
        self._latency = {False: Latency(), True: Latency()}
        """Of batches, by whether they are synced."""

    def write(self, batch: Batch, *, sync: bool) -> None:
        """Apply all of the batch or nothing; see `KeyValueStore.write`."""
        with self._writing:
            if self._failure is not None:
                raise type(self._failure)(str(self._failure), path=self.path)
            try:
                with self._gate, self._latency[sync].measured():
                    self._write(batch, sync)
            except StoreClosedError:
                raise
            except StoreError as error:
                # LevelDB would go on behind a torn record and lose what follows it
                self._failure = error
                raise
            self._batches += 1
            self._changes += len(batch)
            self._bytes += batch.size
            self._synced += sync

    def snapshot(self) -> LevelSnapshot:
        """Return the store as it is at this moment."""
        with self._gate:
            return LevelSnapshot(self._db.snapshot(), self._gate)

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        """Return about how many bytes the range takes on disk, recent writes left out."""
        with self._gate:
            size: int = self._db.approximate_size(start, stop)
            return size

    def compact(self) -> None:
        """Drop what was deleted or replaced, and lay the rest out in order."""
        last = next(self.keys(reverse=True), None)
        if last is not None:
            with self._gate:
                # without ends plyvel names the empty key for both, and nothing is done
                self._db.compact_range(start=b"", stop=last)

    def statistics(self) -> StoreStatistics:
        """Return what the store has done since it was opened."""
        return StoreStatistics(
            batches=self._batches,
            changes=self._changes,
            bytes_written=self._bytes,
            synced_batches=self._synced,
            failed=self._failure is not None,
            calls=self._gate.calls,
            reading=self._gate.reading.statistics(),
            writing=self._latency[False].statistics(),
            syncing=self._latency[True].statistics(),
        )

    def close(self) -> None:
        """Wait for calls in other threads and close. Closing again does nothing."""
        if self._gate.close():
            self._db.close()

    def _write(self, batch: Batch, sync: bool) -> None:
        native = self._db.write_batch(sync=sync)
        put, delete = native.put, native.delete
        for key, value in batch.changes.items():
            if value is None:
                delete(key)
            else:
                put(key, value)
        native.write()


def repair_files(path: Path) -> None:
    """Let LevelDB rebuild what it can of a damaged database that nobody has open.

    Unreadable files are moved to a folder `lost` inside it. Raises a `StoreError`.
    """
    try:
        # without paranoid checks it would keep a table with a damaged block as it is
        plyvel.repair_db(str(path), paranoid_checks=True)
    except plyvel.Error as error:
        raise translate(error, path) from None


def translate(error: Exception, path: Path) -> StoreError:
    """Return what a plyvel error means for a person, in one line."""
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    low = text.lower()
    if "no space left" in low or "disk quota exceeded" in low:
        return StoreFullError(
            f"{path}: the disk is full: make room and start again; nothing written before is lost",
            path=path,
        )
    if "read-only file system" in low or "permission denied" in low or "not permitted" in low:
        return StoreReadOnlyError(
            f"{path}: not writable ({text}): check owner and mount", path=path
        )
    if "/lock: " in low:
        return StoreLockedError(f"{path}: in use by another process", path=path)
    # a table that is gone, or shorter than it was
    lost = "no such file" in low or "invalid argument" in low
    if lost or isinstance(error, plyvel.CorruptionError):
        return StoreCorruptError(f"{path}: the store is damaged ({text}): {REPAIR_HINT}", path=path)
    return StoreUnreadableError(f"{path}: {text}: check the disk", path=path)
