"""Randomness of a simulation: all of it from a seed, signatures and ciphertexts included.

`cryptography` signs and encapsulates at random, so here the pure Python ML-DSA and ML-KEM of PyPI
do it: what they make is verified and opened by the product's own code.
"""

from __future__ import annotations

import random
from functools import cache

from dilithium_py.ml_dsa import ML_DSA_65
from kyber_py.ml_kem import ML_KEM_768

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
        private = _private_key(key.private_bytes_raw())
        signature: bytes = ML_DSA_65.sign(private, message, ctx=context, deterministic=True)
        return signature

    def encapsulate(self, key: SealingKey) -> tuple[bytes, bytes]:
        shared, ciphertext = ML_KEM_768._encaps_internal(
            key.public_bytes_raw(), self._rng.randbytes(32)
        )
        return shared, ciphertext


@cache
def _private_key(seed: bytes) -> bytes:
    _, private = ML_DSA_65.key_derive(seed)
    return bytes(private)
