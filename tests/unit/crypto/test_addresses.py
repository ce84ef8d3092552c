"""Addresses, paycodes and notes: what is refused in which words, and who can open what (§9)."""

from __future__ import annotations

import base64

import msgspec
import pytest
from bech32 import CHARSET, bech32_encode, bech32_hrp_expand, bech32_polymod, convertbits

from unchained.node.consensus.params import MAIN, NETWORKS, REG, TEST
from unchained.node.crypto.accounts import derive_account
from unchained.node.crypto.addresses import (
    MAX_MEMO,
    NETWORK_NAMES,
    NO_TAG,
    NOTE_SIZE,
    BadViewKeyError,
    ChecksumError,
    MalformedPayeeError,
    MixedCaseError,
    OtherNetworkError,
    OutputPlace,
    Paycode,
    PayeeError,
    decode_address,
    decode_paycode,
    encode_address,
    encode_paycode,
    open_note,
    seal_note,
)
from unchained.node.primitives.conditions import KeyCondition, lock_of
from unchained.node.primitives.hashing import PAYCODE
from unchained.node.primitives.types import KeyHash, Lock

ACCOUNT = derive_account(bytes(range(64)), REG.chain_id, 0)
STRANGER = derive_account(bytes(64), REG.chain_id, 0)
ADDRESS = encode_address(REG, ACCOUNT.key_hash)
PLACE = OutputPlace(bytes(range(32)), 3)
PAYEE = Paycode(REG.chain_id, ACCOUNT.key_hash, ACCOUNT.view.public_key)


def bech32m(prefix: str, values: list[int]) -> str:
    tail = bech32_polymod([*bech32_hrp_expand(prefix), *values, 0, 0, 0, 0, 0, 0]) ^ 0x2BC830A3
    checksum = [tail >> 5 * (5 - place) & 31 for place in range(6)]
    return prefix + "1" + "".join(CHARSET[value] for value in [*values, *checksum])


def fives(payload: bytes) -> list[int]:
    values = convertbits(payload, 8, 5)
    assert values is not None
    return values


def paycode_text(body: bytes) -> str:
    raw = body + PAYCODE(body)[:4]
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_every_network_has_addresses_of_its_own() -> None:
    for network in NETWORKS.values():
        text = encode_address(network, ACCOUNT.key_hash)
        assert text.startswith(f"{network.address_prefix}1")
        assert decode_address(network, text) == ACCOUNT.key_hash
        assert NETWORK_NAMES[network.address_prefix] == network.name
        assert NETWORK_NAMES[network.chain_id] == network.name
    assert len(NETWORK_NAMES) == 2 * len(NETWORKS)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", MalformedPayeeError, "a prefix, a 1, and more than 6 characters"),
        ("1qqqqqqqq", MalformedPayeeError, "a prefix, a 1, and more than 6 characters"),
        (
            "runc1qqqqqq",
            MalformedPayeeError,
            "looks like an address that was cut or mistyped: one of network reg",
        ),
        ("r" * 91, MalformedPayeeError, "at most 90 characters, got 91"),
        (ADDRESS + " ", MalformedPayeeError, f"character {len(ADDRESS) + 1} of the address is ' '"),
        ("é" + ADDRESS, MalformedPayeeError, "character 1 of the address is 'é'"),
        (ADDRESS.replace("1", "1b", 1), MalformedPayeeError, "character 6 of the address is 'b'"),
        (ADDRESS[:-1] + ADDRESS[-1].upper(), MixedCaseError, "mixes upper and lower case"),
        (ADDRESS.capitalize(), MixedCaseError, "mixes upper and lower case"),
        (
            ADDRESS[:-1],
            MalformedPayeeError,
            "was cut or mistyped: one of network reg has 64 characters, got 63",
        ),
        (f"{ADDRESS[:12]}…{ADDRESS[-12:]}", MalformedPayeeError, "that was cut"),
        (f"{ADDRESS[:40]}...{ADDRESS[-21:]}", MalformedPayeeError, "that was cut"),
        (f"lunc1{ADDRESS[5:20]}", MalformedPayeeError, "mistyped: one of network local has 64"),
        (ADDRESS[:9] + "q" + ADDRESS[10:], ChecksumError, "checksum is wrong"),
        (ADDRESS[1:], ChecksumError, "checksum is wrong"),
        (bech32_encode("runc", fives(bytes(33))), ChecksumError, "checksum is wrong"),
        (encode_address(TEST, ACCOUNT.key_hash), OtherNetworkError, "network test, expected reg"),
        (encode_address(MAIN, ACCOUNT.key_hash), OtherNetworkError, "network main, expected reg"),
        (bech32m("bc", fives(bytes(33))), OtherNetworkError, "network 'bc', expected reg"),
        (
            bech32m("runc", fives(bytes(32))),
            MalformedPayeeError,
            "looks like an address that was cut",
        ),
        (bech32m("runc", fives(bytes(34))), MalformedPayeeError, "version 0 carries 33 bytes"),
        (bech32m("runc", fives(b"\1" + bytes(32))), MalformedPayeeError, "version 0 carries 33"),
        (bech32m("runc", [*fives(bytes(33))[:-1], 1]), MalformedPayeeError, "carries 33 bytes"),
        (bech32m("runc", [*fives(bytes(33)), 0]), MalformedPayeeError, "carries 33 bytes"),
    ],
)
def test_bad_addresses(text: str, error: type[PayeeError], message: str) -> None:
    with pytest.raises(error, match=message):
        decode_address(REG, text)


def test_bad_paycodes() -> None:
    good = encode_paycode(PAYEE)
    assert decode_paycode(REG, good) == PAYEE
    raw = base64.urlsafe_b64decode(good + "==")
    body = raw[:-4]
    cases = [
        (good + "=", MalformedPayeeError, "has 1634 or 1644 characters, got 1635"),
        (good[:-1], MalformedPayeeError, "has 1634 or 1644 characters, got 1633"),
        ("é" + good[1:], MalformedPayeeError, "base64url without padding"),
        (" " + good[1:], MalformedPayeeError, "base64url without padding"),
        ("=" + good[1:], MalformedPayeeError, "base64url without padding"),
        (good.replace("_", "/"), MalformedPayeeError, "not in its one spelling|without padding"),
        (good[:-1] + ("R" if good[-1] == "Q" else "B"), MalformedPayeeError, "one spelling"),
        ("B" + good[1:], ChecksumError, "checksum is wrong"),
        (paycode_text(b"\2" + body[1:]), MalformedPayeeError, "kind 2 does not exist, or not with"),
        (
            paycode_text(body[:1] + MAIN.chain_id.to_bytes(4, "big") + body[5:]),
            OtherNetworkError,
            "network main, expected reg",
        ),
        (paycode_text(body[:1] + bytes(4) + body[5:]), OtherNetworkError, "network 0x0, expected"),
        (paycode_text(body[:37] + b"\xff\xff" + body[39:]), BadViewKeyError, "ML-KEM-768"),
    ]
    for text, error, message in cases:
        with pytest.raises(error, match=message):
            decode_paycode(REG, text)


@pytest.mark.parametrize("size", [0, 1, MAX_MEMO])
def test_the_receiver_opens_what_was_sealed(size: int) -> None:
    memo = bytes(place % 256 for place in range(size))
    sealed = seal_note(PAYEE, PLACE, memo)
    assert len(sealed.note) == NOTE_SIZE == 1_360
    assert sealed.lock == lock_of(KeyCondition(ACCOUNT.key_hash).to_bytes(), sealed.salt)
    opened = open_note(ACCOUNT.view, ACCOUNT.key_hash, PLACE, sealed.lock, sealed.note)
    assert opened is not None
    assert (opened.salt, opened.tag, opened.memo) == (sealed.salt, NO_TAG, memo)


def test_no_two_outputs_look_alike() -> None:
    first, second = seal_note(PAYEE, PLACE), seal_note(PAYEE, PLACE)
    assert first.lock != second.lock
    assert first.note[:32] != second.note[:32]


def test_nobody_else_opens_it() -> None:
    sealed = seal_note(PAYEE, PLACE, b"for you")
    assert open_note(STRANGER.view, STRANGER.key_hash, PLACE, sealed.lock, sealed.note) is None
    assert open_note(STRANGER.view, ACCOUNT.key_hash, PLACE, sealed.lock, sealed.note) is None
    assert open_note(ACCOUNT.view, KeyHash(bytes(32)), PLACE, sealed.lock, sealed.note) is None
    assert open_note(ACCOUNT.view, ACCOUNT.key_hash, PLACE, Lock(bytes(32)), sealed.note) is None


def test_notes_of_another_length_are_no_ones() -> None:
    note = seal_note(PAYEE, PLACE, bytes(MAX_MEMO)).note
    for size in (0, 1, NOTE_SIZE - 1):
        assert (
            open_note(ACCOUNT.view, ACCOUNT.key_hash, PLACE, Lock(bytes(32)), note[:size]) is None
        )
    long = note + bytes(1)
    assert open_note(ACCOUNT.view, ACCOUNT.key_hash, PLACE, Lock(bytes(32)), long) is None


def test_a_spoiled_memo_leaves_the_coin() -> None:
    sealed = seal_note(PAYEE, PLACE, b"for you")
    spoiled = sealed.note[:-1] + bytes([sealed.note[-1] ^ 1])
    opened = open_note(ACCOUNT.view, ACCOUNT.key_hash, PLACE, sealed.lock, spoiled)
    assert opened is not None
    assert (opened.salt, opened.tag, opened.memo) == (sealed.salt, None, None)


def test_long_memos() -> None:
    with pytest.raises(ValueError, match="at most 247 bytes, got 248"):
        seal_note(PAYEE, PLACE, bytes(248))


def test_a_copied_note_opens_nothing() -> None:
    sealed = seal_note(PAYEE, PLACE, b"for you")
    for place in (OutputPlace(bytes(32), PLACE.index), OutputPlace(PLACE.first_input, 4)):
        assert open_note(ACCOUNT.view, ACCOUNT.key_hash, place, sealed.lock, sealed.note) is None


def test_a_tagged_paycode_says_for_whom_it_was_made() -> None:
    tagged = msgspec.structs.replace(PAYEE, tag=b"shop 017")
    text = encode_paycode(tagged)
    assert decode_paycode(REG, text) == tagged
    sealed = seal_note(tagged, PLACE, b"order 3")
    opened = open_note(ACCOUNT.view, ACCOUNT.key_hash, PLACE, sealed.lock, sealed.note)
    assert opened is not None
    assert (opened.tag, opened.memo) == (b"shop 017", b"order 3")
