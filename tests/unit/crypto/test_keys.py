"""Spend and view keys: signing, decapsulating, and silence about secrets (Protocol §8.2, §9)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from unchained.node.crypto.keys import (
    CIPHERTEXT_SIZE,
    SpendKey,
    ViewKey,
    encapsulate,
    is_view_key,
    key_hash,
    verify_signature,
)

SEED = bytes(range(32))
SIGHASH = b"\x07" * 32


def test_signatures_verify() -> None:
    key = SpendKey.from_seed(SEED)
    first, second = key.sign(SIGHASH), key.sign(SIGHASH)
    assert first != second
    assert verify_signature(key.public_key, SIGHASH, first)
    assert verify_signature(key.public_key, SIGHASH, second)


def test_what_does_not_verify() -> None:
    key, other = SpendKey.from_seed(SEED), SpendKey.from_seed(bytes(32))
    signature = key.sign(SIGHASH)
    assert not verify_signature(other.public_key, SIGHASH, signature)
    assert not verify_signature(key.public_key, bytes(32), signature)
    for place in (0, 47, 48, 1_000, 3_308):
        altered = bytearray(signature)
        altered[place] ^= 1
        assert not verify_signature(key.public_key, SIGHASH, bytes(altered))


def test_verification_is_total() -> None:
    key = SpendKey.from_seed(SEED)
    signature = key.sign(SIGHASH)
    for public_key, signed in (
        (b"", b""),
        (key.public_key[:-1], signature),
        (key.public_key + b"\0", signature),
        (key.public_key, signature[:-1]),
        (key.public_key, signature + b"\0"),
        (bytes(1_952), bytes(3_309)),
        (b"\xff" * 1_952, b"\xff" * 3_309),
    ):
        assert not verify_signature(public_key, SIGHASH, signed)


def test_a_signature_for_another_use_is_none_here() -> None:
    private = MLDSA65PrivateKey.from_seed_bytes(SEED)
    public_key = private.public_key().public_bytes_raw()
    assert not verify_signature(public_key, SIGHASH, private.sign(SIGHASH))
    assert not verify_signature(
        public_key, SIGHASH, private.sign(SIGHASH, b"unchained transfer v2")
    )


def test_only_the_view_key_finds_the_secret() -> None:
    key, other = ViewKey.from_seed(bytes(64)), ViewKey.from_seed(b"\x01" * 64)
    shared, ciphertext = encapsulate(key.public_key)
    assert key.decapsulate(ciphertext) == shared
    assert other.decapsulate(ciphertext) != shared
    assert ViewKey.from_seed(key.seed()).public_key == key.public_key


def test_wrong_lengths() -> None:
    for seed in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            SpendKey.from_seed(seed)
    with pytest.raises(ValueError, match="64 bytes"):
        ViewKey.from_seed(bytes(32))
    with pytest.raises(ValueError, match="ciphertext"):
        ViewKey.from_seed(bytes(64)).decapsulate(bytes(CIPHERTEXT_SIZE - 1))
    with pytest.raises(ValueError, match="public key"):
        encapsulate(bytes(1_183))


def test_what_is_a_view_key() -> None:
    public_key = ViewKey.from_seed(bytes(64)).public_key
    assert is_view_key(public_key)
    assert not is_view_key(public_key[:-1])
    # FIPS 203 §7.2: a coefficient of q or more
    assert not is_view_key(b"\xff\xff" + public_key[2:])


def test_secrets_are_in_no_repr() -> None:
    spend, view = SpendKey.from_seed(SEED), ViewKey.from_seed(bytes(range(64)))
    assert repr(spend) == f"<SpendKey {key_hash(spend.public_key).hex()}>"
    for text in (repr(spend), str(spend), repr(view), f"{view}"):
        assert SEED.hex() not in text
        assert repr(SEED)[2:20] not in text
        assert "private" not in text.lower()
