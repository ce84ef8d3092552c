"""The layout of the file of what a wallet knows (SQLite), and of what is encrypted in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.primitives.hashing import HashContext
from unchained.node.wallet.errors import DAMAGED_HINT, StoreDamagedError

T = TypeVar("T")

WALLET_DB_VERSION: Final = 3
"""Goes up with every change of layout."""

_STORE_KEY: Final = HashContext("wallet store")
_NAME_KEY: Final = HashContext("wallet names")
_NAME: Final = HashContext("wallet name")

ACTIVE: Final = """{txid} IN (
    SELECT txid FROM waiting
    UNION ALL SELECT txid FROM outgoing WHERE height IS NULL AND state = 0
)"""
"""Whether a transfer that is not on the chain is expected there."""

LEAVING: Final = f"""coins.coin_id IN (
    SELECT uses.coin_id FROM uses WHERE {ACTIVE.format(txid="uses.txid")}
)"""  # noqa: S608 - made of constants
"""Whether a coin is spent by a waiting transfer."""

FROZEN: Final = "coins.coin_id IN (SELECT coin_id FROM frozen)"
"""Whether the user keeps a coin back."""

_LOST: Final = f"""(EXISTS (
    SELECT 1 FROM uses JOIN coins USING (coin_id) WHERE uses.txid = outgoing.txid AND (
        coins.spent_height IS NOT NULL AND coins.spent_by != outgoing.txid
        OR coins.height IS NULL AND NOT {ACTIVE.format(txid="coins.txid")}
    )
) OR (
    SELECT count(*) = count(coins.value) AND sum(coins.value) != spends(outgoing.txid, outgoing.raw)
    FROM uses LEFT JOIN coins USING (coin_id) WHERE uses.txid = outgoing.txid
))"""  # noqa: S608 - made of constants
"""Whether a coin that a transfer of the wallet spends is spent otherwise or not there, or all are
there and one is not worth what it was: what a minted coin is worth depends on the chain."""

SETTLE: Final = f"""
UPDATE outgoing SET state = 3 - state
WHERE height IS NULL AND state IN (0, 3) AND (state = 0) = {_LOST}
"""  # noqa: S608 - made of constants
"""Gives up transfers that cannot come any more, and expects those again that can."""

_REQUESTS: Final = (
    "CREATE TABLE requests (id TEXT PRIMARY KEY, digest BLOB NOT NULL, txid BLOB NOT NULL) "
    "WITHOUT ROWID",
    "CREATE INDEX requests_txid ON requests (txid)",
)

_DIRTY_COIN: Final = """
    INSERT INTO dirty VALUES (
        CASE {row}.txid WHEN x'' THEN {row}.coin_id ELSE {row}.txid END
    );
    INSERT INTO dirty SELECT {row}.spent_by WHERE {row}.spent_by != x'';
    INSERT INTO dirty_tags SELECT {row}.tag WHERE {row}.tag != x'';
"""
_DIRTY_TRANSFER: Final = """
    INSERT INTO dirty VALUES ({row}.txid);
    INSERT INTO dirty_tags SELECT tag FROM coins WHERE txid = {row}.txid AND tag != x'';
"""


def _trigger(table: str, change: str, said: str, *rows: str, when: str = "") -> str:
    """Return the trigger that marks what a change of a row may concern, by the `OLD` row, the `NEW`
    one or both."""
    name = f"{table}_{change.partition(' ')[0].lower()}"
    marks = "".join(said.format(row=row) for row in rows)
    return f"CREATE TRIGGER {name} AFTER {change} ON {table} {when} BEGIN {marks} END"


_HISTORY: Final = (
    "ALTER TABLE coins ADD COLUMN tag BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE coins ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX coins_tag ON coins (tag) WHERE tag != x''",
    """CREATE TABLE transfers (
        txid BLOB PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        fee INTEGER NOT NULL,
        others BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE history (
        key BLOB PRIMARY KEY,
        kind INTEGER NOT NULL,
        status INTEGER NOT NULL,
        place INTEGER NOT NULL,
        height INTEGER,
        time_ms INTEGER,
        received INTEGER NOT NULL,
        sent INTEGER NOT NULL,
        account INTEGER,
        changed INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX history_place ON history (place DESC, key) WHERE status < 2",
    """CREATE INDEX history_mined ON history (time_ms, received, account)
        WHERE kind = 0 AND status < 2""",
    "CREATE INDEX history_changed ON history (changed)",
    """CREATE TABLE invoices (
        tag BLOB PRIMARY KEY,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER,
        cancelled_ms INTEGER,
        status INTEGER NOT NULL,
        received INTEGER NOT NULL,
        pending INTEGER NOT NULL,
        confirmed INTEGER NOT NULL,
        secret BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX invoices_created ON invoices (created_ms, tag)",
    "CREATE INDEX invoices_due ON invoices (expires_ms) WHERE status < 2",
    """CREATE INDEX invoices_unconfirmed ON invoices (tag)
        WHERE confirmed = 0 AND status IN (2, 3, 5)""",
    """CREATE TABLE wallet_events (
        sequence INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, secret BLOB NOT NULL
    )""",
    "CREATE TABLE dirty (key BLOB NOT NULL)",
    "CREATE TABLE dirty_tags (tag BLOB NOT NULL)",
    _trigger("coins", "INSERT", _DIRTY_COIN, "NEW"),
    _trigger("coins", "DELETE", _DIRTY_COIN, "OLD"),
    _trigger(
        "coins",
        "UPDATE OF height, value, spent_height, spent_by",
        _DIRTY_COIN,
        "OLD",
        "NEW",
        when="""WHEN OLD.height IS NOT NEW.height OR OLD.value != NEW.value
            OR OLD.spent_height IS NOT NEW.spent_height OR OLD.spent_by != NEW.spent_by""",
    ),
    _trigger("waiting", "INSERT", _DIRTY_TRANSFER, "NEW"),
    _trigger("waiting", "DELETE", _DIRTY_TRANSFER, "OLD"),
    _trigger("outgoing", "INSERT", _DIRTY_TRANSFER, "NEW"),
    _trigger("outgoing", "DELETE", _DIRTY_TRANSFER, "OLD"),
    _trigger(
        "outgoing",
        "UPDATE OF height, state",
        _DIRTY_TRANSFER,
        "NEW",
        when="WHEN OLD.height IS NOT NEW.height OR OLD.state != NEW.state",
    ),
)
"""History, invoices and the log of what happened. Whatever may have changed one of them marks it,
in the same transaction, and what is marked is worked out anew later: no way in can forget it.

The statuses are those of `HistoryStatus` and `InvoiceStatus`; the tag of a coin and of an invoice
is a pseudonym that shows nothing without the view key."""

_FIRST: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE anchors (height INTEGER PRIMARY KEY, id BLOB NOT NULL);
CREATE TABLE coins (
    coin_id BLOB PRIMARY KEY,
    account INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    value INTEGER NOT NULL,
    lock BLOB NOT NULL,
    txid BLOB NOT NULL,
    idx INTEGER NOT NULL,
    height INTEGER,
    time_ms INTEGER NOT NULL,
    spent_height INTEGER,
    spent_by BLOB NOT NULL DEFAULT x'',
    secret BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX coins_unspent ON coins (account, value, height, origin, spent_height)
    WHERE spent_height IS NULL AND height IS NOT NULL;
CREATE INDEX coins_height ON coins (height);
CREATE INDEX coins_spent ON coins (spent_height) WHERE spent_height IS NOT NULL;
CREATE INDEX coins_spent_by ON coins (spent_by) WHERE spent_height IS NOT NULL;
CREATE INDEX coins_txid ON coins (txid) WHERE txid != x'';
CREATE TABLE uses (
    coin_id BLOB NOT NULL, txid BLOB NOT NULL, PRIMARY KEY (coin_id, txid)
) WITHOUT ROWID;
CREATE INDEX uses_txid ON uses (txid);
CREATE TABLE waiting (txid BLOB PRIMARY KEY, wid BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX waiting_wid ON waiting (wid);
CREATE TABLE outgoing (
    txid BLOB PRIMARY KEY,
    wid BLOB NOT NULL,
    raw BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    height INTEGER,
    state INTEGER NOT NULL,
    replaces BLOB NOT NULL,
    secret BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX outgoing_height ON outgoing (height);
CREATE INDEX outgoing_active ON outgoing (txid) WHERE height IS NULL AND state = 0;
CREATE TABLE frozen (coin_id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE labels (
    kind TEXT NOT NULL, key BLOB NOT NULL, secret BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE contracts (
    lock BLOB PRIMARY KEY,
    secret BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    preimage BLOB NOT NULL
) WITHOUT ROWID;
"""

SCHEMA: Final = ";".join((*_REQUESTS, _FIRST, *_HISTORY)) + ";"
"""Every table. A `secret` column is a sealed MessagePack value; all else is on the chain or says
nothing about its owner but that these coins are his."""

SCHEMAS: Final[Mapping[int, str]] = {
    0: "",
    1: _FIRST,
    2: ";".join((*_REQUESTS, _FIRST)),
    WALLET_DB_VERSION: SCHEMA,
}
"""What a file holds by its version; that of a file that is made has none yet."""

TO_VERSION_2: Final = (
    *_REQUESTS,
    "DELETE FROM anchors",
    "DELETE FROM coins",
    "DELETE FROM uses",
    "DELETE FROM waiting",
    "DELETE FROM frozen",
    "DELETE FROM meta WHERE name NOT IN ('network', 'owner')",
    "UPDATE outgoing SET height = NULL, state = 1",
)
"""Forgets what a chain of version 1 said, which is no more, and keeps what the owner did: labels,
contracts, and whom transfers paid. Notes of version 1 carried no tag."""

TO_VERSION_3: Final = (
    *_HISTORY,
    "UPDATE coins SET seen_ms = time_ms",
    """INSERT INTO dirty
        SELECT CASE txid WHEN x'' THEN coin_id ELSE txid END FROM coins
        UNION SELECT spent_by FROM coins WHERE spent_by != x''
        UNION SELECT txid FROM outgoing UNION SELECT txid FROM waiting""",
)
"""Works out the history of what is known. No wallet of version 2 made paycodes with a tag."""

LAST_EVENT: Final = "last event"
"""What the number of the last entry of the log is kept under."""

NAME_KINDS: Final = """UPDATE history SET kind = 4 WHERE kind = 2 AND sent = 0 AND received = 0
    AND key IN (SELECT txid FROM outgoing)"""
"""Calls what was sent of a contract alone what it is: earlier programs of this layout noted it as a
payment of nothing. Nothing has happened to it, so no log tells it."""

_TAG: Final = HashContext("wallet tag")


class Sealer:
    """Seals what the chain does not show, under a key that follows from the view key."""

    __slots__ = ("_cipher", "_names", "_randomness", "_seed")

    def __init__(self, view_seed: bytes, randomness: Randomness = SYSTEM) -> None:
        self._names = _NAME_KEY(view_seed)
        self._cipher = ChaCha20Poly1305(_STORE_KEY(view_seed))
        self._randomness = randomness
        self._seed = view_seed

    def pseudonym(self, tag: bytes) -> bytes:
        """Return what stands for a tag in a column, 16 bytes; empty for none."""
        return _TAG(self._seed + tag)[:16] if any(tag) else b""

    def key_of(self, name: str) -> bytes:
        """Return the key of a row that is found by a name, and does not show it."""
        return _NAME(self._names + name.encode())[:16]

    def seal(self, value: object, bound_to: bytes) -> bytes:
        """Return the sealed bytes of a value, which open only beside the same key of a row."""
        nonce = self._randomness.token_bytes(12)
        return nonce + self._cipher.encrypt(nonce, msgspec.msgpack.encode(value), bound_to)

    def unseal(self, sealed: bytes, bound_to: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
        """Return the value that was sealed; whoever has the view key can seal any bytes. Raises
        `StoreDamagedError`."""
        try:
            raw = self._cipher.decrypt(sealed[:12], sealed[12:], bound_to)
            return decoder.decode(raw)
        except (InvalidTag, TypeError, ValueError, msgspec.MsgspecError):
            # TypeError: SQLite holds text in a column of bytes, if somebody has put it there
            raise StoreDamagedError(
                f"the wallet's .db file was written by another wallet or is damaged: {DAMAGED_HINT}"
            ) from None
