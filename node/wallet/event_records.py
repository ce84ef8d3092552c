"""The gapless log of what happened in a wallet, for programs that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.wallet.database import Database
from unchained.node.wallet.errors import EventsForgottenError
from unchained.node.wallet.records import HistoryChange, InvoiceChange, WalletEvent
from unchained.node.wallet.tables import LAST_EVENT

EVENTS_KEPT: Final = 100_000
"""Entries of the log that are kept; the oldest go first."""

_LOG: Final = "log"
_change = msgspec.msgpack.Decoder(HistoryChange | InvoiceChange)


class EventRecords:
    """The part of a wallet's file that holds its log."""

    def __init__(self, database: Database, randomness: Randomness = SYSTEM) -> None:
        self._database = database
        self._randomness = randomness
        if database.number(_LOG) is None:
            self.rename()

    @property
    def log_id(self) -> str:
        """What tells this log from every other one, also from one of the same wallet that began
        anew and numbers its entries from 1 on."""
        return f"{self._database.number(_LOG) or 0:016x}"

    def rename(self) -> None:
        """Take the log for another one from here on: it was copied from a backup, and may come to
        tell under the same numbers of other things."""
        self._database.put_number(_LOG, int.from_bytes(self._randomness.token_bytes(8)))

    @property
    def last(self) -> int:
        """The sequence number of the last entry, 0 if there has been none."""
        return self._database.number(LAST_EVENT) or 0

    @property
    def oldest(self) -> int:
        """The sequence number of the first entry that is kept, or that of the next one."""
        found = self._database.rows("SELECT min(sequence) FROM wallet_events")[0][0]
        return self.last + 1 if found is None else found

    def append(self, changes: Sequence[HistoryChange | InvoiceChange], now_ms: int) -> int:
        """Add entries, inside a transaction; return the sequence number of the last one."""
        if not changes:
            return self.last
        first = self.last + 1
        database = self._database
        database.run_many(
            "INSERT INTO wallet_events VALUES (?, ?, ?)",
            (
                (number, now_ms, database.sealer.seal(change, _bound_to(number)))
                for number, change in enumerate(changes, first)
            ),
        )
        last = first + len(changes) - 1
        database.put_number(LAST_EVENT, last)
        database.run("DELETE FROM wallet_events WHERE sequence <= ?", last - EVENTS_KEPT)
        return last

    def since(self, sequence: int, limit: int) -> list[WalletEvent]:
        """Return the entries after a sequence number, at most `limit`.

        Raises `EventsForgottenError` where the next one is not kept any more, or where the log has
        never come so far: then it is another wallet's number.
        """
        database = self._database
        if sequence > self.last:
            raise EventsForgottenError(sequence, self.last)
        rows = database.rows(
            "SELECT sequence, time_ms, secret FROM wallet_events WHERE sequence > ? "
            "ORDER BY sequence LIMIT ?",
            sequence,
            limit,
        )
        if sequence < self.last and (not rows or rows[0][0] != sequence + 1):
            raise EventsForgottenError(sequence, self.last)
        return [
            WalletEvent(number, time_ms, database.sealer.unseal(secret, _bound_to(number), _change))
            for number, time_ms, secret in rows
        ]

    def cursor(self, reader: str) -> int | None:
        """Return up to which entry a reader has been served, None if it is not known yet."""
        return self._database.number(f"served {reader}")

    def put_cursor(self, reader: str, sequence: int) -> None:
        """Note up to which entry a reader has been served."""
        self._database.put_number(f"served {reader}", sequence)


def _bound_to(sequence: int) -> bytes:
    return sequence.to_bytes(8, "big")
