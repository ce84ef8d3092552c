"""ML-DSA-65 signatures that follow from key and message, by arrays of NumPy.

As `dilithium-py` makes them, byte for byte and many times faster: its test compares them. The steps
and names are those of FIPS 204, algorithms 1, 2, 6 and 7. Polynomials are rows of 256 coefficients.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from dilithium_py.ml_dsa import ML_DSA_65

Array = np.ndarray[Any, np.dtype[np.int64]]

Q: Final = 8380417
N: Final = 256
ROWS, COLUMNS = 6, 5
"""k and l of the standard."""
ETA, TAU, BETA, OMEGA, DROPPED = 4, 49, 196, 55, 13
GAMMA_1: Final = 1 << 19
GAMMA_2: Final = (Q - 1) // 32
_ZETAS: Final = np.array(ML_DSA_65.R.ntt_zetas, dtype=np.int64)
_NTT_F: Final = pow(N, -1, Q)


class _Key(NamedTuple):
    matrix: Array
    """A, its entries transformed: rows, columns, coefficients."""
    s1: Array
    s2: Array
    t0: Array
    """The secrets, transformed."""
    k: bytes
    tr: bytes


def sign(seed: bytes, message: bytes, context: bytes) -> bytes:
    """Return the deterministic signature by the key of a seed of 32 bytes."""
    key = _key_of(seed)
    mu = _h(key.tr + bytes([0, len(context)]) + context + message, 64)
    rho = _h(key.k + bytes(32) + mu, 64)
    kappa = 0
    while True:
        y = np.stack([_mask(rho, kappa + at) for at in range(COLUMNS)])
        kappa += COLUMNS
        w = _from_ntt((key.matrix * _to_ntt(y) % Q).sum(axis=1))
        challenge = _h(mu + _pack(_high(w), 4), 48)
        c = _to_ntt(np.array([ML_DSA_65.R.sample_in_ball(challenge, TAU).coeffs], dtype=np.int64))
        z = _centred(y + _from_ntt(c * key.s1), Q)
        if abs(z).max() >= GAMMA_1 - BETA:
            continue
        rest = w - _from_ntt(c * key.s2)
        if abs(_low(rest)).max() >= GAMMA_2 - BETA:
            continue
        dropped = _centred(_from_ntt(c * key.t0), Q)
        hints = _high(rest + dropped) != _high(rest)
        if abs(dropped).max() < GAMMA_2 and hints.sum() <= OMEGA:
            return challenge + _pack(GAMMA_1 - z, 20) + _pack_hints(hints)


@lru_cache(maxsize=1024)
def _key_of(seed: bytes) -> _Key:
    expanded = _h(seed + bytes([ROWS, COLUMNS]), 128)
    rho, secret, k = expanded[:32], expanded[32:96], expanded[96:]
    matrix = np.stack(
        [np.stack([_uniform(rho, i, j) for j in range(COLUMNS)]) for i in range(ROWS)]
    )
    s = np.stack([_short(secret, at) for at in range(COLUMNS + ROWS)])
    s1, s2 = _to_ntt(s[:COLUMNS]), s[COLUMNS:]
    t = (_from_ntt((matrix * s1 % Q).sum(axis=1)) + s2) % Q
    t0 = _centred(t, 1 << DROPPED)
    tr = _h(rho + _pack((t - t0) >> DROPPED, 10), 64)
    return _Key(matrix, s1, _to_ntt(s2), _to_ntt(t0), k, tr)


def _h(data: bytes, size: int) -> bytes:
    return hashlib.shake_256(data).digest(size)


def _uniform(rho: bytes, i: int, j: int) -> Array:
    """RejNTTPoly: 256 of the numbers of 23 bits that are below q."""
    size = 3 * N
    while True:
        size += 96
        drawn = hashlib.shake_128(rho + bytes([j, i])).digest(size)
        b = np.frombuffer(drawn, dtype=np.uint8).reshape(-1, 3).astype(np.int64)
        numbers = b[:, 0] | b[:, 1] << 8 | (b[:, 2] & 0x7F) << 16
        fit = numbers[numbers < Q]
        if len(fit) >= N:
            return fit[:N]


def _short(secret: bytes, at: int) -> Array:
    """RejBoundedPoly: 256 numbers from -eta to eta, from half bytes."""
    size = N
    while True:
        size += 64
        drawn = np.frombuffer(_h(secret + at.to_bytes(2, "little"), size), dtype=np.uint8)
        halves = np.stack([drawn & 15, drawn >> 4], axis=1).ravel().astype(np.int64)
        fit = halves[halves < 2 * ETA + 1]
        if len(fit) >= N:
            return ETA - fit[:N]


def _mask(rho: bytes, kappa: int) -> Array:
    """ExpandMask: 256 numbers of 20 bits around 0."""
    drawn = np.frombuffer(_h(rho + kappa.to_bytes(2, "little"), 640), dtype=np.uint8)
    b = drawn.reshape(-1, 5).astype(np.int64)
    first = b[:, 0] | b[:, 1] << 8 | (b[:, 2] & 15) << 16
    second = b[:, 2] >> 4 | b[:, 3] << 4 | b[:, 4] << 12
    return GAMMA_1 - np.stack([first, second], axis=1).ravel()


def _to_ntt(polynomials: Array) -> Array:
    found, length, at = polynomials % Q, N // 2, 1
    while length:
        count = N // (2 * length)
        pairs = found.reshape(-1, count, 2, length)
        turned = pairs[:, :, 1] * _ZETAS[at : at + count, None] % Q
        found = np.stack([pairs[:, :, 0] + turned, pairs[:, :, 0] - turned], axis=2) % Q
        at += count
        length //= 2
    return found.reshape(-1, N)


def _from_ntt(polynomials: Array) -> Array:
    found, length, at = polynomials % Q, 1, N
    while length < N:
        count = N // (2 * length)
        pairs = found.reshape(-1, count, 2, length)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        turned = (second - first) * _ZETAS[at - count : at][::-1, None]
        found = np.stack([first + second, turned], axis=2) % Q
        at -= count
        length *= 2
    return found.reshape(-1, N) * _NTT_F % Q


def _centred(numbers: Array, modulus: int) -> Array:
    """Return what is congruent and next to 0; half the modulus stays positive."""
    found = numbers % modulus
    return np.where(found > modulus // 2, found - modulus, found)


def _low(numbers: Array) -> Array:
    low = _centred(numbers % Q, 2 * GAMMA_2)
    return np.where(numbers % Q - low == Q - 1, low - 1, low)


def _high(numbers: Array) -> Array:
    low = _centred(numbers % Q, 2 * GAMMA_2)
    above = numbers % Q - low
    return np.where(above == Q - 1, 0, above // (2 * GAMMA_2))


def _pack(numbers: Array, bits: int) -> bytes:
    """Return numbers of so many bits, the lowest first."""
    each = (numbers.ravel()[:, None] >> np.arange(bits)) & 1
    return np.packbits(each.astype(np.uint8).ravel(), bitorder="little").tobytes()


def _pack_hints(hints: np.ndarray[Any, np.dtype[np.bool_]]) -> bytes:
    places: bytes = np.nonzero(hints)[1].astype(np.uint8).tobytes()
    ends: bytes = hints.sum(axis=1).cumsum().astype(np.uint8).tobytes()
    return places.ljust(OMEGA, b"\0") + ends
