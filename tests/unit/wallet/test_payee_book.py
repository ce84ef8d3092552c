"""Names of payees and accounts: what one is, whom it means, and that nobody else reads it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.mining.payout import PayoutError, payout_to
from unchained.node.wallet.contracts import multisig
from unchained.node.wallet.errors import (
    BadPaymentError,
    ContractError,
    NoSuchAccountError,
    NoSuchPayeeError,
    PayeeBookError,
    PaymentRequestError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.payee_book import (
    AccountNames,
    PayeeBook,
    checked_name,
    looks_like_name,
)
from unchained.node.wallet.payment_request import PaymentRequest
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
    mistyped = ("lunc1q2w3e", "lunc1bad", "runc1bado", "unc1i", "TUNC1O0", "runc1q…q")
    for text in (wallet.address()[:30], wallet.address().upper()[:12], *mistyped):
        with pytest.raises(BadPaymentError, match="looks like an address that was cut or mistyped"):
            book_of(wallet).resolve(Payee(text, 1, b""))
    with pytest.raises(BadPaymentError, match="looks like a paycode that was cut"):
        book_of(wallet).resolve(Payee(wallet.paycode()[:30], 1, b""))
    for name in ("runc1", "Lunc 1", "unc1 friend"):
        with pytest.raises(NoSuchPayeeError):
            book_of(wallet).resolve(Payee(name, 1, b""))
    with pytest.raises(NoSuchPayeeError, match="'rumc1q2w3e', and it is no address or paycode"):
        book_of(wallet).resolve(Payee("rumc1q2w3e", 1, b""))


def test_a_name_that_looks_like_an_address_is_told_as_that_where_names_are_taken() -> None:
    book = book_of(cheap_wallet())
    for take in (book.remove, book.confirm, book.find, lambda it: book.add(it, "lunc1bad")):
        with pytest.raises(PayeeBookError, match=r"no name: .* was cut or mistyped: .* got 8"):
            take("lunc1bad")


def test_a_mistyped_letter_is_told_wherever_somebody_is_paid() -> None:
    wallet = cheap_wallet()
    address, paycode = wallet.address(), wallet.paycode()

    def other(text: str, at: int, letter: str) -> str:
        return text[:at] + letter + text[at + 1 :]

    told = {
        other(address, 20, "q" if address[20] != "q" else "p"): "checksum is wrong",
        other(address, 20, "b"): "character 21 of the address is 'b', which no address has",
        other(address, 0, "l"): "its prefix 'lunc' is that of network local, expected 'runc'",
        other(address, 1, "v"): "its prefix 'rvnc' is no network's, expected 'runc'",
        address[:20] + address[21:]: "network reg has 64 characters, got 63",
        address[:20] + "q" + address[20:]: "checksum is wrong",
        other(paycode, 900, "A" if paycode[900] != "A" else "B"): "paycode's checksum is wrong",
        paycode[1:]: "a paycode has 1634 or 1644 characters, got 1633",
    }
    for text, why in told.items():
        ways = [
            lambda it: book_of(wallet).add("bob", it),
            lambda it: wallet.spender.pay([Payee(it, UNC, b"")], Fee(1)),
            lambda it: wallet.spender.sweep(it, Fee(1)),
            lambda it: PaymentRequest.from_uri(REG, f"unchained:{it}?amount=1"),
            lambda it: multisig(REG, 1, [it]),
            lambda it: payout_to(it, REG),
        ]
        # a payout is an address alone
        for way in ways if len(text) < 100 else ways[:-1]:
            with pytest.raises(
                (BadPaymentError, PaymentRequestError, ContractError, PayoutError), match=why
            ):
                way(text)
    several = [Payee(address, UNC, b""), Payee(address[:-1], UNC, b"")]
    with pytest.raises(BadPaymentError, match=r"^payment 2: .* has 64 characters, got 63"):
        wallet.spender.pay(several, Fee(1))
    with pytest.raises(PayoutError, match=r"^payout .{31}: expected an address, got .* a paycode"):
        payout_to(paycode, REG)


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
