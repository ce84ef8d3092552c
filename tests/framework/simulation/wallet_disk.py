"""The files of a node's wallets on its disk: what befalls a commit, and what is left after it.

As SQLite has it, with a log that is written ahead: a transaction is there as a whole or not at
all, and stays once its log was synced, which `PRAGMA synchronous` decides. What a node writes there
is counted with what it writes to its chain's store: the n-th write of either fails or is the last,
and then some of its sectors are in the log. A power cut takes all that was not synced.

Now and then, and when it is closed, SQLite writes its log back into the database: it syncs the log,
writes each page that the log holds, in order, and syncs the database; the log stays as it is until
the next commit begins it anew, by a header that is synced before anything else is written. Whoever
is gone in the midst of that leaves the log, and some of the pages.

A file of keys is written beside the one that it replaces, synced, and renamed, and then its folder
is synced: a power cut before that leaves the old name or the new one, and of what was not synced
some of the first bytes.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final

from tests.framework.simulation.faulty_disk import FaultyStore
from unchained.node.base import files
from unchained.node.wallet import database
from unchained.storage.errors import StoreError, StoreFullError

SYNCHRONOUS_NORMAL: Final = 1
"""From this value of `PRAGMA synchronous` on, log and database are synced when the log is written
back."""
SYNCHRONOUS_FULL: Final = 2
"""From this value on, what is committed is synced."""

COMMITS_WRITTEN_BACK: Final = 24
"""Commits after which the log is written back. SQLite does so after 1,000 pages, some 200 commits,
which the wallet of a short simulation hardly comes to."""

LOG_HEADER: Final = 32
"""Bytes of the log's header."""
LOG_FRAME: Final = 24
"""Bytes before each page in the log: its number, four bytes that are not zero if a commit ends
there, salts and sums."""
SECTOR: Final = 512
"""Bytes that a power cut leaves as they were or as they are to be."""
PAGE: Final = 4_096
"""Bytes that one call writes to a database: whoever is killed has made it or not."""

KEYS: Final = ".wallet"
"""How the name of a file of keys ends."""

Files = dict[str, bytes]
"""Contents by name."""


def torn(before: bytes, after: bytes, rng: random.Random, *, power_cut: bool) -> bytes:
    """Return what a file may hold that was to become another, no shorter, and lacks a part of that:
    after a power cut any of the sectors that differ, else the first of the pages."""
    size = SECTOR if power_cut else PAGE
    changed = [
        at for at in range(0, len(after), size) if before[at : at + size] != after[at : at + size]
    ]
    if not changed:
        return before
    written = rng.randrange(len(changed))
    left = bytearray(before)
    for at in sorted(rng.sample(changed, written)) if power_cut else changed[:written]:
        # What lies between the end and what was written behind it reads as zeros.
        left.extend(bytes(max(0, at - len(left))))
        left[at : at + size] = after[at : at + size]
    return bytes(left)


def torn_log(before: bytes, after: bytes, rng: random.Random, *, power_cut: bool) -> bytes:
    """Return what a log may hold to which a commit was being written: a header that begins it anew
    was synced first."""
    if before[:LOG_HEADER] != after[:LOG_HEADER]:
        before = after[:LOG_HEADER] + before[LOG_HEADER:]
    return torn(before, after, rng, power_cut=power_cut)


def noticeable(path: Path) -> int:
    """Return how many of a file's first bytes are damaged so that it can be noticed: of a log not
    the last two commits and the frame before them, of which a power cut may leave what damage makes
    of them."""
    content = path.read_bytes()
    if not path.name.endswith("-wal"):
        return len(content)
    size = LOG_FRAME + PAGE
    starts = range(LOG_HEADER, LOG_HEADER + size * _frames_read(path), size)
    ends = [at + size for at in starts if any(content[at + 4 : at + 8])]
    return ends[-3] - size if len(ends) > 2 else 0


def _frames_read(log: Path) -> int:
    """Return how many frames of a log SQLite would read."""
    with TemporaryDirectory(dir=log.parent.parent) as folder:
        copy = Path(folder, log.stem + ".db")
        shutil.copyfile(log, f"{copy}-wal")
        shutil.copyfile(log.with_suffix(".db"), copy)
        with closing(sqlite3.connect(copy)) as opened:
            read: int = opened.execute("PRAGMA wal_checkpoint").fetchone()[1]
    return read


class WalletDisk:
    """The wallets' databases of one node, in one folder. What stays when a node is gone."""

    def __init__(self, home: Path, seed: str = "") -> None:
        """What is torn follows from the seed."""
        self.home = home
        self.store: FaultyStore | None = None
        """The store of the node's present life: their writes are counted together."""
        self.half_written_back = 0
        """Databases that were left with some of the pages that their logs hold, and not all."""
        self.torn_logs = 0
        """Logs that were left with a part of a commit at their end."""
        self._rng = random.Random(f"{seed} wallet disk")
        self._synced: Files | None = None
        """The files as they were synced last, None if they are so now."""
        self._left: Files | None = None
        """What a crash has left, until the node is started again."""
        self._is_torn = False
        """Whether what was being written may be there in part: the crash lost nothing else."""
        self._power_cut = False
        self._open: list[FaultyConnection] = []
        self._commits = 0
        """Since the log was written back."""
        self._write_backs = 0
        self._due: tuple[int, Callable[[], None]] | None = None
        self._keys_synced: Files = {}
        """What the folder holds of keys once it was synced."""
        self._synced_keys: set[bytes] = set()
        """Contents of files of keys that were synced, whatever their names."""
        self._keys_due: tuple[int, Callable[[], None]] | None = None
        self._to_rot: tuple[random.Random, Callable[[], None], int] | None = None
        self.rotted: Files = {}
        """What has rotted and is still in use, as it was before: of his keys a user has a backup.
        """
        self.has_just_rotted = False
        """Whether something has between the last life and this one."""

    def connect(self, path: Path, **how: Any) -> FaultyConnection:
        """Open a database of the folder."""
        opened = sqlite3.connect(path, factory=FaultyConnection, **how)
        # It is written back here, where it can be looked at.
        opened.plain("PRAGMA wal_autocheckpoint = 0")
        opened.disk, opened.name = self, path.name
        self._open.append(opened)
        return opened

    def crash(self, *, power_cut: bool) -> bool:
        """Keep what is on disk now, or what was synced; what is written from here on by what is
        left of a process is lost. Return whether something was lost."""
        lost = power_cut and self._synced is not None
        self._left = {
            **((self._synced or {}) if lost else self._files()),
            **(self._keys_after_power_cut() if power_cut else self._keys()),
        }
        self._is_torn, self._power_cut = not lost, power_cut
        return lost

    def begin(self, store: FaultyStore) -> None:
        """Let another life of the node find what the last has left."""
        for opened in self._open:
            opened.disk = None
            opened.close()
        self._open.clear()
        self.store = store
        if self._left is not None:
            for name in (*self._files(), *self._keys()):
                (self.home / name).unlink()
            for name, content in self._left.items():
                (self.home / name).write_bytes(content)
        self._left = self._synced = None
        self._keys_synced = self._keys()
        self._synced_keys = set(self._keys_synced.values())
        self.has_just_rotted = self._to_rot is not None
        if self._to_rot is not None:
            self._let_rot(*self._to_rot)
            self._to_rot = None

    def rot(self, rng: random.Random, note: Callable[[], None], *, pages: int) -> None:
        """Let so many pages of one of the files be lost when the node starts the next time, with 0
        let a bit flip; `note` is called then."""
        self._to_rot = rng, note, pages

    @property
    def will_rot(self) -> bool:
        """Whether something has rotted, and the node has not started since."""
        return self._to_rot is not None

    def _let_rot(self, rng: random.Random, note: Callable[[], None], pages: int) -> None:
        sizes = {
            path: noticeable(path)
            for path in sorted(self.home.iterdir())
            if path.suffix in (".db", ".db-wal", KEYS)
        }
        path = rng.choice([path for path, size in sizes.items() if size])
        sound = path.read_bytes()
        content = bytearray(sound)
        at = rng.randrange(sizes[path])
        if pages:
            at -= at % PAGE
            end = min(at + PAGE * pages, sizes[path])
            content[at:end] = bytes(end - at)
        else:
            content[at] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        self.rotted.setdefault(path.name, sound)
        note()

    def put_right(self) -> bool:
        """Do what a user does who is told that a file is damaged, while the node is down: put back
        the keys; or move the database away, which is made anew from the chain. Return whether it
        was the database."""
        assert self._left is not None
        keys = {name: sound for name, sound in self.rotted.items() if name.endswith(KEYS)}
        is_database = keys != self.rotted
        if is_database:
            self._left = {name: left for name, left in self._left.items() if KEYS in name}
        self._left.update(keys)
        self.rotted.clear()
        return is_database

    def at_write_back(self, number: int, strike: Callable[[], None]) -> None:
        """Call `strike` in the midst of the `number`th time from now on, 1 for the next, that a log
        is written back."""
        self._due = (self._write_backs + number, strike)

    def mend(self) -> None:
        """Let nothing befall it from here on."""
        self._due = self._keys_due = None

    def commit(self, opened: FaultyConnection) -> None:
        """Count a commit, and let it take place or not. Raises sqlite3.Error.

        A process that is gone is told nothing of what it cannot do any more.
        """
        assert self.store is not None
        was_dead = self.store.is_dead
        try:
            takes_place = self.store.admit()
        except StoreError as error:
            opened.plain("ROLLBACK")
            raise _as_sqlite(error) from None
        if takes_place:
            if opened.synchronous() >= SYNCHRONOUS_FULL:
                self._synced = None
            elif self._synced is None:
                self._synced = self._files()
            opened.plain("COMMIT")
            self._commits += 1
            if self._commits >= COMMITS_WRITTEN_BACK:
                self.write_back(opened)
        elif was_dead or self._left is None or not self._is_torn:
            opened.plain("ROLLBACK")
        else:
            opened.plain("COMMIT")
            self.torn_logs += self._tear(f"{opened.name}-wal", torn_log)

    def write_back(self, opened: FaultyConnection) -> None:
        """Let a log be written back into its database, and the process be gone meanwhile, if that
        is due."""
        if self.store is None or self.store.is_dead or self.store.has_failed:
            return
        self._commits = 0
        self._write_backs += 1
        if opened.synchronous() >= SYNCHRONOUS_NORMAL:
            self._synced = None
        if self._due is not None and self._write_backs >= self._due[0]:
            _, strike = self._due
            self._due = None
            strike()
        opened.plain("PRAGMA wal_checkpoint")
        if self._left is not None and self._is_torn:
            self.half_written_back += self._tear(opened.name, torn)

    def at_key_sync(self, number: int, strike: Callable[[], None]) -> None:
        """Call `strike` in place of the `number`th time from now on, 1 for the next, that a file of
        keys or its folder is synced."""
        self._keys_due = number, strike

    def sync_keys(self, path: Path) -> None:
        """Sync a file of keys, or the folder, if the process is still there."""
        if self._keys_due is not None:
            number, strike = self._keys_due
            self._keys_due = (number - 1, strike) if number > 1 else None
            if number == 1:
                strike()
        if self._left is not None:
            return
        if path.is_dir():
            self._keys_synced = {name: self._surely(keys) for name, keys in self._keys().items()}
        else:
            self._synced_keys.add(path.read_bytes())

    def _keys_after_power_cut(self) -> Files:
        now = self._keys()
        if now == self._keys_synced or self._rng.random() < 0.5:
            return self._keys_synced
        return {name: self._surely(keys) for name, keys in now.items()}

    def _surely(self, keys: bytes) -> bytes:
        """Return what there is for certain of a file's content."""
        return keys if keys in self._synced_keys else keys[: self._rng.randrange(len(keys) or 1)]

    def _keys(self) -> Files:
        return {
            path.name: path.read_bytes()
            for path in sorted(self.home.iterdir())
            if KEYS in path.name
        }

    def _tear(self, name: str, tear: Callable[..., bytes]) -> bool:
        """Let what a crash has left of a file hold a part of what it has become since; return
        whether it does."""
        assert self._left is not None
        before, after = self._left.get(name, b""), (self.home / name).read_bytes()
        self._left[name] = tear(before, after, self._rng, power_cut=self._power_cut)
        return self._left[name] not in (before, after)

    def _files(self) -> Files:
        found = sorted(self.home.glob("*.db*"))
        return {path.name: path.read_bytes() for path in found if KEYS not in path.name}


class FaultyConnection(sqlite3.Connection):
    """A connection whose commits a fault may hit."""

    disk: WalletDisk | None = None
    name = ""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """Carry out a statement."""
        if sql == "COMMIT" and self.disk is not None:
            self.disk.commit(self)
            return self.cursor()
        return super().execute(sql, *arguments)

    def close(self) -> None:
        """Close it, as SQLite does: what is in the log is written back first."""
        if self.disk is not None and not self.in_transaction:
            self.disk.write_back(self)
        self.disk = None
        super().close()

    def plain(self, sql: str) -> Any:
        """Carry out a statement that nothing befalls; return its first row."""
        return super().execute(sql).fetchone()

    def synchronous(self) -> int:
        """Return the present value of the pragma."""
        found: int = self.plain("PRAGMA synchronous")[0]
        return found


@contextmanager
def faulty_wallets(disks: Iterable[WalletDisk]) -> Iterator[None]:
    """Let the wallets of these nodes have their databases and keys on these disks meanwhile."""
    by_home = {disk.home: disk for disk in disks}

    def connect(path: Any, **how: Any) -> sqlite3.Connection:
        disk = by_home.get(Path(path).parent) if isinstance(path, Path) else None
        return sqlite3.connect(path, **how) if disk is None else disk.connect(path, **how)

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        disk = by_home.get(path) or by_home.get(path.parent)
        if disk is None:
            os.fsync(descriptor)
        else:
            disk.sync_keys(path)

    vars(database)["sqlite3"] = SimpleNamespace(**{**vars(sqlite3), "connect": connect})
    vars(files)["os"] = SimpleNamespace(**{**vars(os), "fsync": fsync})
    try:
        yield
    finally:
        vars(database)["sqlite3"] = sqlite3
        vars(files)["os"] = os


def _as_sqlite(error: StoreError) -> sqlite3.OperationalError:
    """Return what SQLite says of the same fault."""
    is_full = isinstance(error, StoreFullError)
    told = sqlite3.OperationalError("database or disk is full" if is_full else "disk I/O error")
    told.sqlite_errorcode = sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_IOERR
    return told
