"""Conditions under which a coin may be spent, and the locks that commit to them (Protocol §8.1).

Layout only: whether a transfer meets a condition is decided in `consensus.transfers`.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

import msgspec

from unchained.node.primitives.errors import BadConditionError
from unchained.node.primitives.hashing import LOCK
from unchained.node.primitives.types import KeyHash, Lock

KIND_KEY: Final = 0
KIND_MULTISIG: Final = 1
KIND_HASH_TIME_LOCK: Final = 2

MAX_MULTISIG_KEYS: Final = 16
"""Most keys of a multisig condition."""

_KEY_SIZE: Final = 33
_MULTISIG_HEAD: Final = 3
_HASH_TIME_LOCK: Final = struct.Struct(">B32s32s32sQ")


class KeyCondition(msgspec.Struct, frozen=True, gc=False):
    """A signature by one key."""

    key_hash: KeyHash

    def to_bytes(self) -> bytes:
        """Return `00 ‖ key_hash`."""
        return b"\x00" + self.key_hash


class MultisigCondition(msgspec.Struct, frozen=True, gc=False):
    """Signatures by `threshold` (the protocol's m) of the keys, which are strictly ascending."""

    threshold: int
    key_hashes: tuple[KeyHash, ...]

    def to_bytes(self) -> bytes:
        """Return `01 ‖ u8 m ‖ u8 n ‖ key hashes`."""
        head = bytes((KIND_MULTISIG, self.threshold, len(self.key_hashes)))
        return head + b"".join(self.key_hashes)


class HashTimeLockCondition(msgspec.Struct, frozen=True, gc=False):
    """The preimage of a SHA-256 hash and the claim key's signature, or from `height` on (as a
    transfer's lock_height) the refund key's signature."""

    hash: bytes
    claim_key_hash: KeyHash
    refund_key_hash: KeyHash
    height: int

    def to_bytes(self) -> bytes:
        """Return `02 ‖ hash ‖ claim key_hash ‖ refund key_hash ‖ u64 height`."""
        return _HASH_TIME_LOCK.pack(
            KIND_HASH_TIME_LOCK, self.hash, self.claim_key_hash, self.refund_key_hash, self.height
        )


Condition: TypeAlias = KeyCondition | MultisigCondition | HashTimeLockCondition


def parse_condition(raw: bytes) -> Condition:
    """Read a condition. Raises `BadConditionError` for anything but its one encoding."""
    if not raw:
        raise BadConditionError(expected="a kind of 0 to 2", actual="no bytes")
    # Protocol §8.1
    kind = raw[0]
    if kind == KIND_KEY:
        if len(raw) != _KEY_SIZE:
            raise BadConditionError(
                expected=f"{_KEY_SIZE} bytes of kind 0", actual=f"{len(raw)} bytes"
            )
        return KeyCondition(KeyHash(raw[1:]))
    if kind == KIND_MULTISIG:
        return _parse_multisig(raw)
    if kind == KIND_HASH_TIME_LOCK:
        if len(raw) != _HASH_TIME_LOCK.size:
            raise BadConditionError(
                expected=f"{_HASH_TIME_LOCK.size} bytes of kind 2", actual=f"{len(raw)} bytes"
            )
        _, digest, claim, refund, height = _HASH_TIME_LOCK.unpack(raw)
        return HashTimeLockCondition(digest, claim, refund, height)
    raise BadConditionError(expected="a kind of 0 to 2", actual=f"kind {kind}")


def _parse_multisig(raw: bytes) -> MultisigCondition:
    if len(raw) < _MULTISIG_HEAD:
        raise BadConditionError(
            expected="m and n of a condition of kind 1", actual=f"{len(raw)} bytes"
        )
    required, count = raw[1], raw[2]
    if not 1 <= required <= count <= MAX_MULTISIG_KEYS:
        raise BadConditionError(
            expected=f"1 <= m <= n <= {MAX_MULTISIG_KEYS}", actual=f"m = {required}, n = {count}"
        )
    size = _MULTISIG_HEAD + 32 * count
    if len(raw) != size:
        raise BadConditionError(
            expected=f"{size} bytes for {count} keys", actual=f"{len(raw)} bytes"
        )
    key_hashes = tuple(KeyHash(raw[start : start + 32]) for start in range(3, size, 32))
    for index in range(1, count):
        if key_hashes[index - 1] >= key_hashes[index]:
            raise BadConditionError(
                expected="key hashes strictly ascending",
                actual=f"key hash {index} not above the one before",
            )
    return MultisigCondition(required, key_hashes)


def lock_of(condition: bytes, salt: bytes) -> Lock:
    """Return the lock of an encoded condition and a salt of 32 bytes."""
    return Lock(LOCK(condition + salt))
