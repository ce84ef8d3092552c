"""The SQLite file of what a wallet knows: opened, checked, changed in transactions."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.base.terminal_text import harmless
from unchained.node.primitives.transfer import Transfer
from unchained.node.wallet.database_log import check_log
from unchained.node.wallet.errors import (
    DAMAGED_HINT,
    StoreDamagedError,
    StoreUnavailableError,
)
from unchained.node.wallet.stored_values import check_indexes, check_values
from unchained.node.wallet.tables import (
    NAME_KINDS,
    SCHEMA,
    SCHEMAS,
    TO_VERSION_2,
    TO_VERSION_3,
    WALLET_DB_VERSION,
    Sealer,
)

SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""As what SQLite's refusals come: where it repeats what a damaged file holds, Python's own module
cannot read its words."""


def words_of(error: Exception) -> str:
    """Return what SQLite says in one of these, on one line."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        text = error.object.decode(errors="replace")
    return harmless(" ".join(text.split()))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLITE_ERRORS as error:
        # what is wrong with a statement is wrong with the values that it reads: sums that overflow
        # and so is what Python's own module refuses to read, without a code of SQLite's
        code = getattr(error, "sqlite_errorcode", None)
        of_values = code is None or code == sqlite3.SQLITE_ERROR
        if isinstance(error, sqlite3.OperationalError) and not of_values:
            raise StoreUnavailableError(f"the wallet's .db file: {words_of(error)}") from None
        what = words_of(error)
        raise StoreDamagedError(f"the wallet's .db file: {what}: {DAMAGED_HINT}") from None


_TO_PRESENT: Final = {1: (*TO_VERSION_2, *TO_VERSION_3), 2: TO_VERSION_3}
"""What brings a file of an earlier layout to the present one."""

_IDENTITY: Final = ("network", "owner")

CACHE_KIB: Final = 8 << 10
"""Memory that SQLite may take for the pages of an open wallet; the system keeps the others."""

SPENT_KEPT: Final = 4_096
"""Transfers of which it is kept in memory what they spend."""


def _spent_by(transfer: Transfer) -> int:
    """Return what the coins have to be worth that a transfer spends, in grains."""
    return transfer.fee + sum(output.value for output in transfer.outputs)


@functools.cache
def _objects_of(version: int) -> frozenset[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMAS[version])
        return _objects(db)


def _objects(db: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    """Return what a database is made of; how its text was broken into lines is of no account."""
    # Statistics, which `analyze` makes, are SQLite's own: no trigger can be on them.
    rows = db.execute(
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master "
        "WHERE name NOT IN ('sqlite_stat1', 'sqlite_stat4')"
    )
    return frozenset((*row[:3], " ".join(row[3].split())) for row in rows)


def check_layout(db: sqlite3.Connection) -> int:
    """Return the version of a wallet's file, 0 of one that holds nothing yet, before anything in it
    is changed: it has the tables, indexes and triggers of that version and nothing else, for what
    else there is would run with every change. Raises `StoreDamagedError`, sqlite3.Error."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in SCHEMAS:
        raise StoreDamagedError(
            f"the wallet's .db file has layout {version}, expected {WALLET_DB_VERSION}: "
            f"{DAMAGED_HINT}"
        )
    different = _objects(db) ^ _objects_of(version)
    if different:
        kind, name, *_ = min(different)
        raise StoreDamagedError(
            f"the wallet's .db file was altered: its {kind} {name[:64]!r} is not that of layout "
            f"{version}: {DAMAGED_HINT}"
        )
    return version


def is_of_wallet(path: Path, network_id: bytes, owner: bytes) -> bool:
    """Return whether a file is that of a wallet on a network, and can be read; it is left as it
    is."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as db:
            check_layout(db)
            found = dict(db.execute("SELECT name, value FROM meta WHERE name IN (?, ?)", _IDENTITY))
    except (*SQLITE_ERRORS, StoreDamagedError):
        return False
    # files of the first layout do not name their network
    network = found.get("network", network_id)
    return (network, found.get("owner")) == (network_id, owner)


class Database:
    """The file of one wallet. `network_id` names the chain, `owner` the wallet: both are checked.

    Raises `StoreDamagedError` from every method for a file that cannot be read.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        network_id: bytes,
        owner: bytes,
        seed: bytes,
        randomness: Randomness = SYSTEM,
    ) -> None:
        """Open or create the file; with None it is kept in memory, for tests."""
        self._lock = threading.RLock()
        self._is_closed = False
        self._spent: dict[bytes, int] = {}
        self.sealer = Sealer(seed, randomness)
        """For what the chain does not show."""
        self.transactions = 0
        """Transactions that reached the disk."""
        if path is not None:
            # SQLite gives its journal files the mode of the file that they belong to
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            check_log(path)
        try:
            self._db = sqlite3.connect(
                ":memory:" if path is None else path,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            try:
                self._open(network_id, owner)
            except BaseException:
                self._db.close()
                raise
        except SQLITE_ERRORS as error:
            raise StoreDamagedError(f"{path}: {words_of(error)}: {DAMAGED_HINT}") from None

    def note_spent(self, txid: bytes, transfer: Transfer) -> None:
        """Take note of a transfer whose bytes need not be decoded for what it spends."""
        if len(self._spent) >= SPENT_KEPT:
            self._spent.clear()
        self._spent[txid] = _spent_by(transfer)

    def _spends(self, txid: bytes, raw: bytes) -> int:
        if txid not in self._spent:
            self.note_spent(txid, Transfer.from_bytes(raw))
        return self._spent[txid]

    def _open(self, network_id: bytes, owner: bytes) -> None:
        db = self._db
        version = check_layout(db)
        if version:
            check_indexes(db)
            check_values(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.create_function("spends", 2, self._spends, deterministic=True)
        if version == 0:
            # together: a file with a layout and no owner would be refused from then on
            with _translated():
                db.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {WALLET_DB_VERSION};")
                self._put("network", network_id)
                self._put("owner", owner)
                db.execute("COMMIT")
        elif version in _TO_PRESENT and self._get("owner") == owner:
            with self.transaction():
                for change in _TO_PRESENT[version]:
                    db.execute(change)
                if version == 1:
                    self._put("network", network_id)
                db.execute(f"PRAGMA user_version = {WALLET_DB_VERSION}")
        for name, expected in (("network", network_id), ("owner", owner)):
            if self._get(name) != expected:
                raise StoreDamagedError(f"the wallet's .db file has another {name}: {DAMAGED_HINT}")
        db.execute(NAME_KINDS)

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
        with self._lock:
            self._is_closed = True
            self._db.close()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Have the file to oneself. Raises `StoreUnavailableError` once it is closed: who was
        under way when the node stopped is not told of damage."""
        with self._lock:
            if self._is_closed:
                raise StoreUnavailableError("the wallet's .db file is closed")
            yield

    def image(self) -> bytes:
        """Return the whole database as the bytes of one file, as it is at this moment."""
        with self._turn(), _translated():
            return self._db.serialize()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Let all changes inside reach the disk together, or none."""
        with self._turn():
            if self._db.in_transaction:
                yield
                return
            with _translated():
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._db.rollback()
                    raise
                self._db.execute("COMMIT")
            self.transactions += 1

    def rows(self, sql: str, *arguments: object) -> list[Any]:
        """Return all rows of a query."""
        with self._turn(), _translated():
            return self._db.execute(sql, arguments).fetchall()

    def run(self, sql: str, *arguments: object) -> int:
        """Carry out a change; return how many rows it touched."""
        with self.transaction():
            return self._db.execute(sql, arguments).rowcount

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Carry out a change for each row of arguments, inside a transaction."""
        self._db.executemany(sql, rows)

    # Where the wallet stands

    def _get(self, name: str) -> bytes | None:
        found = self.rows("SELECT value FROM meta WHERE name = ?", name)
        return bytes(found[0][0]) if found else None

    def _put(self, name: str, value: bytes) -> None:
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

    def number(self, name: str) -> int | None:
        """Return a number that was kept under a name."""
        raw = self._get(name)
        return None if raw is None else int.from_bytes(raw, "big")

    def put_number(self, name: str, number: int | None) -> None:
        """Keep a number under a name, or forget it."""
        if number is None:
            self.run("DELETE FROM meta WHERE name = ?", name)
        else:
            self._put(name, number.to_bytes(8, "big"))

    def last_anchor(self) -> tuple[int, bytes] | None:
        """Return height and id of the last anchor that was read."""
        found = self.rows("SELECT height, id FROM anchors ORDER BY height DESC LIMIT 1")
        return (found[0][0], found[0][1]) if found else None

    def anchors_down(self) -> list[tuple[int, bytes]]:
        """Return heights and ids of the anchors read lately, the last one first."""
        return self.rows("SELECT height, id FROM anchors ORDER BY height DESC")
