"""Deposits: the last millisecond in which an invoice can be paid, and what waits beside a payment
that an anchor includes."""

from __future__ import annotations

import pytest

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.consensus.policy import DUST
from unchained.node.wallet.invoices import InvoicePayment, invoice_request, status_of
from unchained.node.wallet.records import Invoice, InvoiceStatus

UNC = 10**8
END_MS = 5_000


def test_what_waits_does_not_keep_a_paid_invoice_from_its_confirmation() -> None:
    chain = WalletChain()
    buyer = Purse(chain, cheap_wallet("buyer"))
    seller = Purse(chain, cheap_wallet("seller"))
    chain.grow(6, buyer.mine_to)
    buyer.sync()
    invoices = seller.wallet.invoices
    invoice = invoices.add(chain.now_ms)
    paycode = invoice_request(invoice, seller.wallet.account(), REG).payee

    def pay(value: int) -> None:
        buyer.pay(paycode, value)
        seller.sync()
        seller.wallet.note_changes(chain.now_ms)

    pay(UNC)
    chain.grow(1)
    paid_at = chain.height
    buyer.sync()
    pay(DUST)
    found = invoices.get(invoice.tag)
    assert (found.status, found.received, found.pending) == (InvoiceStatus.PAID, UNC, DUST)
    # In the order of the chain, then what waits.
    heights = [payment.height for payment in invoices.payments(invoice.tag)]
    assert heights == [paid_at, None]
    assert invoices.unconfirmed().invoices == ((found, paid_at),)


@pytest.mark.parametrize("end", ["expires", "cancelled"])
def test_an_invoice_can_be_paid_until_the_last_millisecond_of_its_time(end: str) -> None:
    expires, cancelled = (END_MS, None) if end == "expires" else (None, END_MS)
    invoice = Invoice(
        b"12345678", 0, UNC, "", 1, 0, expires, cancelled, InvoiceStatus.OPEN, 0, 0, confirmed=False
    )
    over = InvoiceStatus.EXPIRED if end == "expires" else InvoiceStatus.CANCELLED

    def status(seen_ms: int) -> InvoiceStatus:
        payment = InvoicePayment(bytes(32), bytes(32), UNC, 7, seen_ms)
        return status_of(invoice, [payment], END_MS + 1_000)

    assert [status(END_MS + late) for late in (-1, 0, 1)] == [
        InvoiceStatus.PAID,
        InvoiceStatus.PAID,
        InvoiceStatus.PAID_LATE,
    ]
    assert status_of(invoice, [], END_MS) is InvoiceStatus.OPEN
    assert status_of(invoice, [], END_MS + 1) is over
