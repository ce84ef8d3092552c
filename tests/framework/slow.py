"""Hashes, Merkle roots and difficulty written down from the protocol's text a second time.

No code is shared with the node, nothing is fast, and every structure is rebuilt from nothing: what
the node computes by increments must equal it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple

from blake3 import blake3


def slow_hash(context: str, data: bytes, length: int = 32) -> bytes:
    """`H(ctx, data)` by BLAKE3's one-shot interface."""
    return blake3(data, derive_key_context=f"unchained v1 {context}").digest(length)


def slow_merkle_root(ids: Sequence[bytes]) -> bytes:
    """The root of Protocol §2, top down: a left subtree is the largest full one that leaves
    something to its right, which is what carrying odd nodes up comes to."""
    top = _subtree(ids) if ids else bytes(32)
    return slow_hash("merkle", len(ids).to_bytes(4, "big") + top)


def _subtree(ids: Sequence[bytes]) -> bytes:
    if len(ids) == 1:
        return slow_hash("leaf", ids[0])
    split = 1
    while split * 2 < len(ids):
        split *= 2
    return slow_hash("node", _subtree(ids[:split]) + _subtree(ids[split:]))


class SlowMember(NamedTuple):
    """A coin of the set (Protocol §4)."""

    coin_id: bytes
    value: int
    lock: bytes
    height: int
    minted: bool


class SlowNetwork(NamedTuple):
    """What the difficulty depends on (Protocol §7, §10)."""

    target0: int
    max_target: int
    epoch_ms: int
    k: int
    tau_ms: int


def slow_exponent(network: SlowNetwork, elapsed_ms: int, n: int) -> Fraction:
    """How many doublings of the target the chain is behind its schedule, exactly."""
    behind = Fraction(elapsed_ms) - Fraction(n * network.epoch_ms, network.k)
    return behind / network.tau_ms


def slow_child_target(network: SlowNetwork, elapsed_ms: int, n: int) -> int:
    """The target of Protocol §7 in rationals: floors only where the text has them."""
    e = floor(slow_exponent(network, elapsed_ms, n) * 65536)
    s = floor(Fraction(e, 65536))
    f = e - 65536 * s
    if s > 255:
        return network.max_target
    if s < -255:
        return 1
    cubic = Fraction(195766423245049 * f + 971821376 * f**2 + 5127 * f**3, 2**48)
    factor = Fraction(65536 + floor(cubic + Fraction(1, 2)), 65536)
    return min(max(floor(network.target0 * factor * Fraction(2) ** s), 1), network.max_target)
