"""Finds in bulk which notes may be an account's, a few times faster than decapsulating each.

Decapsulating ML-KEM-768 (FIPS 203, algorithm 18) decrypts a message and then encrypts it again, to
reject ciphertexts that were tampered with; that second part takes most of the time. Code that only
looks for his own coins needs the first part alone, since the lock decides: here the decryption
(algorithm 15) of many ciphertexts is one product of matrices. The secret's coefficients are at most
2 and those of a ciphertext at most 1,664 in magnitude, so that a sum of 768 products stays below
2**24 and single-precision floats are exact.

What passes here is decapsulated by the library afterwards, which has the last word. Nothing that
the library would find is missed: a note sealed by `seal_note` decrypts to the secret that it was
sealed with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from unchained.node.crypto.accounts import WatchAccount
from unchained.node.crypto.addresses import NOTE_SIZE, OutputPlace, stealth_salt
from unchained.node.crypto.keys import CIPHERTEXT_SIZE
from unchained.node.primitives.conditions import KeyCondition
from unchained.node.primitives.hashing import LOCK
from unchained.node.primitives.types import Lock

BATCH: Final = 512
"""Notes of one product: its operands fit a core's cache."""

_Q: Final = 3_329
_N: Final = 256
_K: Final = 3
_U_SIZE: Final = 960
"""Bytes of a ciphertext's first part: 3 polynomials of 10-bit coefficients."""

Note = tuple[OutputPlace, Lock, bytes]
"""Where an output stands, its lock and its note."""

_Floats = npt.NDArray[np.float32]


class NoteFilter:
    """Finds the notes that may be one account's."""

    __slots__ = ("_condition", "_matrix", "_public_key_hash")

    def __init__(self, account: WatchAccount) -> None:
        self._matrix = _secret_matrix(account.view.seed()[:32])
        self._public_key_hash = hashlib.sha3_256(account.view.public_key).digest()
        self._condition = KeyCondition(account.key_hash).to_bytes()

    def candidates(self, notes: Sequence[Note]) -> list[int]:
        """Return the places of the notes that may be the account's; nearly always they are."""
        sized = [at for at, (_, _, note) in enumerate(notes) if len(note) == NOTE_SIZE]
        found: list[int] = []
        for start in range(0, len(sized), BATCH):
            places = sized[start : start + BATCH]
            ciphertexts = [notes[at][2][:CIPHERTEXT_SIZE] for at in places]
            for at, ciphertext, message in zip(
                places, ciphertexts, self._decrypt(ciphertexts), strict=True
            ):
                # FIPS 203, algorithm 18, line 6
                shared = hashlib.sha3_512(message + self._public_key_hash).digest()[:32]
                place, lock, _ = notes[at]
                # Protocol §9
                if LOCK(self._condition + stealth_salt(shared, ciphertext, place)) == lock:
                    found.append(at)
        return found

    def _decrypt(self, ciphertexts: Sequence[bytes]) -> list[bytes]:
        """Return the 32-byte messages of ciphertexts (FIPS 203, algorithm 15)."""
        raw = np.frombuffer(b"".join(ciphertexts), np.uint8).reshape(-1, CIPHERTEXT_SIZE)
        u = _DECOMPRESS_10[_ten_bits(raw[:, :_U_SIZE])]
        packed = raw[:, _U_SIZE:]
        v = np.empty((len(raw), _N), np.float32)
        v[:, 0::2] = _DECOMPRESS_4[packed & 15]
        v[:, 1::2] = _DECOMPRESS_4[packed >> 4]
        w = (v - u @ self._matrix).astype(np.int32) % _Q
        # to 1 bit: nearer to q/2 than to 0
        bits = (w > _Q // 4) & (w <= 3 * _Q // 4)
        messages = np.packbits(bits, axis=1, bitorder="little")
        return [message.tobytes() for message in messages]

    def __repr__(self) -> str:
        return "<NoteFilter>"


def _ten_bits(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Return the 768 coefficients of 10 bits, little-endian, of rows of 960 bytes."""
    five = raw.reshape(len(raw), -1, 5).astype(np.uint16)
    four = np.empty((len(raw), five.shape[1], 4), np.uint16)
    four[:, :, 0] = five[:, :, 0] | (five[:, :, 1] & 3) << 8
    four[:, :, 1] = five[:, :, 1] >> 2 | (five[:, :, 2] & 15) << 6
    four[:, :, 2] = five[:, :, 2] >> 4 | (five[:, :, 3] & 63) << 4
    four[:, :, 3] = five[:, :, 3] >> 6 | five[:, :, 4] << 2
    return four.reshape(len(raw), -1)


def _secret_matrix(seed: bytes) -> _Floats:
    """Return the matrix that multiplies 3 polynomials by the secret's and adds up (FIPS 203,
    algorithm 13): 768 coefficients to 256, modulo X**256 + 1. `seed` is d of the view key."""
    sigma = hashlib.sha3_512(seed + bytes((_K,))).digest()[32:]
    matrix = np.empty((_K * _N, _N), np.float32)
    for index in range(_K):
        secret = _binomial(hashlib.shake_256(sigma + bytes((index,))).digest(128))
        for shift in range(_N):
            row = matrix[index * _N + shift]
            row[shift:] = secret[: _N - shift]
            row[:shift] = -secret[_N - shift :]
    return matrix


def _binomial(raw: bytes) -> _Floats:
    """Return 256 coefficients of -2 to 2 (FIPS 203, algorithm 8)."""
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little").reshape(_N, 4)
    signed = bits.astype(np.float32)
    return signed[:, 0] + signed[:, 1] - signed[:, 2] - signed[:, 3]


def _decompress(bits: int) -> _Floats:
    """Return what each value of so many bits stands for, between -q/2 and q/2 (FIPS 203 §4.2.1)."""
    values = (_Q * np.arange(1 << bits) + (1 << (bits - 1))) >> bits
    return np.where(values > _Q // 2, values - _Q, values).astype(np.float32)


_DECOMPRESS_10: Final = _decompress(10)
_DECOMPRESS_4: Final = _decompress(4)
