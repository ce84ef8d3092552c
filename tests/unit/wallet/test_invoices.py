"""Deposits: what an invoice is said to have been paid."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.framework.wallets import CHEAP, Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.consensus.policy import DUST
from unchained.node.wallet.errors import InvoiceError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.invoices import invoice_request, paid_height
from unchained.node.wallet.keystore import Keystore, SpendSecret, new_secret
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.payment_request import PaymentRequest
from unchained.node.wallet.records import Invoice, InvoiceChange, InvoiceStatus, Outgoing
from unchained.node.wallet.wallet import Wallet

UNC = 10**8
LATE_MS = 10_000_000


class Shop:
    """Somebody who sells, somebody who buys, and the chain between them."""

    def __init__(self) -> None:
        self.chain = WalletChain()
        self.buyer = Purse(self.chain, cheap_wallet("buyer"))
        self.seller = Purse(self.chain, cheap_wallet("seller"))
        self.chain.grow(6, self.buyer.mine_to)
        self.sync()

    def sync(self) -> None:
        for purse in (self.buyer, self.seller):
            with self.chain.snapshot() as view:
                purse.wallet.catch_up(view, self.chain.now_ms)

    def invoice(self, amount: int | None = UNC, seconds: int | None = 60, **more: int) -> Invoice:
        now_ms = self.chain.now_ms
        expires_ms = None if seconds is None else now_ms + 1_000 * seconds
        return self.seller.wallet.invoices.add(
            now_ms, amount=amount, expires_ms=expires_ms, label="bread", **more
        )

    def pay(self, invoice: Invoice, value: int, rate: int = 1) -> Outgoing:
        wallet = self.seller.wallet
        uri = invoice_request(invoice, wallet.account(), REG).to_uri()
        request = PaymentRequest.from_uri(REG, uri)
        assert (request.value, request.label) == (invoice.amount, "bread")
        sent = self.buyer.pay(request.payee, value, rate=rate)
        self.sync()
        return sent

    def mine(self, count: int = 1) -> None:
        self.chain.grow(count)
        self.sync()

    def standing(self, invoice: Invoice) -> tuple[InvoiceStatus, int, int]:
        found = self.seller.wallet.invoices.get(invoice.tag)
        return found.status, found.received, found.pending

    def events(self) -> list[str]:
        events = self.seller.wallet.events.since(0, 100)
        return [name for one in events if (name := one.change.name).startswith("invoice.")]

    def confirmed_sums(self) -> list[int]:
        """Return what each `invoice.confirmed` says to be confirmed, in grains."""
        return [
            one.change.received_confirmed
            for one in self.seller.wallet.events.since(0, 100)
            if isinstance(one.change, InvoiceChange) and one.change.confirmed
        ]


def test_a_payment_is_booked_once_an_anchor_includes_it() -> None:
    shop = Shop()
    one, other = shop.invoice(), shop.invoice()
    shop.pay(one, UNC)
    assert shop.standing(one) == (InvoiceStatus.OPEN, 0, UNC)
    shop.mine()
    assert shop.standing(one) == (InvoiceStatus.PAID, UNC, 0)
    assert shop.standing(other) == (InvoiceStatus.OPEN, 0, 0)
    assert shop.events() == ["invoice.open", "invoice.open", "invoice.open", "invoice.paid"]
    (received,) = shop.seller.wallet.history()
    assert received.tags == (one.tag,)


def test_in_parts_and_too_much() -> None:
    shop = Shop()
    invoice = shop.invoice()
    shop.pay(invoice, UNC // 2)
    shop.mine()
    assert shop.standing(invoice) == (InvoiceStatus.PARTLY_PAID, UNC // 2, 0)
    shop.pay(invoice, UNC // 2)
    shop.mine(2)
    assert shop.standing(invoice) == (InvoiceStatus.PAID, UNC, 0)
    first = shop.chain.height - 1
    shop.pay(invoice, UNC // 4)
    shop.mine()
    assert shop.standing(invoice) == (InvoiceStatus.OVERPAID, UNC * 5 // 4, 0)
    # more on top does not make it less confirmed
    assert paid_height(invoice, shop.seller.wallet.invoices.payments(invoice.tag)) == first


def test_any_amount_pays_an_invoice_without_one() -> None:
    shop = Shop()
    invoice = shop.invoice(None, None)
    assert shop.seller.wallet.invoices.next_expiry_ms() is None
    shop.pay(invoice, 5_000)
    shop.mine()
    assert shop.standing(invoice) == (InvoiceStatus.PAID, 5_000, 0)


def test_without_an_amount_all_that_was_received_is_confirmed_or_nothing() -> None:
    shop = Shop()
    invoice, book = shop.invoice(None), shop.seller.wallet.invoices
    shop.pay(invoice, 1_000)
    shop.mine()
    ((_, first),) = book.unconfirmed().invoices
    book.confirm({invoice.tag: first}, shop.chain.now_ms)
    assert (book.get(invoice.tag).confirmed, shop.confirmed_sums()) == (True, [1_000])
    shop.pay(invoice, UNC)
    assert book.get(invoice.tag).confirmed, "what waits is not received yet"
    shop.mine()
    assert not book.get(invoice.tag).confirmed
    ((_, second),) = book.unconfirmed().invoices
    assert second == first + 1 == paid_height(invoice, book.payments(invoice.tag))
    # the votes were those of the first payment
    book.confirm({invoice.tag: first}, shop.chain.now_ms)
    assert not book.get(invoice.tag).confirmed
    book.confirm({invoice.tag: second}, shop.chain.now_ms)
    assert (book.get(invoice.tag).confirmed, shop.confirmed_sums()) == (True, [1_000, UNC + 1_000])


def test_what_comes_on_top_of_an_amount_is_not_told_as_confirmed() -> None:
    shop = Shop()
    invoice, book = shop.invoice(), shop.seller.wallet.invoices
    shop.pay(invoice, UNC)
    shop.mine()
    ((_, first),) = book.unconfirmed().invoices
    shop.pay(invoice, UNC // 2)
    shop.mine()
    book.confirm({invoice.tag: first}, shop.chain.now_ms)
    assert shop.standing(invoice) == (InvoiceStatus.OVERPAID, UNC * 3 // 2, 0)
    assert shop.confirmed_sums() == [UNC]
    shop.pay(invoice, UNC // 2)
    shop.mine()
    assert (book.get(invoice.tag).confirmed, shop.confirmed_sums()) == (True, [UNC])


def test_what_nobody_could_pay_is_no_invoice() -> None:
    shop = Shop()
    for amount in (0, 1, DUST - 1):
        with pytest.raises(InvoiceError, match="at least"):
            shop.invoice(amount)
    assert shop.seller.wallet.invoices.page(list(InvoiceStatus), 10) == []
    assert shop.events() == []
    shop.invoice(DUST)


def test_what_was_seen_in_time_pays_in_time() -> None:
    shop = Shop()
    seen, unseen = shop.invoice(), shop.invoice()
    shop.pay(seen, UNC)
    shop.chain.now_ms += LATE_MS
    shop.sync()
    assert shop.standing(seen) == (InvoiceStatus.EXPIRED, 0, UNC)
    shop.mine()
    assert shop.standing(seen) == (InvoiceStatus.PAID, UNC, 0)
    assert shop.standing(unseen) == (InvoiceStatus.EXPIRED, 0, 0)
    shop.pay(unseen, UNC)
    shop.mine()
    assert shop.standing(unseen) == (InvoiceStatus.PAID_LATE, UNC, 0)
    assert shop.events()[-1] == "invoice.paid_late"


def test_a_cancelled_one_expects_nothing() -> None:
    shop = Shop()
    one, paid = shop.invoice(), shop.invoice()
    shop.pay(paid, UNC)
    shop.mine()
    invoices = shop.seller.wallet.invoices
    shop.chain.now_ms += 10
    assert invoices.cancel(one.tag, shop.chain.now_ms).status is InvoiceStatus.CANCELLED
    for wrong, why in ((one.tag, "is cancelled"), (paid.tag, "is paid"), (b"12345678", "no inv")):
        with pytest.raises(InvoiceError, match=why):
            invoices.cancel(wrong, shop.chain.now_ms)
    shop.chain.now_ms += 10
    shop.pay(one, UNC)
    shop.mine()
    assert shop.standing(one) == (InvoiceStatus.PAID_LATE, UNC, 0)
    assert [one.status for one in invoices.page([InvoiceStatus.PAID], 10)] == [InvoiceStatus.PAID]
    assert len(invoices.page(list(InvoiceStatus), 10)) == 2


def test_what_a_reorganisation_undoes_is_undone() -> None:
    shop = Shop()
    invoice = shop.invoice(seconds=None)
    other = shop.chain.fork(shop.chain.height, seed=9)
    shop.pay(invoice, UNC)
    shop.mine()
    assert shop.standing(invoice)[0] is InvoiceStatus.PAID
    shop.seller.wallet.invoices.confirm({invoice.tag: shop.chain.height}, shop.chain.now_ms)
    other.grow(3)
    shop.chain.adopt(other)
    shop.sync()
    assert shop.standing(invoice) == (InvoiceStatus.OPEN, 0, UNC)
    assert not shop.seller.wallet.invoices.get(invoice.tag).confirmed
    shop.mine()
    assert shop.standing(invoice) == (InvoiceStatus.PAID, UNC, 0)
    assert shop.events()[-5:] == [
        "invoice.open",
        "invoice.paid",
        "invoice.confirmed",
        "invoice.open",
        "invoice.paid",
    ]


def test_an_invoice_whose_payment_is_undone_before_it_is_confirmed_is_not_confirmed() -> None:
    shop = Shop()
    invoice = shop.invoice(seconds=None)
    other = shop.chain.fork(shop.chain.height, seed=9)
    shop.pay(invoice, UNC)
    shop.mine()
    ((found, height),) = shop.seller.wallet.invoices.unconfirmed().invoices
    other.grow(3)
    shop.chain.adopt(other)
    shop.sync()
    shop.seller.wallet.invoices.confirm({found.tag: height}, shop.chain.now_ms)
    assert not shop.seller.wallet.invoices.get(invoice.tag).confirmed
    assert "invoice.confirmed" not in shop.events()


def test_replacing_a_payment_does_not_pay_twice() -> None:
    shop = Shop()
    invoice = shop.invoice()
    sent = shop.pay(invoice, UNC)
    shop.buyer.send(shop.buyer.wallet.spender.bump(sent.txid, Fee(9)))
    shop.sync()
    assert shop.standing(invoice) == (InvoiceStatus.OPEN, 0, UNC)
    shop.mine()
    assert shop.standing(invoice) == (InvoiceStatus.PAID, UNC, 0)


def test_restored_from_words_the_tag_tells_which_invoice() -> None:
    shop = Shop()
    invoice = shop.invoice(seconds=None)
    shop.pay(invoice, UNC)
    shop.mine()
    words = shop.seller.wallet.open_secret("pass").mnemonic()
    again = Purse(shop.chain, cheap_wallet(secret=SpendSecret.of(words)))
    again.sync()
    assert again.wallet.history()[0].tags == (invoice.tag,)
    assert again.wallet.invoices.page(list(InvoiceStatus), 10) == []
    found = again.wallet.invoices.add(1, amount=UNC, tag=invoice.tag)
    assert (found.status, found.received) == (InvoiceStatus.PAID, UNC)
    with pytest.raises(InvoiceError, match="already"):
        again.wallet.invoices.add(1, tag=invoice.tag)
    with pytest.raises(InvoiceError, match="not all zero"):
        again.wallet.invoices.add(1, tag=bytes(8))


def test_invoices_live_in_the_file_which_does_not_show_them(tmp_path: Path) -> None:
    secret = new_secret()
    save_new(Keystore.create(REG, secret, "pass", cost=CHEAP), tmp_path, "shop")
    wallet = Wallet.open(tmp_path, "shop", REG)
    made = wallet.invoices.add(5, amount=UNC, label="three loaves", expires_ms=9)
    wallet.close()
    wallet = Wallet.open(tmp_path, "shop", REG)
    assert wallet.invoices.get(made.tag) == made
    wallet.note_changes(10)
    assert wallet.invoices.get(made.tag).status is InvoiceStatus.EXPIRED
    wallet.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("shop.db*"))
    for shown in (made.tag, b"three loaves"):
        assert shown not in content
    shutil.rmtree(tmp_path)
