"""Spend keys (ML-DSA-65, FIPS 204) and view keys (ML-KEM-768, FIPS 203), by `cryptography`.

Secrets stay inside the library's objects and appear in no repr (Protocol §8.2, §9).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from unchained.node.primitives.hashing import KEY
from unchained.node.primitives.types import KeyHash

SIGNING_CONTEXT: Final = b"unchained transfer v1"
"""The context of a transfer's signatures (FIPS 204, pure)."""

MESSAGE_CONTEXT: Final = b"unchained message v1"
"""The context of signatures of messages, which no transfer can be signed with."""

RESERVE_CONTEXT: Final = b"unchained reserve v1"
"""The context of signatures that show whose coins they are."""

SPEND_SEED_SIZE: Final = 32
"""Bytes that an ML-DSA-65 key is made from."""

VIEW_SEED_SIZE: Final = 64
"""Bytes that an ML-KEM-768 key is made from: d, then z."""

VIEW_KEY_SIZE: Final = 1_184
"""Bytes of an ML-KEM-768 public key."""

CIPHERTEXT_SIZE: Final = 1_088
"""Bytes of an ML-KEM-768 ciphertext."""


class KeyRandomness(Protocol):
    """Gives signatures and ciphertexts their random part (`node.base.randomness`)."""

    def sign(self, key: MLDSA65PrivateKey, message: bytes, context: bytes) -> bytes:
        """Return the key's signature over a message."""

    def encapsulate(self, key: MLKEM768PublicKey) -> tuple[bytes, bytes]:
        """Return a shared secret of 32 bytes and its ciphertext for the owner of the key."""


def key_hash(public_key: bytes) -> KeyHash:
    """Return the key hash of an ML-DSA-65 public key."""
    return KeyHash(KEY(public_key))


def verify_signature(
    public_key: bytes, sighash: bytes, signature: bytes, context: bytes = SIGNING_CONTEXT
) -> bool:
    """Return whether the signature is the key's over `sighash`. Never raises; releases the GIL."""
    # Protocol §8.2
    try:
        key = MLDSA65PublicKey.from_public_bytes(public_key)
        key.verify(signature, sighash, context)
    except (ValueError, InvalidSignature):
        return False
    return True


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SpendKey:
    """What spends coins. `public_key` has 1,952 bytes."""

    _private: MLDSA65PrivateKey = field(repr=False)
    public_key: bytes
    key_hash: KeyHash

    @classmethod
    def from_seed(cls, seed: bytes) -> SpendKey:
        """Derive the key from 32 secret bytes. Raises ValueError for another length."""
        private = MLDSA65PrivateKey.from_seed_bytes(seed)
        public_key = private.public_key().public_bytes_raw()
        return cls(private, public_key, key_hash(public_key))

    def sign(
        self,
        sighash: bytes,
        randomness: KeyRandomness | None = None,
        context: bytes = SIGNING_CONTEXT,
    ) -> bytes:
        """Return a signature, 3,309 bytes, another one each time (hedged): by the library, or by
        the source of randomness that is given."""
        if randomness is None:
            return self._private.sign(sighash, context)
        return randomness.sign(self._private, sighash, context)

    def __repr__(self) -> str:
        return f"<SpendKey {self.key_hash.hex()}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ViewKey:
    """What finds an account's coins and reads their memos, and spends nothing.

    `public_key` has 1,184 bytes.
    """

    _private: MLKEM768PrivateKey = field(repr=False)
    public_key: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> ViewKey:
        """Derive the key from 64 secret bytes. Raises ValueError for another length."""
        private = MLKEM768PrivateKey.from_seed_bytes(seed)
        return cls(private, private.public_key().public_bytes_raw())

    def seed(self) -> bytes:
        """Return the 64 secret bytes: what a watch-only wallet keeps."""
        return self._private.private_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the shared secret of 32 bytes; of a ciphertext made for another key, or for none,
        32 bytes that nobody else has. Raises ValueError unless it has 1,088 bytes."""
        return self._private.decapsulate(ciphertext)

    def __repr__(self) -> str:
        return f"<ViewKey {key_hash(self.public_key).hex()}>"


def encapsulate(view_key: bytes, randomness: KeyRandomness | None = None) -> tuple[bytes, bytes]:
    """Return a random shared secret of 32 bytes and its ciphertext for a view key's public half:
    by the library, or by the source of randomness that is given.

    Raises ValueError for bytes that are not an ML-KEM-768 public key.
    """
    key = MLKEM768PublicKey.from_public_bytes(view_key)
    return key.encapsulate() if randomness is None else randomness.encapsulate(key)


def is_view_key(raw: bytes) -> bool:
    """Return whether the bytes are an ML-KEM-768 public key (FIPS 203 §7.2)."""
    try:
        MLKEM768PublicKey.from_public_bytes(raw)
    except ValueError:
        return False
    return True
