"""What the user adds to what the chain says: labels, and conditions shared with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.wallet.database import Database
from unchained.node.wallet.errors import NoSuchCoinError
from unchained.node.wallet.payment_request import LOCK_PREFIX
from unchained.node.wallet.records import OutgoingNote

_KNOWN: Final[Mapping[str, Sequence[str]]] = {
    "coin": ("SELECT 1 FROM coins WHERE coin_id = ?",),
    "transfer": (
        "SELECT 1 FROM outgoing WHERE txid = ?",
        "SELECT 1 FROM waiting WHERE txid = ?",
        "SELECT 1 FROM coins WHERE txid = ? AND txid != x'' LIMIT 1",
        "SELECT 1 FROM coins WHERE spent_by = ? AND spent_height IS NOT NULL LIMIT 1",
    ),
    "contract": ("SELECT 1 FROM contracts WHERE lock = ?",),
}
"""What shows that the wallet knows something of a kind."""

UNCONFIRM: Final = (
    "UPDATE OR REPLACE labels SET kind = 'unconfirmed ' || kind WHERE kind IN ('payee', 'contract')"
)
"""What a backup's payees and labels of contracts become: whoever had the backup in hand can have
written them, for what seals them follows from the view key, which stands in it in clear."""

PAYEES: Final = "payees"
"""The kind of row that keeps whom a transfer pays that is signed here and may be sent elsewhere."""

UNSENT_KEPT: Final = 1_000
"""Transfers that were prepared or signed and that nobody has sent, whose payees are kept: the
oldest go."""

TURN_MAX: Final = 2**62
"""What no count of them reaches."""


class _Kept(OutgoingNote, array_like=True, frozen=True, gc=False):
    """What is kept of a transfer that others may send: those of a later `turn` came later."""

    turn: Annotated[int, msgspec.Meta(ge=0, le=TURN_MAX)] = 0


_kept = msgspec.msgpack.Decoder(_Kept)
_text = msgspec.msgpack.Decoder(str)
_condition_and_salt = msgspec.msgpack.Decoder(tuple[bytes, bytes])


def unconfirmed(kind: str) -> str:
    """Return of what kind a label is that came out of a backup, where it names whom to pay."""
    return f"unconfirmed {kind}"


class UserRecords(Database):
    """The part of a wallet's file that no chain could bring back."""

    def label(self, kind: str, key: bytes) -> str:
        """Return the label of a coin, transfer, address or contract; empty if it has none."""
        rows = self.rows("SELECT secret FROM labels WHERE kind = ? AND key = ?", kind, key)
        if not rows:
            return ""
        return self.sealer.unseal(rows[0][0], key, _text)

    def contract_label(self, lock: bytes) -> tuple[str, bool]:
        """Return the label of a contract, and whether the user gave it: one out of a backup, whose
        contract may be anybody's, is not confirmed."""
        if label := self.label("contract", lock):
            return label, True
        label = self.label(unconfirmed("contract"), lock)
        return label, not label

    def labelled(self, text: str) -> list[bytes]:
        """Return the ids of coins and transfers whose labels have a text in them, in whatever
        case."""
        rows = self.rows("SELECT key, secret FROM labels WHERE kind IN ('coin', 'transfer')")
        wanted = text.casefold()
        return [
            key
            for key, secret in rows
            if wanted in self.sealer.unseal(secret, key, _text).casefold()
        ]

    def check_not_frozen(self, coin_ids: Sequence[bytes]) -> None:
        """Raise `NoSuchCoinError` where the user keeps one of some coins back."""
        for coin_id in coin_ids:
            if self.rows("SELECT 1 FROM frozen WHERE coin_id = ?", coin_id):
                raise NoSuchCoinError(f"coin {coin_id.hex()} is frozen: a token does not spend it")

    def knows(self, kind: str, key: bytes) -> bool:
        """Return whether there is such a coin, transfer (by its txid) or contract (by its lock)."""
        return any(self.rows(sql, key) for sql in _KNOWN[kind])

    def set_label(self, kind: str, key: bytes, text: str) -> None:
        """Label a coin, transfer, address or contract; an empty text takes the label away."""
        with self.transaction():
            self.run(
                "DELETE FROM labels WHERE kind IN (?, ?) AND key = ?", kind, unconfirmed(kind), key
            )
            if text:
                sealed = self.sealer.seal(text, key)
                self.run("INSERT INTO labels VALUES (?, ?, ?)", kind, key, sealed)

    def kept_payees(self, txid: bytes) -> OutgoingNote | None:
        """Return what was kept of whom a transfer pays that others may have sent."""
        rows = self.rows("SELECT secret FROM labels WHERE kind = ? AND key = ?", PAYEES, txid)
        return self.sealer.unseal(rows[0][0], txid, _kept) if rows else None

    def keep_payees(self, txid: bytes, note: OutgoingNote) -> None:
        """Keep whom a transfer pays that others may send, unless what is kept names more; of those
        that nobody has sent the latest are kept."""
        with self.transaction():
            old = self.kept_payees(txid)
            if old is not None and _said(old) > _said(note):
                return
            rows = self.rows(
                """SELECT key, secret FROM labels WHERE kind = ? AND key != ?
                   AND key NOT IN (SELECT txid FROM transfers)""",
                PAYEES,
                txid,
            )
            unsent = sorted((self.sealer.unseal(raw, key, _kept).turn, key) for key, raw in rows)
            self.run_many(
                "DELETE FROM labels WHERE kind = ? AND key = ?",
                [(PAYEES, key) for _, key in unsent[: len(unsent) - UNSENT_KEPT + 1]]
                if len(unsent) >= UNSENT_KEPT
                else [],
            )
            turn = min(unsent[-1][0] + 1, TURN_MAX) if unsent else 0
            kept = _Kept(note.payees, note.change, note.secrets, turn)
            sealed = self.sealer.seal(kept, txid)
            self.run("INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", PAYEES, txid, sealed)

    def request(self, request_id: str) -> tuple[bytes, bytes] | None:
        """Return what was asked under an id, as a digest, and the txid that came of it."""
        rows = self.rows("SELECT digest, txid FROM requests WHERE id = ?", request_id)
        return rows[0] if rows else None

    def put_request(self, request_id: str, digest: bytes, txid: bytes) -> None:
        """Note what was asked under an id, and the transfer that comes of it."""
        self.run("INSERT INTO requests VALUES (?, ?, ?)", request_id, digest, txid)

    def put_contract(self, lock: bytes, condition: bytes, salt: bytes, created_ms: int) -> None:
        """Watch a condition shared with others."""
        self.run(
            "INSERT OR IGNORE INTO contracts VALUES (?, ?, ?, x'')",
            lock,
            self.sealer.seal((condition, salt), lock),
            created_ms,
        )

    def contracts(self) -> list[tuple[bytes, bytes, bytes, bytes]]:
        """Return lock, condition, salt and known preimage of each watched condition, by age."""
        rows = self.rows("SELECT lock, secret, preimage FROM contracts ORDER BY created_ms, lock")
        return [
            (lock, *self.sealer.unseal(secret, lock, _condition_and_salt), preimage)
            for lock, secret, preimage in rows
        ]

    def put_preimage(self, lock: bytes, preimage: bytes) -> None:
        """Keep the preimage of a watched condition's hash."""
        self.run("UPDATE contracts SET preimage = ? WHERE lock = ?", preimage, lock)


def _said(note: OutgoingNote) -> tuple[int, int, int]:
    """Return how much a note says: how many payees by more than a lock, and by what else."""
    payees = [payee for payee in note.payees if not payee.payee.startswith(LOCK_PREFIX)]
    return len(payees), len(note.secrets), sum(bool(payee.name) for payee in payees)
