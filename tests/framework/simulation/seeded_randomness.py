"""Randomness of a simulation: all of it from a seed, signatures and ciphertexts included.

`cryptography` signs and encapsulates at random, so here others do it: an ML-DSA of our own that is
equal to that of PyPI's `dilithium-py`, and the ML-KEM of `kyber-py`. What they make is verified and
opened by the product's own code.
"""

from __future__ import annotations

import random

from kyber_py.ml_kem import ML_KEM_768

from tests.framework.simulation import fast_ml_dsa
from unchained.node.base.randomness import SealingKey, SigningKey


class SeededRandomness:
    """A `Randomness` that gives the same for the same seed."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)

    def token_bytes(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def below(self, bound: int) -> int:
        return self._rng.randrange(bound)

    def generator(self) -> random.Random:
        return random.Random(self._rng.randbytes(32))

    def sign(self, key: SigningKey, message: bytes, context: bytes) -> bytes:
        return fast_ml_dsa.sign(key.private_bytes_raw(), message, context)

    def encapsulate(self, key: SealingKey) -> tuple[bytes, bytes]:
        shared, ciphertext = ML_KEM_768._encaps_internal(
            key.public_bytes_raw(), self._rng.randbytes(32)
        )
        return shared, ciphertext
