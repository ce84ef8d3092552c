"""The files of a node's wallets on its disk: what befalls a commit, and what is left after it.

As SQLite has it, with a log that is written ahead: a transaction is there as a whole or not at
all, and stays once its log was synced, which `PRAGMA synchronous` decides. What a node writes there
is counted with what it writes to its chain's store: the n-th write of either fails or is the last.
A power cut takes all that was not synced. What SQLite does by itself between two commits, writing
its log back, is not looked into.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from tests.framework.simulation.faulty_disk import FaultyStore
from unchained.node.wallet import database
from unchained.storage.errors import StoreError, StoreFullError

SYNCHRONOUS_FULL: Final = 2
"""From this value of `PRAGMA synchronous` on, what is committed is synced."""

Files = dict[str, bytes]
"""Contents by name."""


class WalletDisk:
    """The wallets' databases of one node, in one folder. What stays when a node is gone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store: FaultyStore | None = None
        """The store of the node's present life: their writes are counted together."""
        self._synced: Files | None = None
        """The files as they were synced last, None if they are so now."""
        self._left: Files | None = None
        """What a crash has left, until the node is started again."""
        self._open: list[FaultyConnection] = []

    def connect(self, path: Path, **how: Any) -> FaultyConnection:
        """Open a database of the folder."""
        opened = sqlite3.connect(path, factory=FaultyConnection, **how)
        opened.disk = self
        self._open.append(opened)
        return opened

    def crash(self, *, power_cut: bool) -> bool:
        """Keep what is on disk now, or what was synced; what is written from here on by what is
        left of a process is lost. Return whether something was lost."""
        lost = power_cut and self._synced is not None
        self._left = self._synced if lost else self._files()
        return lost

    def begin(self, store: FaultyStore) -> None:
        """Let another life of the node find what the last has left."""
        for opened in self._open:
            opened.close()
        self._open.clear()
        self.store = store
        if self._left is not None:
            for name in self._files():
                (self.home / name).unlink()
            for name, content in self._left.items():
                (self.home / name).write_bytes(content)
        self._left = self._synced = None

    def commit(self, opened: FaultyConnection) -> bool:
        """Count a commit that is about to be; return whether it takes place. Raises sqlite3.Error.

        A process that is gone is told nothing of what it cannot do any more.
        """
        assert self.store is not None
        try:
            takes_place = self.store.admit()
        except StoreError as error:
            raise _as_sqlite(error) from None
        if takes_place:
            if opened.synchronous() >= SYNCHRONOUS_FULL:
                self._synced = None
            elif self._synced is None:
                self._synced = self._files()
        return takes_place

    def _files(self) -> Files:
        return {path.name: path.read_bytes() for path in sorted(self.home.glob("*.db*"))}


class FaultyConnection(sqlite3.Connection):
    """A connection whose commits a fault may hit."""

    disk: WalletDisk | None = None

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """Carry out a statement."""
        if sql == "COMMIT" and self.disk is not None:
            takes_place = False
            try:
                takes_place = self.disk.commit(self)
            finally:
                if not takes_place:
                    super().execute("ROLLBACK")
            if not takes_place:
                return self.cursor()
        return super().execute(sql, *arguments)

    def synchronous(self) -> int:
        """Return the present value of the pragma."""
        found: int = super().execute("PRAGMA synchronous").fetchone()[0]
        return found


@contextmanager
def faulty_wallets(disks: Iterable[WalletDisk]) -> Iterator[None]:
    """Let the wallets of these nodes open their databases on these disks meanwhile."""
    by_home = {disk.home: disk for disk in disks}

    def connect(path: Any, **how: Any) -> sqlite3.Connection:
        disk = by_home.get(Path(path).parent) if isinstance(path, Path) else None
        return sqlite3.connect(path, **how) if disk is None else disk.connect(path, **how)

    names = vars(database)
    names["sqlite3"] = SimpleNamespace(**{**vars(sqlite3), "connect": connect})
    try:
        yield
    finally:
        names["sqlite3"] = sqlite3


def _as_sqlite(error: StoreError) -> sqlite3.OperationalError:
    """Return what SQLite says of the same fault."""
    is_full = isinstance(error, StoreFullError)
    told = sqlite3.OperationalError("database or disk is full" if is_full else "disk I/O error")
    told.sqlite_errorcode = sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_IOERR
    return told
