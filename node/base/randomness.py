"""Where everything comes from that nobody shall foresee: one source, handed in.

Nothing else of the product asks the system for random bytes, so a simulation that hands in a
source of its own is the same for the same seed, keys, wallets and signatures included. What draws
much, and whose draws are no secret, is given a generator that was seeded from here.
"""

from __future__ import annotations

import random
import secrets
from typing import Final, Protocol


class SigningKey(Protocol):
    """A private key whose signatures take random bytes (ML-DSA-65, hedged)."""

    def sign(self, data: bytes, context: bytes | None = None, /) -> bytes:
        """Return a signature over `data`, another one each time."""

    def private_bytes_raw(self) -> bytes:
        """Return the seed that the key is made from, 32 bytes."""


class SealingKey(Protocol):
    """A public key whose ciphertexts take random bytes (ML-KEM-768)."""

    def encapsulate(self) -> tuple[bytes, bytes]:
        """Return a shared secret of 32 bytes and its ciphertext, others each time."""

    def public_bytes_raw(self) -> bytes:
        """Return the key, 1,184 bytes."""


class Randomness(Protocol):
    """A source of what cannot be foreseen."""

    def token_bytes(self, size: int) -> bytes:
        """Return so many random bytes."""

    def below(self, bound: int) -> int:
        """Return a number from 0 up to, but not including, `bound`."""

    def generator(self) -> random.Random:
        """Return a generator for choices that are no secret, seeded from this source."""

    def sign(self, key: SigningKey, message: bytes, context: bytes) -> bytes:
        """Return the key's signature over a message."""

    def encapsulate(self, key: SealingKey) -> tuple[bytes, bytes]:
        """Return a shared secret of 32 bytes and its ciphertext for the owner of the key."""


class SystemRandomness:
    """The operating system's; keys draw theirs from the library that they belong to."""

    def token_bytes(self, size: int) -> bytes:
        """Return so many random bytes."""
        return secrets.token_bytes(size)

    def below(self, bound: int) -> int:
        """Return a number from 0 up to, but not including, `bound`."""
        return secrets.randbelow(bound)

    def generator(self) -> random.Random:
        """Return a generator for choices that are no secret, seeded from the system."""
        return random.Random(secrets.token_bytes(32))  # noqa: S311 - for no secrets

    def sign(self, key: SigningKey, message: bytes, context: bytes) -> bytes:
        """Return the key's signature over a message, hedged."""
        return key.sign(message, context)

    def encapsulate(self, key: SealingKey) -> tuple[bytes, bytes]:
        """Return a shared secret of 32 bytes and its ciphertext for the owner of the key."""
        return key.encapsulate()


SYSTEM: Final = SystemRandomness()
"""What a node runs on."""
