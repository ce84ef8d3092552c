"""What came and went: one entry for each minted coin and each transfer that touched a wallet.

The entries are kept in a table, and worked out anew for whatever a change of the wallet's coins and
transfers has marked (`tables.py`): so a page of them takes as long as its entries do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from unchained.node.primitives.transfer import Transfer
from unchained.node.wallet.errors import NothingKnownError
from unchained.node.wallet.event_records import EventRecords
from unchained.node.wallet.payment_request import LOCK_PREFIX
from unchained.node.wallet.records import (
    HistoryChange,
    HistoryEntry,
    HistoryKind,
    HistoryStatus,
    MinedDay,
    OutgoingState,
    Payee,
)
from unchained.node.wallet.wallet_store import WalletStore

DAY_MS: Final = 86_400_000

MARKS: Final = 8_192
"""Marks that are worked off in one transaction."""

_WAITING_PLACE: Final = 2**62
"""Where an entry without a height stands: above all others."""

_STATUS_OF: Final = {
    OutgoingState.WAITING: HistoryStatus.WAITING,
    OutgoingState.ABANDONED: HistoryStatus.ABANDONED,
    OutgoingState.REPLACED: HistoryStatus.REPLACED,
    OutgoingState.CONFLICT: HistoryStatus.CONFLICT,
}

_DIRTY: Final = """
SELECT dirty.key, coins.account, coins.value, coins.height, coins.time_ms, history.kind,
    history.status, history.height, history.time_ms, history.received, history.sent,
    history.account, history.changed
FROM (SELECT DISTINCT key FROM dirty WHERE rowid <= ?) AS dirty
LEFT JOIN coins ON coins.coin_id = dirty.key AND coins.origin = 0
LEFT JOIN history ON history.key = dirty.key
"""

_COLUMNS: Final = "key, kind, status, height, time_ms, received, sent, account, changed"

_others = msgspec.msgpack.Decoder(list[tuple[bytes, int]])


class HistoryFilter(msgspec.Struct, frozen=True):
    """Which entries of a history are wanted: of one account, from a time on and before another
    (ms), of some kinds, with a label that has a text in it."""

    account: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    kinds: tuple[HistoryKind, ...] = tuple(HistoryKind)
    label: str = ""


EVERYTHING: Final = HistoryFilter()
"""Leaves nothing out."""


class _State(msgspec.Struct, frozen=True, gc=False):
    """What the table says of an entry; `changed` apart, which follows from it."""

    kind: HistoryKind
    status: HistoryStatus
    height: int | None
    time_ms: int | None
    received: int
    sent: int
    account: int | None


class HistoryBook:
    """The history of one wallet. Methods block, and may be called from any thread."""

    def __init__(self, store: WalletStore, events: EventRecords) -> None:
        self._store = store
        self._events = events

    def note(self, now_ms: int) -> int:
        """Work out what a change has marked, and log what stands otherwise; return how many
        entries that are."""
        count = 0
        while (noted := self._note_some(now_ms)) is not None:
            count += noted
        return count

    def _note_some(self, now_ms: int) -> int | None:
        """Do `note` for some of what is marked; None where nothing is."""
        store = self._store
        with store.transaction():
            bound = store.rows(
                "SELECT max(rowid) FROM (SELECT rowid FROM dirty ORDER BY rowid LIMIT ?)", MARKS
            )[0][0]
            if bound is None:
                return None
            rows = store.rows(_DIRTY, bound)
            changed = []
            quiet = []
            for row in rows:
                old = None if row[5] is None else _state(row[5:12])
                new = self._minted(row, old)
                if new is None and (old is None or old.kind is not HistoryKind.MINED):
                    new = self._transfer(row[0], old)
                if new is None or new == old:
                    continue
                if old is not None and msgspec.structs.replace(new, time_ms=old.time_ms) == old:
                    quiet.append((row[0], new, row[12]))
                else:
                    changed.append((row[0], old, new))
            changed.sort(key=_order)
            first = self._events.last + 1
            self._events.append([_change(*step) for step in changed], now_ms)
            self._put(quiet)
            self._put((key, new, at) for at, (key, _, new) in enumerate(changed, first))
            store.run("DELETE FROM dirty WHERE rowid <= ?", bound)
        return len(changed)

    def _put(self, states: Iterable[tuple[bytes, _State, int]]) -> None:
        self._store.run_many(
            "INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    key,
                    int(state.kind),
                    int(state.status),
                    _place(state),
                    state.height,
                    state.time_ms,
                    state.received,
                    state.sent,
                    state.account,
                    changed,
                )
                for key, state, changed in states
            ),
        )

    def _minted(self, row: Any, old: _State | None) -> _State | None:
        _, account, value, height, time_ms, *_ = row
        if account is None or height is None:
            if old is None or old.kind is not HistoryKind.MINED:
                return None
            return msgspec.structs.replace(old, status=HistoryStatus.GONE, height=None)
        included = HistoryStatus.INCLUDED
        return _State(HistoryKind.MINED, included, height, time_ms, value, 0, account)

    def _transfer(self, txid: bytes, old: _State | None) -> _State | None:
        store = self._store
        received = store.rows(
            """SELECT account, sum(value), max(height) FROM coins
               WHERE txid = ? AND txid != x'' AND origin IN (1, 2) GROUP BY account""",
            txid,
        )
        spent = store.rows(
            """SELECT account, sum(value), max(spent_height) FROM coins
               WHERE spent_by = ? AND spent_height IS NOT NULL AND account >= 0
               GROUP BY account""",
            txid,
        ) or store.rows(
            """SELECT account, sum(value), NULL FROM uses JOIN coins USING (coin_id)
               WHERE uses.txid = ? AND account >= 0 GROUP BY account""",
            txid,
        )
        made = store.rows(
            "SELECT created_ms, height, state, raw FROM outgoing WHERE txid = ?", txid
        )
        if not (received or spent or made):
            gone = HistoryStatus.GONE
            return None if old is None else msgspec.structs.replace(old, status=gone, height=None)
        heights = [row[2] for row in (*received, *spent)] + [row[1] for row in made]
        height = max((height for height in heights if height is not None), default=None)
        status = self._status(txid, height, made)
        if old is not None and status > HistoryStatus.INCLUDED:
            # what it would have brought is forgotten
            return msgspec.structs.replace(old, status=status, height=None)
        known = store.rows("SELECT time_ms, fee FROM transfers WHERE txid = ?", txid)
        times = [row[0] for row in (*known, *made)]
        fee = known[0][1] if known else Transfer.from_bytes(made[0][3]).fee if made else None
        got, gave = sum(row[1] for row in received), sum(row[1] for row in spent)
        kind = HistoryKind.RECEIVED
        if spent:
            kind = HistoryKind.MOVED if gave - got == fee else HistoryKind.PAID
        elif made and not received:
            kind = HistoryKind.CONTRACT
        accounts = {row[0] for row in (*received, *spent)}
        return _State(
            kind,
            status,
            height,
            times[0] if times else self._coin_time(txid),
            got,
            gave,
            accounts.pop() if len(accounts) == 1 else None,
        )

    def _status(self, txid: bytes, height: int | None, made: Sequence[Any]) -> HistoryStatus:
        if height is not None:
            return HistoryStatus.INCLUDED
        if self._store.rows("SELECT 1 FROM waiting WHERE txid = ?", txid):
            return HistoryStatus.WAITING
        return _STATUS_OF[OutgoingState(made[0][2])] if made else HistoryStatus.GONE

    def _coin_time(self, txid: bytes) -> int | None:
        rows = self._store.rows("SELECT max(time_ms) FROM coins WHERE txid = ?", txid)
        found: int | None = rows[0][0]
        return found

    # Reading

    def page(
        self, wanted: HistoryFilter, limit: int, *, offset: int = 0, after: bytes | None = None
    ) -> list[HistoryEntry]:
        """Return entries, what waits first, then from the tip down: `limit` of them, after the
        first `offset` or after the one that `after` names.

        Raises `NothingKnownError` for an `after` that is not there.
        """
        where, arguments = _where(wanted)
        if after is not None:
            place = self._store.rows("SELECT place FROM history WHERE key = ?", after)
            if not place:
                raise NothingKnownError("entry", after)
            where += " AND place <= ? AND (place < ? OR key > ?)"
            arguments = (*arguments, place[0][0], place[0][0], after)
        if wanted.label:
            rows = self._labelled(wanted.label, where, arguments)[offset : offset + limit]
        else:
            rows = self._store.rows(
                f"""SELECT {_COLUMNS} FROM history WHERE status < 2 AND {where}
                    ORDER BY place DESC, key LIMIT ? OFFSET ?""",  # noqa: S608
                *arguments,
                limit,
                offset,
            )
        return [self._entry(row, wanted.account) for row in rows]

    def _labelled(self, text: str, where: str, arguments: Sequence[object]) -> list[Any]:
        rows = []
        for key in self._store.labelled(text):
            rows += self._store.rows(
                f"""SELECT {_COLUMNS}, place FROM history
                    WHERE status < 2 AND key = ? AND {where}""",  # noqa: S608
                key,
                *arguments,
            )
        rows.sort(key=lambda row: (-row[-1], row[0]))
        return [row[:-1] for row in rows]

    def mined(self, wanted: HistoryFilter, limit: int, offset: int = 0) -> list[MinedDay]:
        """Return what was mined on each day (UTC), the latest first; kinds and label of the filter
        do not matter."""
        where, arguments = _where(
            msgspec.structs.replace(wanted, kinds=(HistoryKind.MINED,), label="")
        )
        rows = self._store.rows(
            f"""SELECT time_ms / {DAY_MS}, max(time_ms), count(*), sum(received), min(height),
                    max(height)
                FROM history WHERE status < 2 AND {where}
                GROUP BY 1 ORDER BY 1 DESC LIMIT ? OFFSET ?""",  # noqa: S608
            *arguments,
            limit,
            offset,
        )
        return [MinedDay(day * DAY_MS, *rest) for day, *rest in rows]

    def entry(self, key: bytes) -> HistoryEntry:
        """Return one entry, however it stands. Raises `NothingKnownError`."""
        rows = self._store.rows(f"SELECT {_COLUMNS} FROM history WHERE key = ?", key)  # noqa: S608
        if not rows:
            raise NothingKnownError("transfer", key)
        return self._entry(rows[0], None)

    def changed_since(self, sequence: int, limit: int) -> list[HistoryEntry]:
        """Return the entries that stand otherwise since an event of the log, as they are now,
        those first that have done so for the longest."""
        rows = self._store.rows(
            f"SELECT {_COLUMNS} FROM history WHERE changed > ? ORDER BY changed LIMIT ?",  # noqa: S608
            sequence,
            limit,
        )
        return [self._entry(row, None) for row in rows]

    def _entry(self, row: Any, account: int | None) -> HistoryEntry:
        key, changed = row[0], row[8]
        state = _state(row[1:8])
        store = self._store
        if account is not None and state.account is None:
            state = self._of_account(key, state, account)
        if state.kind is HistoryKind.MINED:
            label = store.label("coin", key)
            return _entry(key, state, changed, None, label, (), (), ())
        made = store.outgoing_or_none(key)
        known = store.rows("SELECT fee, others FROM transfers WHERE txid = ?", key)
        fee: int | None = known[0][0] if known else None
        payees: tuple[Payee, ...] = ()
        if made is not None:
            # handed in for others, it pays this wallet, and the rest concerns them
            fee, payees = made.fee, () if state.kind is HistoryKind.RECEIVED else made.payees
        elif state.sent and (kept := store.kept_payees(key)) is not None:
            # signed here, and sent elsewhere
            payees = kept.payees
        elif known and state.sent:
            payees = tuple(_paid(_others.decode(known[0][1])))
        return _entry(
            key,
            state,
            changed,
            fee if state.sent or made is not None else None,
            store.label("transfer", key),
            payees,
            *store.memos_and_tags(key),
        )

    def _of_account(self, txid: bytes, state: _State, account: int) -> _State:
        """Return what an entry is to one of the accounts that it touches."""
        received = self._store.rows(
            "SELECT sum(value) FROM coins WHERE txid = ? AND txid != x'' AND account = ?",
            txid,
            account,
        )
        spent = self._store.rows(
            """SELECT sum(value) FROM coins WHERE account = ? AND (spent_by = ?
               OR coin_id IN (SELECT coin_id FROM uses WHERE txid = ?))""",
            account,
            txid,
            txid,
        )
        got, gave = received[0][0] or 0, spent[0][0] or 0
        kind = state.kind if gave else HistoryKind.RECEIVED
        return msgspec.structs.replace(state, kind=kind, received=got, sent=gave, account=account)


def _entry(
    key: bytes,
    state: _State,
    changed: int,
    fee: int | None,
    label: str,
    payees: tuple[Payee, ...],
    memos: tuple[bytes, ...],
    tags: tuple[bytes, ...],
) -> HistoryEntry:
    return HistoryEntry(
        key,
        state.kind,
        state.status,
        state.height,
        state.time_ms,
        state.received,
        state.sent,
        fee,
        state.account,
        label,
        payees,
        memos,
        tags,
        changed,
    )


def _where(wanted: HistoryFilter) -> tuple[str, tuple[object, ...]]:
    """Return the condition of a filter, its label apart, and what belongs into it."""
    kinds = ", ".join(str(int(kind)) for kind in wanted.kinds) or "NULL"
    parts = [f"kind IN ({kinds})"]
    arguments: list[object] = []
    for sql, value in (("time_ms >= ?", wanted.since_ms), ("time_ms < ?", wanted.until_ms)):
        if value is not None:
            parts.append(sql)
            arguments.append(value)
    if wanted.account is not None:
        parts.append(
            """(account = ? OR account IS NULL AND EXISTS (SELECT 1 FROM coins
            WHERE (txid = key OR spent_by = key AND spent_height IS NOT NULL
                OR coin_id IN (SELECT coin_id FROM uses WHERE uses.txid = key))
            AND coins.account = ?))"""
        )
        arguments += [wanted.account, wanted.account]
    return " AND ".join(parts), tuple(arguments)


def _state(row: Sequence[Any]) -> _State:
    return _State(HistoryKind(row[0]), HistoryStatus(row[1]), *row[2:7])


def _place(state: _State) -> int:
    return _WAITING_PLACE if state.height is None else state.height


def _order(step: tuple[bytes, _State | None, _State]) -> tuple[bool, int, bool, bytes]:
    """Return what changes are told by: what was undone first, from the highest anchor down, then in
    the order of the chain, then what is not expected any more, then what waits."""
    key, old, new = step
    undone = _undone_height(old, new)
    place = _place(new) if undone is None else -undone
    return undone is None, place, new.status is HistoryStatus.WAITING, key


def _undone_height(old: _State | None, new: _State) -> int | None:
    """Return at which height it was included before that anchor was undone, None if it was not."""
    return None if old is None or old.height == new.height else old.height


def _change(key: bytes, old: _State | None, new: _State) -> HistoryChange:
    undone = _undone_height(old, new)
    return HistoryChange(key, new.kind, new.status, new.height, undone, new.received, new.sent)


def _paid(others: Iterable[tuple[bytes, int]]) -> Iterator[Payee]:
    for lock, value in others:
        yield Payee(f"{LOCK_PREFIX}{lock.hex()}", value, b"")
