"""Work on a whole store: how large it is, a copy of it, and making a damaged one whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from unchained.node.consensus.params import Network
from unchained.storage import schema
from unchained.storage.check import CheckReport, check
from unchained.storage.errors import (
    BadBackupError,
    NotRepairableError,
    StoreCorruptError,
    StoreMissingError,
    StoreUnreadableError,
)
from unchained.storage.kv import Batch, KeyValueStore, Reader
from unchained.storage.leveldb import LevelStore, repair_files
from unchained.storage.lock import DirectoryLock, os_failure
from unchained.storage.memory import MemoryStore
from unchained.storage.open import STORE_NAME, prepare
from unchained.storage.progress import Report, counted, silent
from unchained.storage.rebuild import Rebuilt, rebuild

REMAINS_NAME: Final = f"{STORE_NAME}.remains"
"""Where the rest of a damaged store lies while the chain is made anew from it."""

_REMOVED: Final = ".removed"
"""What the name of a store ends with while it is being removed."""

_BATCH: Final = 1 << 20
"""Bytes per batch of a copy."""


class TableSize(msgspec.Struct, frozen=True):
    """Entries of a table, and bytes of its keys and values before compression."""

    table: str
    entries: int
    size: int


class Copied(msgspec.Struct, frozen=True):
    """What a backup holds: entries, and bytes of keys and values."""

    entries: int
    size: int


class Repaired(msgspec.Struct, frozen=True):
    """What a repair did: where the damaged files were kept (None if no file was damaged), which
    rows were put right, and what a check found afterwards."""

    kept: Path | None
    rebuilt: Rebuilt
    report: CheckReport


def stats(reader: Reader, report: Report = silent) -> tuple[TableSize, ...]:
    """Count every table's entries and bytes. Raises a `StoreError`."""
    found = []
    for table in schema.TABLES:
        entries = size = 0
        rows = reader.items(table.start, table.stop)
        for key, value in counted(rows, table.name, report):
            entries += 1
            size += len(key) + len(value)
        found.append(TableSize(table.name, entries, size))
    return tuple(found)


def backup(store: KeyValueStore, target: Path, report: Report = silent) -> Copied:
    """Copy the store as it is at this moment into a data directory of its own, `target`, which
    must not exist; others may go on writing.

    The copy is built beside `target` under the name `TARGET.partial`, read back, compared, and
    only then renamed: `target` is whole or not there. Raises a `StoreError`.
    """
    if target.exists():
        raise BadBackupError(f"{target}: already exists: name another directory", path=target)
    partial = target.with_name(target.name + ".partial")
    try:
        if partial.is_dir() and any(entry.name != STORE_NAME for entry in partial.iterdir()):
            raise BadBackupError(f"{partial}: not the rest of a backup: remove it", path=partial)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise os_failure(error, partial) from None
    with store.snapshot() as snapshot:
        copy = LevelStore(partial / STORE_NAME, create=True)
        try:
            copied, digest = _copy(snapshot, copy, report)
        finally:
            copy.close()
    _verify(partial / STORE_NAME, digest, report)
    try:
        _sync_directory(partial)
        partial.rename(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise os_failure(error, target) from None
    return copied


def repair(directory: Path, network: Network, report: Report = silent) -> Repaired:
    """Make the store of a data directory whole again, as far as what is left allows.

    Damaged files are kept, all of them, in a folder beside the store before anything is done.
    Raises `NotRepairableError`, `StoreLockedError` or another `StoreError`.
    """
    if not directory.is_dir():
        raise StoreMissingError(f"{directory}: there is no such directory", path=directory)
    path = directory / STORE_NAME
    lock = DirectoryLock(directory)
    try:
        kept = None
        if not _readable(path):
            kept = _keep(path)
        return _put_right(path, network, kept, directory, report)
    finally:
        lock.release()


class Apart:
    """What is left of a store that cannot be made whole, put out of the way of a new one.

    What a remake that was cut off has left is gone on with, and so is the store that was being
    made. Damaged files are kept, unless that has been done: in `kept`. Raises a `StoreError`; then
    nothing is lost.
    """

    def __init__(self, directory: Path, kept: Path | None = None) -> None:
        self._directory = directory
        self._path = directory / REMAINS_NAME
        self.kept = kept
        """Where the damaged files are; None if a remake that was cut off has kept them."""
        path = directory / STORE_NAME
        lock = DirectoryLock(directory)
        try:
            if not self._path.is_dir():
                self.kept = kept or _keep(path)
                path.rename(self._path)
            elif path.is_dir() and not _readable(path):
                self.kept = _keep(path)
                shutil.rmtree(path)
            _sync_directory(directory)
        except OSError as error:
            raise os_failure(error, path) from None
        finally:
            lock.release()
        self.reader: KeyValueStore = self._opened()

    def _opened(self) -> KeyValueStore:
        try:
            return LevelStore(self._path)
        except (StoreCorruptError, StoreMissingError, StoreUnreadableError):
            return MemoryStore()

    def close(self) -> None:
        """Let go of the files."""
        self.reader.close()

    def remove(self) -> None:
        """Remove what has been taken over; the damaged files that were kept stay."""
        self.close()
        try:
            shutil.rmtree(self._path)
        except OSError as error:
            raise os_failure(error, self._path) from None


def is_apart(directory: Path) -> bool:
    """Return whether a remake was cut off."""
    return (directory / REMAINS_NAME).is_dir()


class Removal:
    """The chain of a data directory that nobody has open, or can open until `close`, to be removed.

    Raises `StoreLockedError` while a process has it open, `StoreMissingError`, or another
    `StoreError`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / STORE_NAME
        self._gone = directory / f"{STORE_NAME}{_REMOVED}"
        if not (self._path.is_dir() or self._gone.is_dir()):
            raise StoreMissingError(f"{directory}: there is no chain", path=directory)
        self._lock = DirectoryLock(directory)

    def remove(self) -> int:
        """Remove the store and nothing else; return the bytes of its files. Raises a
        `StoreError`."""
        try:
            freed = 0
            # what a removal that was cut off has left goes first
            for _ in range(2):
                if self._gone.is_dir():
                    freed += sum(entry.stat().st_size for entry in self._gone.iterdir())
                    shutil.rmtree(self._gone)
                if self._path.is_dir():
                    self._path.rename(self._gone)
            _sync_directory(self._directory)
            return freed
        except OSError as error:
            raise os_failure(error, self._path) from None

    def close(self) -> None:
        """Let others have the directory."""
        self._lock.release()


def reset(directory: Path) -> int:
    """Remove the store of a data directory, and nothing else in it; return the bytes of its files.

    Raises what `Removal` raises.
    """
    with closing(Removal(directory)) as removal:
        return removal.remove()


def _put_right(
    path: Path, network: Network, kept: Path | None, directory: Path, report: Report
) -> Repaired:
    try:
        if kept is not None:
            repair_files(path)
        with closing(LevelStore(path)) as store:
            prepare(store, network, create=False, path=directory)
            rebuilt = rebuild(store, network, report)
            return Repaired(kept, rebuilt, check(store, network, report))
    except (StoreCorruptError, StoreMissingError, StoreUnreadableError) as error:
        where = f", the damaged files are in {kept}" if kept else ""
        raise NotRepairableError(
            f"{directory}: too much is lost{where} ({error})",
            path=directory,
            kept=kept,
        ) from None
    except NotRepairableError as error:
        raise NotRepairableError(str(error), path=directory, kept=kept) from None


def _readable(path: Path) -> bool:
    """Return whether the database opens and every block of it can be read."""
    try:
        store = LevelStore(path)
    except StoreCorruptError:
        return False
    try:
        for _ in store.items():
            pass
    except StoreCorruptError:
        return False
    finally:
        store.close()
    return True


def _keep(path: Path) -> Path:
    """Keep a copy of a database's files; links where the file system has them, since LevelDB
    replaces files and never changes one in place."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        shutil.copytree(path, kept, copy_function=_link)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(kept, ignore_errors=True)
        failure = error if isinstance(error, OSError) else OSError(str(error))
        raise os_failure(failure, kept) from None
    return kept


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _copy(source: Reader, target: KeyValueStore, report: Report) -> tuple[Copied, bytes]:
    hasher = blake3()
    batch = Batch()
    entries = size = 0
    for key, value in counted(source.items(), "copy", report):
        _digest(hasher, key, value)
        batch.put(key, value)
        entries += 1
        if batch.size >= _BATCH:
            size += batch.size
            target.write(batch, sync=False)
            batch = Batch()
    size += batch.size
    target.write(batch, sync=True)
    return Copied(entries, size), hasher.digest()


def _verify(path: Path, expected: bytes, report: Report) -> None:
    copy = LevelStore(path)
    try:
        hasher = blake3()
        rows: Iterator[tuple[bytes, bytes]] = counted(copy.items(), "verify", report)
        for key, value in rows:
            _digest(hasher, key, value)
    finally:
        copy.close()
    if hasher.digest() != expected:
        raise BadBackupError(f"{path}: the copy differs from its source: check the disk", path=path)


def _digest(hasher: blake3, key: bytes, value: bytes) -> None:
    hasher.update(b"%d,%d;" % (len(key), len(value)) + key + value)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
