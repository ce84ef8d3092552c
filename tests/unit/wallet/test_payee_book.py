"""Names of payees and accounts: what one is, whom it means, and that nobody else reads it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.wallet.contracts import multisig
from unchained.node.wallet.errors import (
    BadPaymentError,
    NoSuchAccountError,
    NoSuchPayeeError,
    PayeeBookError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.payee_book import (
    AccountNames,
    PayeeBook,
    checked_name,
    looks_like_name,
)
from unchained.node.wallet.records import Payee
from unchained.node.wallet.wallet import Wallet

UNC = 10**8


def book_of(wallet: Wallet) -> PayeeBook:
    return PayeeBook(wallet.store, REG)


def test_a_payee_is_paid_by_his_name() -> None:
    chain = WalletChain()
    a, b = Purse(chain, cheap_wallet()), cheap_wallet("b")
    chain.grow(3, a.mine_to)
    a.sync()
    book = book_of(a.wallet)
    book.add("Günter B.", b.paycode(), "landlord")
    book.add("shop", b.address())
    assert [(one.name, one.label) for one in book.entries()] == [
        ("Günter B.", "landlord"),
        ("shop", ""),
    ]
    payees = [Payee("günter b.", UNC // 4, b"rent"), Payee("Shop", UNC // 8, b"")]
    prepared = a.wallet.spender.pay(payees, Fee(1))
    assert [payee.payee for payee in prepared.payees] == [b.paycode(), b.address()]
    shown = {
        out.payee: out.name for out in a.wallet.summary(prepared.unsigned).outputs if out.payee
    }
    assert shown == {b.paycode(): "Günter B.", b.address(): "shop"}
    sent = a.send(prepared)
    assert [payee.payee for payee in sent.payees] == [b.paycode(), b.address()]
    (swept,) = a.wallet.spender.sweep("shop", Fee(1))
    assert swept.payees[0].payee == b.address()
    book.remove("SHOP")
    for use in (lambda: a.wallet.spender.sweep("shop", Fee(1)), lambda: book.remove("shop")):
        with pytest.raises(NoSuchPayeeError, match="is called 'shop'"):
            use()


def test_an_address_that_was_cut_is_no_name_of_the_address_book() -> None:
    wallet = cheap_wallet()
    for text in (wallet.address()[:30], wallet.address().upper()[:12], "lunc1q2w3e"):
        with pytest.raises(BadPaymentError, match="looks like an address that was cut"):
            book_of(wallet).resolve(Payee(text, 1, b""))
    with pytest.raises(BadPaymentError, match="looks like a paycode that was cut"):
        book_of(wallet).resolve(Payee(wallet.paycode()[:30], 1, b""))
    for name in ("runc1", "Lunc 1", "unc1 friend"):
        with pytest.raises(NoSuchPayeeError):
            book_of(wallet).resolve(Payee(name, 1, b""))


def test_what_cannot_be_named() -> None:
    wallet = cheap_wallet()
    book = book_of(wallet)
    book.add("shop", wallet.address())
    with pytest.raises(PayeeBookError, match="already"):
        book.add("SHOP", wallet.paycode())
    with pytest.raises(BadPaymentError):
        book.add("nobody", "lunc1nobody")
    with pytest.raises(PayeeBookError, match=r"no name: .* looks like an address that was cut"):
        book.add(wallet.address()[:20], wallet.address())
    with pytest.raises(PayeeBookError, match="is no name"):
        book.add("-x", wallet.address())
    with pytest.raises(BadPaymentError):
        # no name of a name
        book.add("again", "shop")


@pytest.mark.parametrize(
    "text", ["a", "Bob", "Bob Smith", "d'Arc", "x_1", "Zoë", "a.b-c", "A" * 40]
)
def test_names(text: str) -> None:
    assert looks_like_name(checked_name(text))


@pytest.mark.parametrize(
    "text", ["", " a", "a ", "1a", "a" * 41, "a\n", "a\u202eb", "a:b", "../a", "a\x00", "a\tb"]
)
def test_no_names(text: str) -> None:
    with pytest.raises(PayeeBookError):
        checked_name(text)


def test_nothing_that_is_paid_is_a_name() -> None:
    wallet = cheap_wallet()
    contract = multisig(REG, 1, [wallet.address()])
    lock = f"lock:{wallet.account().key_hash.hex()}"
    for payee in (wallet.address(), wallet.paycode(), contract.to_text(), lock):
        assert not looks_like_name(payee)
        assert not looks_like_name(payee.upper())


@example("AlVOQ")  # as a paycode begins
@example("lunc1q2w3e")
@given(st.text(max_size=60))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = checked_name(text)
    except PayeeBookError:
        assert not looks_like_name(text)
    else:
        assert looks_like_name(text)
        assert checked_name(name) == name


def test_an_account_is_told_by_its_name() -> None:
    wallet = cheap_wallet(accounts=3)
    names = AccountNames(wallet.store)
    names.set_name(1, "Savings")
    assert wallet.address("savings") == wallet.address(1)
    assert wallet.balance("SAVINGS") == wallet.balance(1)
    with pytest.raises(PayeeBookError, match="account 1 is called"):
        names.set_name(2, "savings")
    names.set_name(1, "savings")
    assert names.name(1) == "savings"
    names.set_name(1, "")
    for which in ("savings", 3):
        with pytest.raises(NoSuchAccountError, match=repr(which)):
            wallet.paycode(which)
    with pytest.raises(NoSuchAccountError):
        wallet.spender.pay([Payee(wallet.address(), UNC, b"")], Fee(1), account="savings")


def test_the_file_does_not_show_names() -> None:
    wallet = cheap_wallet()
    book_of(wallet).add("Mistress Quickly", wallet.address(), "tavern bill")
    AccountNames(wallet.store).set_name(0, "Falstaff")
    image = wallet.store.image()
    for secret in (b"Quickly", b"quickly", b"tavern", b"Falstaff", wallet.address().encode()):
        assert secret not in image
