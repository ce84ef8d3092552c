"""wallet.*: deposits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.base.clock import Clock
from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import WalletRefusedError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Amount
from unchained.node.rpc.methods.history_shapes import (
    INVOICE_STATUSES,
    InvoiceId,
    InvoiceInfo,
    InvoicePaymentInfo,
    InvoiceStatusName,
)
from unchained.node.rpc.methods.parameters import Limit, Offset
from unchained.node.rpc.methods.votes import Confirmations, anchors_at, votes_at
from unchained.node.rpc.methods.wallet_shapes import Account, WalletName
from unchained.node.wallet.invoices import (
    DEFAULT_CONFIRMATIONS,
    InvoicePayment,
    invoice_request,
    paid_height,
)
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.payment_request import LABEL_CHARS_MAX, PaymentRequest
from unchained.node.wallet.records import Invoice
from unchained.node.wallet.wallet import Wallet

INVOICE_SECONDS: Final = 86_400
"""Until an invoice expires unless it says otherwise: a day."""

PAYMENTS_SHOWN: Final = 100
"""Payments of an invoice that are told one by one: whoever has its paycode can make more."""

InvoiceLabel = Annotated[
    str, msgspec.Meta(max_length=LABEL_CHARS_MAX, description="what it is for; the payer sees it")
]
InvoiceLife = Annotated[
    int, msgspec.Meta(ge=1, le=2**31, description="seconds until it expires; null: never")
]


class _Looked(msgspec.Struct, frozen=True):
    """Invoices, what asks for each and what was paid to it; and height and id of the last anchor
    that the wallet had read then."""

    invoices: list[tuple[Invoice, PaymentRequest, list[InvoicePayment]]]
    last: tuple[int, bytes] | None


class InvoiceRoom:
    """Methods that ask for payments and say what came of it."""

    def __init__(self, wallets: WalletManager, queries: Confirmations, clock: Clock) -> None:
        self._wallets = wallets
        self._queries = queries
        self._clock = clock

    @method("wallet.invoice", Access.FULL, scope=Scope.INVOICE, errors=(WalletRefusedError,))
    @user_text(
        """Ask for a payment: make a paycode of its own for it, to which payments are booked.

        What was seen until it expires pays it in time, also where the anchor comes later.
        """
    )
    async def make(
        self,
        amount: Annotated[Amount, msgspec.Meta(description="how much; left out: any")]
        | None = None,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        label: InvoiceLabel = "",
        seconds: InvoiceLife | None = INVOICE_SECONDS,
        confirmations: Annotated[
            int, msgspec.Meta(ge=1, le=1_000_000, description="votes after which it is confirmed")
        ] = DEFAULT_CONFIRMATIONS,
        account: Account = 0,
        invoice: Annotated[
            InvoiceId, msgspec.Meta(description="of one from before a restore: make it again")
        ]
        | None = None,
    ) -> InvoiceInfo:
        now_ms = self._clock.now_ms()

        def work(opened: Wallet) -> _Looked:
            # what no payment URI can ask for is no invoice
            with opened.store.transaction():
                made = opened.invoices.add(
                    now_ms,
                    account=opened.account_index(account),
                    amount=None if amount is None else int(amount),
                    label=label,
                    confirmations=confirmations,
                    expires_ms=None if seconds is None else now_ms + 1_000 * seconds,
                    tag=None if invoice is None else bytes.fromhex(invoice),
                )
                return _look(opened, [made])

        return (await self._describe(await self._wallets.change(wallet, work)))[0]

    @method("wallet.invoices", Access.FULL, scope=Scope.INVOICE, errors=(WalletRefusedError,))
    @user_text("Return a wallet's invoices and the payments to each, the latest invoice first.")
    async def list_(
        self,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        status: Annotated[
            list[InvoiceStatusName],
            msgspec.Meta(max_length=len(INVOICE_STATUSES), description="those alone; empty: all"),
        ] = [],  # noqa: B006 - msgspec copies it
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> list[InvoiceInfo]:
        wanted = [INVOICE_STATUSES[name] for name in status] or list(INVOICE_STATUSES.values())

        def work(opened: Wallet) -> _Looked:
            return _look(opened, opened.invoices.page(wanted, limit, offset))

        return await self._describe(await self._wallets.change(wallet, work))

    @method("wallet.get_invoice", Access.FULL, scope=Scope.INVOICE, errors=(WalletRefusedError,))
    @user_text("Return one invoice and the payments to it.")
    async def get(self, invoice: InvoiceId, wallet: WalletName = DEFAULT_WALLET) -> InvoiceInfo:
        def work(opened: Wallet) -> _Looked:
            return _look(opened, [opened.invoices.get(bytes.fromhex(invoice))])

        return (await self._describe(await self._wallets.change(wallet, work)))[0]

    @method("wallet.cancel_invoice", Access.FULL, scope=Scope.INVOICE, errors=(WalletRefusedError,))
    @user_text(
        """Expect nothing more for an invoice that is not paid.

        What is paid to it all the same is the wallet's, and booked as late.
        """
    )
    async def cancel(self, invoice: InvoiceId, wallet: WalletName = DEFAULT_WALLET) -> InvoiceInfo:
        now_ms = self._clock.now_ms()

        def work(opened: Wallet) -> _Looked:
            return _look(opened, [opened.invoices.cancel(bytes.fromhex(invoice), now_ms)])

        return (await self._describe(await self._wallets.change(wallet, work)))[0]

    async def _describe(self, looked: _Looked) -> list[InvoiceInfo]:
        completed = [
            paid_height(invoice, payments) if invoice.status.is_paid else None
            for invoice, _, payments in looked.invoices
        ]
        heights = [payment.height for _, _, payments in looked.invoices for payment in payments]
        votes = dict(
            zip(
                (wanted := [*completed, *heights]),
                await votes_at(self._queries, looked.last, wanted),
                strict=True,
            )
        )
        return [
            InvoiceInfo.of(
                invoice,
                request,
                [
                    InvoicePaymentInfo.of(payment, votes[payment.height])
                    for payment in payments[:PAYMENTS_SHOWN]
                ],
                received_confirmed=sum(
                    payment.value
                    for payment in payments
                    if votes[payment.height] >= invoice.confirmations
                ),
                more_payments=max(0, len(payments) - PAYMENTS_SHOWN),
                confirmations=votes[height],
                anchors=anchors_at(looked.last, height),
            )
            for (invoice, request, payments), height in zip(looked.invoices, completed, strict=True)
        ]


def _look(wallet: Wallet, found: Sequence[Invoice]) -> _Looked:
    return _Looked(
        [
            (
                invoice,
                invoice_request(invoice, wallet.account(invoice.account), wallet.network),
                wallet.invoices.payments(invoice.tag),
            )
            for invoice in found
        ],
        wallet.store.last_anchor(),
    )
