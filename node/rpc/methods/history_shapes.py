"""What the methods of history and invoices take and give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.primitives.amounts import full
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.methods.wallet_shapes import OwnCoin, Paid, memo_text
from unchained.node.wallet.invoices import InvoicePayment
from unchained.node.wallet.payment_request import PaymentRequest
from unchained.node.wallet.records import (
    HistoryEntry,
    HistoryKind,
    HistoryStatus,
    Invoice,
    InvoiceStatus,
    MinedDay,
)
from unchained.node.wallet.summary import fingerprint_of

InvoiceId = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9a-f]{16}$",
        description="the id of an invoice",
        extra={"expected": "16 lower-case hex digits"},
    ),
]
LogId = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9a-f]{16}$",
        description="the `log` of the last answer",
        extra={"expected": "16 lower-case hex digits"},
    ),
]
NetAmount = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,12}\.[0-9]{8}$")]

HistoryKindName = Literal["mined", "received", "paid", "moved", "contract"]
KIND_NAMES: Mapping[HistoryKind, HistoryKindName] = {
    HistoryKind.MINED: "mined",
    HistoryKind.RECEIVED: "received",
    HistoryKind.PAID: "paid",
    HistoryKind.MOVED: "moved",
    HistoryKind.CONTRACT: "contract",
}
HistoryStatusName = Literal["waiting", "included", "abandoned", "replaced", "conflict", "gone"]
_HISTORY_STATUSES: Mapping[HistoryStatus, HistoryStatusName] = {
    HistoryStatus.WAITING: "waiting",
    HistoryStatus.INCLUDED: "included",
    HistoryStatus.ABANDONED: "abandoned",
    HistoryStatus.REPLACED: "replaced",
    HistoryStatus.CONFLICT: "conflict",
    HistoryStatus.GONE: "gone",
}
InvoiceStatusName = Literal[
    "open", "partly_paid", "paid", "overpaid", "expired", "paid_late", "cancelled"
]
INVOICE_STATUSES: Mapping[InvoiceStatusName, InvoiceStatus] = {
    "open": InvoiceStatus.OPEN,
    "partly_paid": InvoiceStatus.PARTLY_PAID,
    "paid": InvoiceStatus.PAID,
    "overpaid": InvoiceStatus.OVERPAID,
    "expired": InvoiceStatus.EXPIRED,
    "paid_late": InvoiceStatus.PAID_LATE,
    "cancelled": InvoiceStatus.CANCELLED,
}
_INVOICE_NAMES = {status: name for name, status in INVOICE_STATUSES.items()}


@user_text(
    """A minted coin (`id` is its own) or a transfer (`id` is its txid) that touched a wallet.
    `amount` is what the wallet has more for it, or less. `kind`: `mined`; `received` of others;
    `paid` to others; `moved` within the wallet; `contract`: sent by it, and of a contract's coins
    alone. `status`: `abandoned`, `replaced`, `conflict` and
    `gone` entries have moved nothing. `fee` is what the wallet paid for it, missing where others
    did; `payees` are locks where the wallet neither made nor signed the transfer; `account` is
    missing where it touched several; `time` where no one noted it. `invoices` are those that it
    paid."""
)
class HistoryItem(msgspec.Struct, frozen=True, omit_defaults=True):
    id: Hash
    kind: HistoryKindName
    status: HistoryStatusName
    amount: NetAmount
    received: Amount
    sent: Amount
    confirmations: int
    label: str
    payees: list[Paid]
    memos: list[str]
    invoices: list[InvoiceId]
    sequence: int
    height: int | None = None
    time: int | None = None
    fee: Amount | None = None
    account: int | None = None

    @classmethod
    def of(cls, entry: HistoryEntry, confirmations: int) -> HistoryItem:
        """Describe an entry."""
        return cls(
            id=Hash(entry.key),
            kind=KIND_NAMES[entry.kind],
            status=_HISTORY_STATUSES[entry.status],
            amount=full(entry.net),
            received=Amount(entry.received),
            sent=Amount(entry.sent),
            confirmations=confirmations,
            label=entry.label,
            payees=[
                Paid(payee.payee, Amount(payee.value), memo_text(payee.memo), payee.name or None)
                for payee in entry.payees
            ],
            memos=[memo_text(memo) for memo in entry.memos],
            invoices=[tag.hex() for tag in entry.tags],
            sequence=entry.changed,
            height=entry.height,
            time=entry.time_ms,
            fee=None if entry.fee is None else Amount(entry.fee),
            account=entry.account,
        )


@user_text(
    """Entries of a history that stand otherwise since a point, each as it is now. `next` is what to
    ask with the next time; `more` says that there are more already. `log` tells the wallet's log
    from every other one: a wallet that is restored begins one anew."""
)
class HistoryPart(msgspec.Struct, frozen=True):
    entries: list[HistoryItem]
    next: int
    more: bool
    log: str


@user_text("What a wallet mined in one day (UTC): `time` is that of the latest coin.")
class MinedDayInfo(msgspec.Struct, frozen=True):
    day: str
    time: int
    coins: int
    amount: Amount
    first_height: int
    last_height: int

    @classmethod
    def of(cls, found: MinedDay, day: str) -> MinedDayInfo:
        """Describe a day, whose date is given."""
        return cls(
            day,
            found.time_ms,
            found.coins,
            Amount(found.received),
            found.first_height,
            found.last_height,
        )


@user_text(
    """A transfer as one of the wallet's: its entry of the history, the transfer that it replaces,
    the coins that it brings to the wallet (`coins`) and those of the wallet that it spends.
    `anchors` counts the one that includes it and those on top."""
)
class WalletTransfer(msgspec.Struct, frozen=True):
    entry: HistoryItem
    anchors: int
    replaces: Hash | None
    coins: list[OwnCoin]
    spent: list[OwnCoin]


@user_text(
    """A payment to an invoice. `height` is missing while it waits; `seen_time` is when this node
    first saw it, or the time of its anchor."""
)
class InvoicePaymentInfo(msgspec.Struct, frozen=True):
    coin: Hash
    txid: Hash
    amount: Amount
    height: int | None
    confirmations: int
    seen_time: int

    @classmethod
    def of(cls, payment: InvoicePayment, confirmations: int) -> InvoicePaymentInfo:
        """Describe a payment."""
        return cls(
            Hash(payment.coin_id),
            Hash(payment.txid),
            Amount(payment.value),
            payment.height,
            confirmations,
            payment.seen_ms,
        )


@user_text(
    """An invoice. `status` and `received` follow from what anchors include; `pending` waits.
    `received_confirmed` is the part of `received` whose votes reach `wanted_confirmations` now.
    `confirmations` are the votes, and `anchors` the anchors, since `amount` was paid; `confirmed`:
    these votes reached `wanted_confirmations` once, whatever has come on top of `amount` since.
    Without `amount` any payment pays it, and all three speak of all of `received`: they begin anew
    with each payment. `text` is the paycode, `uri` the payment URI with it. Without `expires_time`
    it never expires. Of many payments the first are listed, and `more_payments` counts the
    rest."""
)
class InvoiceInfo(msgspec.Struct, frozen=True):
    id: InvoiceId
    status: InvoiceStatusName
    amount: Amount | None
    received: Amount
    received_confirmed: Amount
    pending: Amount
    confirmations: int
    anchors: int
    wanted_confirmations: int
    confirmed: bool
    label: str
    account: int
    created_time: int
    expires_time: int | None
    cancelled_time: int | None
    text: str
    uri: str
    fingerprint: str
    payments: list[InvoicePaymentInfo]
    more_payments: int

    @classmethod
    def of(
        cls,
        invoice: Invoice,
        request: PaymentRequest,
        payments: list[InvoicePaymentInfo],
        *,
        received_confirmed: int,
        more_payments: int,
        confirmations: int,
        anchors: int,
    ) -> InvoiceInfo:
        """Describe an invoice."""
        return cls(
            invoice.tag.hex(),
            _INVOICE_NAMES[invoice.status],
            None if invoice.amount is None else Amount(invoice.amount),
            Amount(invoice.received),
            Amount(received_confirmed),
            Amount(invoice.pending),
            confirmations,
            anchors,
            invoice.confirmations,
            invoice.confirmed,
            invoice.label,
            invoice.account,
            invoice.created_ms,
            invoice.expires_ms,
            invoice.cancelled_ms,
            request.payee,
            request.to_uri(),
            fingerprint_of(request.payee),
            payments,
            more_payments,
        )
