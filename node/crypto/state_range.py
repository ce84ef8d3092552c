"""The state: a range over the positions of all coins that ever entered the set (Protocol §4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.crypto.ranges import (
    MAX_PEAKS,
    RANGE_SIBLINGS_MAX,
    Join,
    PagedRange,
    PageSource,
    is_path,
)
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.hashing import COIN_LEAF, COIN_NODE, STATE_HASH
from unchained.node.primitives.types import U64_MAX, ZERO32, Bytes32, UInt64

SPENT: Final = ZERO32
"""The leaf of a spent coin."""

STATE_PAGE_HEIGHT: Final = 4
"""Levels of nodes in a page."""

STATE_PAGE_SIZE: Final = 960
"""Bytes of a page: 30 nodes."""

_ZERO64: Final = bytes(64)
_LEAF: Final = struct.Struct(">32sQ32sQ?")
_HEAD: Final = struct.Struct(">QQQ")


def leaf_of(coin_id: bytes, value: int, lock: bytes, height: int, minted: bool) -> bytes:
    """Return the leaf of an unspent coin, 32 bytes: its value in grains, the height of its
    inclusion."""
    # Protocol §4: The leaf of an unspent coin
    return COIN_LEAF(_LEAF.pack(coin_id, value, lock, height, minted))


def join(pair: bytes) -> bytes:
    """Return the node over two neighbours, 64 bytes left to right."""
    # Protocol §4: but as 32 zero bytes where both are zero
    return ZERO32 if pair == _ZERO64 else COIN_NODE(pair)


def state_root(positions: int, supply: int, pool: int, peaks: Sequence[bytes]) -> bytes:
    """Return the state root, 32 bytes; supply and pool in grains, all three u64."""
    return STATE_HASH(_HEAD.pack(positions, supply, pool) + b"".join(peaks))


class StateProof(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That a leaf is the one at `position`: its siblings from the leaf up, all peaks from left to
    right, and what else the state root is the hash of."""

    positions: UInt64
    supply: UInt64
    pool: UInt64
    position: UInt64
    siblings: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=RANGE_SIBLINGS_MAX)]
    peaks: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_PEAKS)]

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> StateProof:
        """Decode a proof. Raises `NonCanonicalError`."""
        return _DECODER.decode(raw)


def verify(proof: StateProof, leaf: bytes, root: bytes) -> bool:
    """Return whether the proof shows `leaf` under a state root: that of a coin, which is then
    unspent, or `SPENT`. Never raises for proofs of bytes and integers; at most 64 hashes."""
    if not (0 <= proof.supply <= U64_MAX and 0 <= proof.pool <= U64_MAX):
        return False
    return (
        is_path(
            proof.positions,
            proof.position,
            leaf,
            proof.siblings,
            proof.peaks,
            width=32,
            join=join,
        )
        and state_root(proof.positions, proof.supply, proof.pool, proof.peaks) == root
    )


class StateRange(PagedRange):
    """The leaves of all positions, nodes in pages: spending sets a leaf to `SPENT`, undoing puts it
    back and truncates."""

    __slots__ = ()

    def __init__(
        self, source: PageSource, count: int, *, clean_pages_max: int | None = None
    ) -> None:
        super().__init__(
            source,
            count,
            width=32,
            join=_own_join(),
            page_height=STATE_PAGE_HEIGHT,
            clean_pages_max=clean_pages_max,
        )

    def root(self, supply: int, pool: int) -> bytes:
        """Return the state root, 32 bytes, with this supply and this pool in grains."""
        return state_root(self.count, supply, pool, self.peaks())

    def prove(self, position: int, supply: int, pool: int) -> StateProof:
        """Return the proof of the leaf at a position, under the root with this supply and this
        pool. Raises IndexError for a position that the range does not have."""
        return StateProof(self.count, supply, pool, position, self.siblings(position), self.peaks())


def _own_join() -> Join:
    """Return `join` for one thread at a time, in little more than half the time."""
    hasher = COIN_NODE.hasher()
    reset, update, digest = hasher.reset, hasher.update, hasher.digest

    def own_join(pair: bytes) -> bytes:
        if pair == _ZERO64:
            return ZERO32
        reset()
        update(pair)
        return digest()

    return own_join


_DECODER = CanonicalDecoder(StateProof, max_size=64 + 34 * (RANGE_SIBLINGS_MAX + MAX_PEAKS))
