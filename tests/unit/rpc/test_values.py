"""Amounts, hashes, bytes and secrets as JSON has them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchained.node.primitives.types import MAX_AMOUNT
from unchained.node.rpc.core.values import Amount, Hash, Hex, Secret, decode, encode, schema


@pytest.mark.parametrize(
    ("raw", "grains"),
    [
        ("1.5", 150_000_000),
        ("0", 0),
        ("0.00000001", 1),
        ("1", 100_000_000),
        ("7.10", 710_000_000),
        ("92233720368.54775807", MAX_AMOUNT),
    ],
)
def test_amounts_are_read(raw: object, grains: int) -> None:
    assert Amount.parse(raw) == grains


@pytest.mark.parametrize(
    "raw",
    [
        1.5,
        1.0,
        True,
        None,
        [],
        {},
        "",
        ".5",
        "1.",
        "-1",
        "01",
        "+1",
        " 1",
        "1e3",
        "1,5",
        "1_000",
        "٣",
        "0x10",
        "1.123456789",
        "92233720368.54775808",
        "9" * 5000,
        "NaN",
        0,
        -1,
        MAX_AMOUNT + 1,
        10**30,
    ],
)
def test_other_amounts_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"amount|is too large"):
        Amount.parse(raw)


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        (150_000_000, '"1.5"'),
        (1, '"0.00000001"'),
        (2, '"2"'),
        (MAX_AMOUNT, '"92233720368.54775807"'),
    ],
)
def test_an_integer_is_refused_with_the_string_to_write(raw: int, written: str) -> None:
    with pytest.raises(ValueError, match="decimal string in UNC") as caught:
        Amount.parse(raw)
    assert written in str(caught.value)


@given(st.integers(0, MAX_AMOUNT))
def test_amounts_survive_the_way_through_json(grains: int) -> None:
    wire = msgspec.json.encode(Amount(grains), enc_hook=encode)
    back = msgspec.convert(msgspec.json.decode(wire), Amount, dec_hook=decode)
    assert back == grains
    assert isinstance(back, Amount)


def test_a_negative_amount_can_be_shown() -> None:
    assert Amount(-150_000_000).unc() == "-1.50000000"


def test_hashes_and_bytes_are_hex() -> None:
    assert Hash.parse("ab" * 32) == b"\xab" * 32
    assert Hex.parse("") == b""
    assert msgspec.json.encode([Hash(b"\x01" * 32), Hex(b"\xff")], enc_hook=encode) == (
        b'["' + b"01" * 32 + b'","ff"]'
    )


@pytest.mark.parametrize(
    "raw", ["", "ab", "AB" * 32, "zz" * 32, "ab" * 33, 5, None, "ab" * 31 + "a "]
)
def test_what_is_no_hash_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits, got"):
        Hash.parse(raw)


@pytest.mark.parametrize("raw", ["a", "AB", "0x00", " ", "zz", 5, None])
def test_what_is_no_hex_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="hex digits"):
        Hex.parse(raw)


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret.parse("sesame")
    assert "sesame" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "sesame"
    with pytest.raises(ValueError, match="a text, got a number"):
        Secret.parse(7)


@pytest.mark.parametrize(
    "use", [lambda: decode(set, 1), lambda: encode(object()), lambda: schema(set)]
)
def test_other_types_have_no_form(use: Any) -> None:
    with pytest.raises(NotImplementedError):
        use()
