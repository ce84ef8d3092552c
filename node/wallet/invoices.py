"""Deposits: invoices, each with a paycode of its own, and the payments that were made to them.

A payment carries the tag of the paycode that it was made to (Protocol §9), so that a coin says by
itself which invoice it pays. How an invoice stands follows from the coins with its tag and from the
time alone, and so from the chain: what a reorganisation undoes is undone, and nothing is counted
twice. Amounts in grains, times in ms since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from unchained.node.base.randomness import Randomness
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import DUST
from unchained.node.crypto.accounts import WatchAccount
from unchained.node.crypto.addresses import NO_TAG, TAG_SIZE, Paycode, encode_paycode
from unchained.node.primitives.amounts import shortest
from unchained.node.primitives.types import CoinId
from unchained.node.wallet.errors import InvoiceError
from unchained.node.wallet.event_records import EventRecords
from unchained.node.wallet.payment_request import PaymentRequest
from unchained.node.wallet.records import Invoice, InvoiceChange, InvoiceStatus
from unchained.node.wallet.stored_values import told_as_damage
from unchained.node.wallet.tables import ACTIVE
from unchained.node.wallet.wallet_store import WalletStore

DEFAULT_CONFIRMATIONS: Final = 32
"""Votes after which an invoice is confirmed unless it asks for another number."""

UNCONFIRMED_READ: Final = 1_000
"""Paid invoices without their votes that are read at a time."""

_COLUMNS: Final = (
    "tag, created_ms, expires_ms, cancelled_ms, status, received, pending, confirmed, secret"
)
_TO_EXPIRE: Final = f"status < {int(InvoiceStatus.PAID)}"


class _Terms(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an invoice asks for, sealed."""

    tag: bytes
    account: int
    amount: int | None
    label: str
    confirmations: int


_terms = msgspec.msgpack.Decoder(_Terms)


class InvoicePayment(msgspec.Struct, frozen=True, gc=False):
    """A coin that was paid to an invoice. `height` None while it waits; `seen_ms` is when this
    wallet first saw it, or the time of its anchor where it never saw it wait."""

    coin_id: bytes
    txid: bytes
    value: int
    height: int | None
    seen_ms: int


class Unconfirmed(msgspec.Struct, frozen=True, gc=False):
    """Paid invoices that have not had the votes that they ask for, each with the height of the
    anchor whose votes confirm it (`paid_height`). `after`: where to read on, None if these are the
    last. `last` is the id of the last anchor that the wallet had read then, None if there was
    none."""

    invoices: tuple[tuple[Invoice, int], ...] = ()
    after: bytes | None = None
    last: CoinId | None = None


class InvoiceBook:
    """The invoices of one wallet. Methods block, and may be called from any thread."""

    def __init__(self, store: WalletStore, events: EventRecords, randomness: Randomness) -> None:
        self._store = store
        self._events = events
        self._randomness = randomness

    def _new_tag(self) -> bytes:
        # Protocol §9: a tag is 8 random bytes, not zero
        while (tag := self._randomness.token_bytes(TAG_SIZE)) == NO_TAG or self._row(tag):
            pass
        return tag

    def add(
        self,
        now_ms: int,
        *,
        account: int = 0,
        amount: int | None = None,
        label: str = "",
        confirmations: int = DEFAULT_CONFIRMATIONS,
        expires_ms: int | None = None,
        tag: bytes | None = None,
    ) -> Invoice:
        """Make an invoice, or with the `tag` of one from before a restore that one again, with what
        has been paid to it. Raises `InvoiceError`."""
        tag = self._new_tag() if tag is None else tag
        if len(tag) != TAG_SIZE or tag == NO_TAG:
            raise InvoiceError(f"an invoice is named by {TAG_SIZE} bytes that are not all zero")
        if amount is not None and amount < DUST:
            raise InvoiceError(
                f"an invoice is for at least {shortest(DUST)} UNC: less is not relayed"
            )
        store = self._store
        key = store.sealer.pseudonym(tag)
        with store.transaction():
            if self._row(tag):
                raise InvoiceError(f"there is an invoice {tag.hex()} already")
            terms = _Terms(tag, account, amount, label, confirmations)
            store.run(
                "INSERT INTO invoices VALUES (?, ?, ?, NULL, 0, 0, 0, 0, ?)",
                key,
                now_ms,
                expires_ms,
                store.sealer.seal(terms, key),
            )
            self._events.append([_change(self.get(tag))], now_ms)
            self._note_one(key, now_ms)
            return self.get(tag)

    def cancel(self, tag: bytes, now_ms: int) -> Invoice:
        """Expect nothing more for an invoice; what comes all the same is booked as late.

        Raises `InvoiceError` for one that is not there, is paid or cancelled.
        """
        key = self._store.sealer.pseudonym(tag)
        with self._store.transaction():
            found = self.get(tag)
            if found.status is not InvoiceStatus.CANCELLED:
                self._note_one(key, now_ms)
                found = self.get(tag)
            if found.status.is_paid or found.status is InvoiceStatus.CANCELLED:
                raise InvoiceError(
                    f"invoice {tag.hex()} is {found.status.name.lower().replace('_', ' ')}: it "
                    "cannot be cancelled"
                )
            self._store.run("UPDATE invoices SET cancelled_ms = ? WHERE tag = ?", now_ms, key)
            self._note_one(key, now_ms + 1)
            return self.get(tag)

    # How they stand

    def note(self, now_ms: int) -> int:
        """Work out anew how invoices stand that a change or the time may have touched, and log what
        stands otherwise; return how many that are."""
        store = self._store
        with store.transaction():
            keys = {key for (key,) in store.rows("SELECT tag FROM dirty_tags")}
            keys |= {
                key
                for (key,) in store.rows(
                    f"SELECT tag FROM invoices WHERE {_TO_EXPIRE} AND expires_ms < ?",  # noqa: S608
                    now_ms,
                )
            }
            if not keys:
                return 0
            changed = [change for key in sorted(keys) if (change := self._work_out(key, now_ms))]
            self._events.append(changed, now_ms)
            store.run("DELETE FROM dirty_tags")
        return len(changed)

    def _note_one(self, key: bytes, now_ms: int) -> None:
        # the others only with the chain that the wallet has read by that time
        if changed := self._work_out(key, now_ms):
            self._events.append([changed], now_ms)

    def next_expiry_ms(self) -> int | None:
        """Return when the next invoice expires, None if none does."""
        rows = self._store.rows(
            f"SELECT min(expires_ms) FROM invoices WHERE {_TO_EXPIRE}"  # noqa: S608
        )
        found: int | None = rows[0][0]
        return found

    def _work_out(self, key: bytes, now_ms: int) -> InvoiceChange | None:
        rows = self._store.rows(f"SELECT {_COLUMNS} FROM invoices WHERE tag = ?", key)  # noqa: S608
        if not rows:
            return None  # a tag of somebody else's making, or from before a restore
        old = self._invoice(rows[0])
        payments = self.payments(old.tag)
        status = status_of(old, payments, now_ms)
        new = msgspec.structs.replace(
            old,
            status=status,
            received=sum(payment.value for payment in payments if payment.height is not None),
            pending=sum(payment.value for payment in payments if payment.height is None),
            confirmed=old.confirmed and status.is_paid,
        )
        if old.amount is None and new.received > old.received:
            # what has come on top has no votes yet, and is all that such an invoice asks for too
            new = msgspec.structs.replace(new, confirmed=False)
        if new == old:
            return None
        self._store.run(
            """UPDATE invoices SET status = ?, received = ?, pending = ?, confirmed = ?
               WHERE tag = ?""",
            int(new.status),
            new.received,
            new.pending,
            new.confirmed,
            key,
        )
        return _change(msgspec.structs.replace(new, confirmed=False))

    @told_as_damage()
    def unconfirmed(self, after: bytes = b"") -> Unconfirmed:
        """Return some of the paid invoices that have not had the votes that they ask for."""
        rows = self._store.rows(
            f"""SELECT {_COLUMNS} FROM invoices
                WHERE confirmed = 0 AND status IN (2, 3, 5) AND tag > ?
                ORDER BY tag LIMIT ?""",  # noqa: S608
            after,
            UNCONFIRMED_READ,
        )
        found = []
        for row in rows:
            invoice = self._invoice(row)
            height = paid_height(invoice, self.payments(invoice.tag))
            if height is not None:
                found.append((invoice, height))
        last = self._store.last_anchor()
        return Unconfirmed(
            tuple(found),
            rows[-1][0] if len(rows) == UNCONFIRMED_READ else None,
            None if last is None else CoinId(last[1]),
        )

    @told_as_damage()
    def confirm(self, heights: Mapping[bytes, int], now_ms: int) -> None:
        """Note that paid invoices have the votes that they ask for, each up to a height; not those
        that were paid only above it, by what has come or moved since the votes were counted."""
        with self._store.transaction():
            changes = []
            for tag, height in heights.items():
                key = self._store.sealer.pseudonym(tag)
                payments = self.payments(tag)
                paid_at = paid_height(self.get(tag), payments)
                if paid_at is None or paid_at > height:
                    continue
                if self._store.run(
                    """UPDATE invoices SET confirmed = 1
                       WHERE tag = ? AND confirmed = 0""",
                    key,
                ):
                    changes.append(_change(self.get(tag), _received_up_to(payments, height)))
            self._events.append(changes, now_ms)

    # Reading

    def payments(self, tag: bytes, limit: int = 2**31) -> list[InvoicePayment]:
        """Return what was paid to an invoice, in the order of the chain, then what waits: at most
        `limit` of the first."""
        rows = self._store.rows(
            f"""SELECT coin_id, txid, value, height, seen_ms FROM coins
                WHERE tag = ? AND tag != x'' AND account >= 0
                AND (height IS NOT NULL OR {ACTIVE.format(txid="coins.txid")})
                ORDER BY height IS NULL, height, seen_ms, coin_id LIMIT ?""",  # noqa: S608
            self._store.sealer.pseudonym(tag),
            limit,
        )
        return [InvoicePayment(*row) for row in rows]

    def get(self, tag: bytes) -> Invoice:
        """Return one invoice. Raises `InvoiceError`."""
        rows = self._row(tag)
        if not rows:
            raise InvoiceError(f"the wallet has no invoice {tag.hex()}")
        return self._invoice(rows[0])

    def page(self, statuses: Sequence[InvoiceStatus], limit: int, offset: int = 0) -> list[Invoice]:
        """Return invoices of some statuses, the latest first."""
        wanted = ", ".join(str(int(status)) for status in statuses) or "NULL"
        rows = self._store.rows(
            f"""SELECT {_COLUMNS} FROM invoices WHERE status IN ({wanted})
                ORDER BY created_ms DESC, tag DESC LIMIT ? OFFSET ?""",  # noqa: S608
            limit,
            offset,
        )
        return [self._invoice(row) for row in rows]

    def _row(self, tag: bytes) -> list[Any]:
        key = self._store.sealer.pseudonym(tag)
        return self._store.rows(f"SELECT {_COLUMNS} FROM invoices WHERE tag = ?", key)  # noqa: S608

    def _invoice(self, row: Any) -> Invoice:
        key, created, expires, cancelled, status, received, pending, confirmed, secret = row
        terms = self._store.sealer.unseal(secret, key, _terms)
        return Invoice(
            terms.tag,
            terms.account,
            terms.amount,
            terms.label,
            terms.confirmations,
            created,
            expires,
            cancelled,
            InvoiceStatus(status),
            received,
            pending,
            bool(confirmed),
        )


def invoice_request(invoice: Invoice, account: WatchAccount, network: Network) -> PaymentRequest:
    """Return what the payer of an invoice is asked for: its paycode pays `account`."""
    paycode = encode_paycode(
        Paycode(network.chain_id, account.key_hash, account.view.public_key, invoice.tag)
    )
    return PaymentRequest.checked(network, paycode, invoice.amount, "", invoice.label)


def status_of(invoice: Invoice, payments: Sequence[InvoicePayment], now_ms: int) -> InvoiceStatus:
    """Return how an invoice stands with these payments: by what an anchor includes. In time is what
    was seen until it expired, also where the anchor came later."""
    included = [payment for payment in payments if payment.height is not None]
    received = sum(payment.value for payment in included)
    ends = [at for at in (invoice.expires_ms, invoice.cancelled_ms) if at is not None]
    end_ms = min(ends, default=None)
    in_time = sum(
        payment.value for payment in included if end_ms is None or payment.seen_ms <= end_ms
    )
    wanted = 1 if invoice.amount is None else invoice.amount
    if in_time >= wanted:
        is_over = invoice.amount is not None and received > invoice.amount
        return InvoiceStatus.OVERPAID if is_over else InvoiceStatus.PAID
    if received >= wanted:
        return InvoiceStatus.PAID_LATE
    if invoice.cancelled_ms is not None and now_ms > invoice.cancelled_ms:
        return InvoiceStatus.CANCELLED
    if end_ms is not None and now_ms > end_ms:
        return InvoiceStatus.EXPIRED
    return InvoiceStatus.PARTLY_PAID if received else InvoiceStatus.OPEN


def paid_height(invoice: Invoice, payments: Sequence[InvoicePayment]) -> int | None:
    """Return the height of the anchor with which all was paid, by payments in the order of the
    chain: more on top of an amount does not make it later; without an amount all that was received
    is asked for, up to the newest. None while it is not paid."""
    if invoice.amount is None:
        return max((it.height for it in payments if it.height is not None), default=None)
    wanted = invoice.amount
    for payment in payments:
        wanted -= payment.value
        if wanted <= 0:
            return payment.height
    return None


def _received_up_to(payments: Sequence[InvoicePayment], height: int) -> int:
    return sum(it.value for it in payments if it.height is not None and it.height <= height)


def _change(invoice: Invoice, received_confirmed: int = 0) -> InvoiceChange:
    return InvoiceChange(
        invoice.tag,
        invoice.status,
        invoice.amount,
        invoice.received,
        invoice.pending,
        invoice.label,
        invoice.confirmed,
        received_confirmed,
    )
