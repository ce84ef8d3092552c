"""Conditions: one encoding each, and a clear word about every other (Protocol §8.1)."""

from __future__ import annotations

import pytest

from unchained.node.crypto.addresses import address_lock
from unchained.node.primitives.conditions import (
    HashTimeLockCondition,
    KeyCondition,
    MultisigCondition,
    lock_of,
    parse_condition,
)
from unchained.node.primitives.errors import BadConditionError
from unchained.node.primitives.types import ZERO32, KeyHash

LOW, HIGH = KeyHash(bytes(32)), KeyHash(b"\xff" * 32)


def test_kinds() -> None:
    key = KeyCondition(LOW)
    assert parse_condition(key.to_bytes()) == key
    multisig = MultisigCondition(2, (LOW, HIGH))
    assert parse_condition(multisig.to_bytes()) == multisig
    assert parse_condition(multisig.to_bytes()).to_bytes()[:3] == b"\x01\x02\x02"
    swap = HashTimeLockCondition(b"\x11" * 32, LOW, HIGH, 2**64 - 1)
    assert parse_condition(swap.to_bytes()) == swap


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "expected a kind of 0 to 2, got no bytes"),
        (b"\x03", "expected a kind of 0 to 2, got kind 3"),
        (bytes(34), "expected 33 bytes of kind 0, got 34 bytes"),
        (b"\x01\x01", "expected m and n of a condition of kind 1, got 2 bytes"),
        (b"\x01\x02\x01" + LOW, "expected 1 <= m <= n <= 16, got m = 2, n = 1"),
        (b"\x01\x01\x11" + 17 * LOW, "got m = 1, n = 17"),
        (b"\x01\x01\x02" + LOW, "expected 67 bytes for 2 keys, got 35 bytes"),
        (b"\x01\x01\x02" + HIGH + LOW, "expected key hashes strictly ascending"),
        (b"\x01\x01\x02" + LOW + LOW, "got key hash 1 not above the one before"),
        (b"\x02" + bytes(103), "expected 105 bytes of kind 2, got 104 bytes"),
    ],
)
def test_others_are_refused_by_name(raw: bytes, message: str) -> None:
    with pytest.raises(BadConditionError) as caught:
        parse_condition(raw)
    assert str(caught.value).startswith("BAD_CONDITION: ")
    assert message in str(caught.value)


def test_an_address_is_a_key_with_a_zero_salt() -> None:
    assert lock_of(KeyCondition(HIGH).to_bytes(), ZERO32) == address_lock(HIGH)
