"""What may stand in the columns of a wallet's file: checked before anything in it is read, of a
backup as of a file that is opened.

SQLite keeps any value in any column, and whoever can write where the file lies can put one there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from unchained.node.primitives.errors import NonCanonicalError, ProtocolError
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.wallet.errors import DAMAGED_HINT, StoreDamagedError
from unchained.node.wallet.records import (
    HistoryKind,
    HistoryStatus,
    InvoiceStatus,
    Origin,
    OutgoingState,
)
from unchained.node.wallet.tables import LAST_EVENT

_KNOWN: Final[Sequence[tuple[str, str, Sequence[int]]]] = (
    ("anchors", "height", range(1 << 62)),
    ("coins", "origin", tuple(Origin)),
    ("outgoing", "state", tuple(OutgoingState)),
    ("history", "kind", tuple(HistoryKind)),
    ("history", "status", tuple(HistoryStatus)),
    ("invoices", "status", tuple(InvoiceStatus)),
)
"""Columns, and what may stand in them: numbers that follow one another."""


@contextmanager
def told_as_damage() -> Iterator[None]:
    """Let what goes wrong with values that were read be told as the damage that it is: what is
    sealed is checked where it is read, and a file can be changed while it is open. Raises
    `StoreDamagedError`."""
    try:
        yield
    except (ArithmeticError, LookupError, ProtocolError, TypeError, ValueError) as error:
        raise StoreDamagedError(
            "the wallet's .db file holds what cannot be made sense of "
            f"({type(error).__name__}: {error}): {DAMAGED_HINT}"
        ) from error


def check_indexes(db: sqlite3.Connection) -> None:
    """Check that a file's trees are whole, and that what stands twice, in a table and in an index,
    is the same: sums are worked out from indexes alone, and SQLite has no checksums. Takes about a
    second for 100,000 coins. Raises `StoreDamagedError`, sqlite3.Error."""
    (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        raise _altered(" ".join(said.split()))


def check_values(db: sqlite3.Connection) -> None:
    """Check all values in a file whose layout is checked: that each has the type of its column,
    that what stands for a name has one, that heights can be counted on from, and that transfers are
    some. It reads all there is. Raises `StoreDamagedError`, sqlite3.Error."""
    names = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    tables = {name for (name,) in names}
    for table in sorted(tables):
        _check_types(db, table)
    for table, column, known in _KNOWN:
        if table not in tables:
            continue  # a file of an earlier layout
        found = db.execute(
            f"SELECT {column} FROM {table} WHERE {column} NOT BETWEEN ? AND ? LIMIT 1",  # noqa: S608 - names of ours
            (known[0], known[-1]),
        ).fetchone()
        if found:
            raise _altered(f"{table}.{column} is {found[0]}, expected {known[0]} to {known[-1]}")
    if "wallet_events" in tables:
        _check_last_event(db)
    for txid, raw in db.execute("SELECT txid, raw FROM outgoing"):
        try:
            is_its_own = SizedTransfer.from_bytes(raw).txid == txid
        except NonCanonicalError:
            is_its_own = False
        if not is_its_own:
            raise _altered(f"the bytes of the transfer {txid.hex()[:64]} are not its own")


def _check_last_event(db: sqlite3.Connection) -> None:
    """Check that the log goes on where it ends."""
    (logged,) = db.execute("SELECT max(sequence) FROM wallet_events").fetchone()
    found = db.execute("SELECT value FROM meta WHERE name = ?", (LAST_EVENT,)).fetchone()
    last = 0 if found is None else int.from_bytes(found[0], "big")
    if logged is not None and last != logged:
        raise _altered(f"its last event is {last}, of a log that ends with {logged}")


def _check_types(db: sqlite3.Connection, table: str) -> None:
    tests = []
    for _, column, kind, is_never_null, *_ in db.execute(f"PRAGMA table_info({table})"):
        types = f"'{kind.lower()}'" if is_never_null else f"'{kind.lower()}', 'null'"
        tests.append(f"WHEN typeof({column}) NOT IN ({types}) THEN '{column}'")
    found = db.execute(
        f"SELECT CASE {' '.join(tests)} END AS wrong FROM {table} "  # noqa: S608 - names of ours
        "WHERE wrong IS NOT NULL LIMIT 1"
    ).fetchone()
    if found:
        raise _altered(f"its column {table}.{found[0]} holds what is not of its type")


def _altered(how: str) -> StoreDamagedError:
    return StoreDamagedError(f"the wallet's .db file was altered: {how}: {DAMAGED_HINT}")
