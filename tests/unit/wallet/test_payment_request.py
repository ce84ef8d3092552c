"""Amounts, payees, payment URIs, QR codes, and the texts of contracts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.framework.wallets import cheap_wallet
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.crypto.accounts import new_mnemonic
from unchained.node.crypto.addresses import OutputPlace, address_lock, decode_address, open_note
from unchained.node.primitives.amounts import shortest
from unchained.node.primitives.types import Lock
from unchained.node.wallet.contracts import Contract, hash_time_lock, key_of, multisig
from unchained.node.wallet.errors import BadPaymentError, ContractError, PaymentRequestError
from unchained.node.wallet.keystore import SpendSecret
from unchained.node.wallet.payment_request import (
    QR_BYTES_MAX,
    PaymentRequest,
    TooLongForQrError,
    draft_for,
    memo_for,
    parse_amount,
    qr_png,
    qr_terminal,
)
from unchained.node.wallet.records import Payee

# The same in every process: the cases below are named after its address.
WALLET = cheap_wallet(secret=SpendSecret.of(new_mnemonic(bytes(32))))
ADDRESS = WALLET.address()
PAYCODE = WALLET.paycode()


@pytest.mark.parametrize(
    ("text", "grains"),
    [
        ("0", 0),
        ("1", 10**8),
        ("0.00000001", 1),
        ("1.5", 150_000_000),
        ("92233720368", 92233720368 * 10**8),
    ],
)
def test_amounts(text: str, grains: int) -> None:
    assert parse_amount(text) == grains
    assert shortest(grains) == text


@pytest.mark.parametrize(
    "text", ["", "-1", "1e8", "01", "1.", ".5", "1.123456789", "1 ", "92233720369", "9" * 40, "١"]
)
def test_no_amounts(text: str) -> None:
    with pytest.raises(BadPaymentError):
        parse_amount(text)


def test_pays_every_kind_of_payee() -> None:
    lock = address_lock(decode_address(REG, ADDRESS))
    assert draft_for(REG, Payee(ADDRESS, 5_000, b"")).to == lock
    assert draft_for(REG, Payee(f"lock:{lock.hex()}", 5_000, b"")).to == lock
    contract = multisig(REG, 1, [ADDRESS])
    assert draft_for(REG, Payee(contract.to_text(), 5_000, b"")).to == contract.lock
    place = OutputPlace(bytes(32), 1)
    output, shared = draft_for(REG, Payee(PAYCODE, 5_000, b"memo")).at(place)
    assert memo_for(REG, PAYCODE, place, output, shared) == b"memo"
    account = WALLET.account()
    opened = open_note(account.view, account.key_hash, place, Lock(output.lock), output.note)
    assert opened is not None
    assert opened.memo == b"memo"


@pytest.mark.parametrize(
    ("payee", "why"),
    [
        (
            Payee(ADDRESS, 999, b""),
            "a payment of 0.00000999 UNC is too small: expected 0.00001 or more",
        ),
        (Payee(ADDRESS, 2**63, b""), "UNC is too large: expected at most 92233720368.54775807"),
        (Payee(PAYCODE, 5_000, b"x" * 248), "at most 247"),
        (Payee(ADDRESS, 5_000, b"x"), "only a paycode can be paid with a memo"),
        (Payee(ADDRESS[:-1] + "q", 5_000, b""), "checksum"),
        (Payee(PAYCODE[:-1] + "!", 5_000, b""), "base64url"),
        (Payee("contract:AAAA", 5_000, b""), "contract"),
        (Payee("ab" * 32, 5_000, b""), "write lock:HEX"),
        (Payee("AB" * 32, 5_000, b""), "write lock:HEX"),
        (Payee("lock:abc", 5_000, b""), "64 hex digits"),
        (Payee("", 5_000, b""), "address"),
    ],
)
def test_refuses_what_cannot_be_paid(payee: Payee, why: str) -> None:
    with pytest.raises(BadPaymentError, match=why):
        draft_for(REG, payee)


def test_uris_round_trip() -> None:
    for request in (
        PaymentRequest(ADDRESS),
        PaymentRequest(PAYCODE, 150_000_000, "für die Äpfel & mehr", "Markt"),
    ):
        assert PaymentRequest.from_uri(REG, request.to_uri()) == request
    uri = PaymentRequest(ADDRESS, 1).to_uri()
    assert uri.endswith("?amount=0.00000001")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "bitcoin:" + ADDRESS,
        "unchained:",
        f"unchained:{ADDRESS}?amount=1,5",
        f"unchained:{ADDRESS}?amount=1&amount=2",
        f"unchained:{ADDRESS}?req-thing=1",
        f"unchained:{ADDRESS}?memo=hello",
        f"unchained:{ADDRESS}?amount",
        f"unchained:{'00' * 32}",
        "unchained:" + "x" * 9_000,
        f"unchained:{PAYCODE}?memo={'x' * 257}",
    ],
)
def test_refuses_bad_uris(uri: str) -> None:
    with pytest.raises(PaymentRequestError):
        PaymentRequest.from_uri(REG, uri)


def test_refuses_uris_of_another_network() -> None:
    with pytest.raises(PaymentRequestError, match="expected local"):
        PaymentRequest.from_uri(LOCAL, PaymentRequest(ADDRESS).to_uri())


def test_a_text_that_no_qr_code_holds_is_refused(tmp_path: Path) -> None:
    qr_terminal("a" * QR_BYTES_MAX)
    with pytest.raises(TooLongForQrError, match=r"at most 2953 characters, .* has 2954"):
        qr_terminal("a" * (QR_BYTES_MAX + 1))
    with pytest.raises(TooLongForQrError):
        qr_png("a" * (QR_BYTES_MAX + 1), tmp_path / "pay.png")
    assert list(tmp_path.iterdir()) == []


def test_qr_codes(tmp_path: Path) -> None:
    uri = PaymentRequest(PAYCODE, 10**8, "m" * 256).to_uri()
    shown = qr_terminal(uri)
    assert len(shown.splitlines()) > 60
    qr_png(uri, tmp_path / "pay.png")
    assert (tmp_path / "pay.png").read_bytes().startswith(b"\x89PNG")


def test_contracts_round_trip() -> None:
    other = cheap_wallet().address()
    for contract in (
        multisig(REG, 2, [ADDRESS, other]),
        hash_time_lock(REG, ADDRESS, other, 10).contract,
    ):
        assert Contract.from_text(contract.to_text(), REG) == contract
    assert key_of(REG, PAYCODE) == key_of(REG, ADDRESS)


def test_a_hash_time_lock_draws_its_preimage() -> None:
    made = hash_time_lock(REG, ADDRESS, ADDRESS, 10)
    assert made.preimage is not None
    assert hashlib.sha256(made.preimage).digest() in made.contract.condition
    assert made.preimage.hex() not in repr(made)
    assert hash_time_lock(REG, ADDRESS, ADDRESS, 10, bytes(32)).preimage is None


def test_refuses_bad_contracts() -> None:
    text = multisig(REG, 1, [ADDRESS]).to_text()
    for wrong in ("", "contract:", text[:-2], text + "AA", "contract:ä", text.replace(":", "")):
        with pytest.raises(ContractError):
            Contract.from_text(wrong, REG)
    with pytest.raises(ContractError, match="expected local"):
        Contract.from_text(text, LOCAL)
    plain = Contract(REG.chain_id, b"\x00" + bytes(32), bytes(32)).to_text()
    with pytest.raises(ContractError, match="m-of-n"):
        Contract.from_text(plain, REG)
    with pytest.raises(ContractError, match="malformed"):
        Contract.from_text(Contract(REG.chain_id, b"\x07", bytes(32)).to_text(), REG)
    with pytest.raises(ContractError, match="twice"):
        multisig(REG, 1, [ADDRESS, PAYCODE])
    with pytest.raises(ContractError, match="2 of 1 cannot"):
        multisig(REG, 2, [ADDRESS])
    with pytest.raises(ContractError, match="address"):
        multisig(REG, 1, ["nobody"])
    with pytest.raises(ContractError, match="32 bytes"):
        hash_time_lock(REG, ADDRESS, ADDRESS, 10, b"short")
    with pytest.raises(ContractError, match="no height"):
        hash_time_lock(REG, ADDRESS, ADDRESS, 0)
    with pytest.raises(ContractError, match=r"could be refunded at once, .* above 161, .* got 161"):
        hash_time_lock(REG, ADDRESS, ADDRESS, 161, next_height=161)
    hash_time_lock(REG, ADDRESS, ADDRESS, 162, next_height=161)


def test_a_refund_that_no_one_lives_to_see_is_refused() -> None:
    years = 365 * 86_400_000 // REG.epoch_ms
    hash_time_lock(REG, ADDRESS, ADDRESS, 7 + 19 * years, next_height=7)
    with pytest.raises(ContractError, match=r"not be refunded for 20 years: .*which is 20 years"):
        hash_time_lock(REG, ADDRESS, ADDRESS, 8 + 20 * years, next_height=7)


def test_a_uri_says_nothing_that_is_no_text() -> None:
    with pytest.raises(PaymentRequestError, match="no UTF-8"):
        PaymentRequest.from_uri(REG, f"unchained:{PAYCODE}?memo=%ff")
