"""Canonical MessagePack, headers and bodies against known answers (Protocol §2, §3.1, §5.1)."""

from __future__ import annotations

from typing import Any, Union

import msgspec
import pytest

from tests.framework.vectors import label, load, unhex, unhex_all
from unchained.node.consensus.coins import parse_coin
from unchained.node.consensus.errors import BadLengthError
from unchained.node.primitives.body import MAX_BODY_ENCODED, Body
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import COIN_SIZE, Coin, CoinHeader
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import LEAF
from unchained.node.primitives.types import UInt64

CODEC = load("codec")
BODIES = load("body")["cases"]
HEADERS = load("header")


def any_value(depth: int) -> Any:
    """The layout of any canonical value nested at most so deep."""
    value: Any = Union[UInt64, bytes]  # noqa: UP007 - made at run time
    for _ in range(depth):
        value = Union[UInt64, bytes, tuple[value, ...]]  # noqa: UP007
    return value


ANYTHING = CanonicalDecoder[Any](any_value(6), max_size=1 << 17)


def value_of(described: Any) -> Any:
    """The value that a vector describes: byte strings as hex digits."""
    if isinstance(described, str):
        return unhex(described)
    if isinstance(described, list):
        return tuple(value_of(item) for item in described)
    return described


@pytest.mark.parametrize("case", CODEC["accept"], ids=label)
def test_accepted_encodings_are_the_values_one_encoding(case: Any) -> None:
    raw = unhex(case["encoding"])
    assert ANYTHING.decode(raw) == value_of(case["value"])
    assert encode(value_of(case["value"])) == raw


@pytest.mark.parametrize("case", CODEC["long"], ids=lambda case: str(case["bytes_of_zero"]))
def test_long_byte_strings_take_the_shortest_length(case: Any) -> None:
    raw = encode(bytes(case["bytes_of_zero"]))
    assert LEAF(raw).hex() == case["H"]
    assert ANYTHING.decode(raw) == bytes(case["bytes_of_zero"])


@pytest.mark.parametrize("case", CODEC["reject"], ids=label)
def test_other_encodings_are_not_canonical(case: Any) -> None:
    with pytest.raises(NonCanonicalError):
        ANYTHING.decode(unhex(case["encoding"]))


def test_size_is_bounded_before_anything_is_decoded() -> None:
    with pytest.raises(NonCanonicalError, match="at most 1048576 bytes, got 1048577 bytes"):
        Body.from_bytes(bytes(MAX_BODY_ENCODED + 1))


@pytest.mark.parametrize("case", BODIES)
def test_body_encodings(case: Any) -> None:
    body = Body(
        unhex_all(case["fresh"]),
        unhex_all(case["uncles"]),
        unhex_all(case["wids"]),
        unhex(case["state_root"]),
        unhex(case["history_root"]),
    )
    assert body.to_bytes().hex() == case["body"]
    assert Body.from_bytes(unhex(case["body"])) == body


@pytest.mark.parametrize("case", HEADERS["cases"])
def test_header_bytes(case: Any) -> None:
    header = CoinHeader.from_bytes(unhex(case["header"]))
    assert header.to_bytes().hex() == case["header"]
    for field in ("chain_id", "version", "height", "time", "n_total", "nonce"):
        assert getattr(header, field) == case[field]
    for field in ("parent", "lock", "body_root"):
        assert getattr(header, field).hex() == case[field]
    assert header.target == int(case["target"], 16)


@pytest.mark.parametrize("length", HEADERS["bad_coin_lengths"])
def test_coins_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(BadLengthError):
        parse_coin(bytes(length))


def test_any_198_bytes_are_a_coin() -> None:
    raw = bytes(range(COIN_SIZE))
    coin = Coin.from_bytes(raw)
    assert coin.raw == raw
    assert Coin.assemble(coin.header, coin.mix) == coin


class Named(msgspec.Struct, array_like=True, frozen=True):
    """A layout with text, as files of wallets have it."""

    name: str


def test_text_that_is_none_is_not_canonical() -> None:
    decoder = CanonicalDecoder(Named, max_size=9)
    assert decoder.decode(encode(Named("é"))) == Named("é")
    with pytest.raises(NonCanonicalError, match="utf-8"):
        decoder.decode(b"\x91\xa2\xc3(")
