"""Merkle roots and proofs over ordered lists of 32-byte ids (Protocol §2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.hashing import LEAF, MERKLE, NODE
from unchained.node.primitives.types import ZERO32, Bytes32, UInt64

MAX_LEAVES: Final = 2**32 - 1
"""Most ids under one root: the root hashes their number as a u32."""

MAX_SIBLINGS: Final = 32
"""Most siblings of a proof: the height of a tree of `MAX_LEAVES` leaves."""


class MerkleProof(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That an id is the one at `index` of a list of `n`: its siblings from the leaf upwards, none
    where a node is carried up."""

    n: UInt64
    index: UInt64
    siblings: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_SIBLINGS)]

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> MerkleProof:
        """Decode a proof. Raises `NonCanonicalError`."""
        return _DECODER.decode(raw)


def merkle_top(ids: Sequence[bytes]) -> bytes:
    """Return the topmost hash, before n is mixed in; 32 zero bytes for no ids."""
    if not ids:
        return ZERO32
    level = [LEAF(leaf_id) for leaf_id in ids]
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def root_of(n: int, top: bytes) -> bytes:
    """Return the root of a list of n ids with this top."""
    return MERKLE(n.to_bytes(4, "big") + top)


def merkle_root(ids: Sequence[bytes]) -> bytes:
    """Return the Merkle root of the ids in their order."""
    return root_of(len(ids), merkle_top(ids))


def prove(ids: Sequence[bytes], index: int) -> MerkleProof:
    """Return the proof of `ids[index]`. Raises IndexError unless 0 <= index < len(ids)."""
    if not 0 <= index < len(ids):
        raise IndexError(f"index {index} in a list of {len(ids)} ids")
    siblings = []
    level = [LEAF(leaf_id) for leaf_id in ids]
    position = index
    while len(level) > 1:
        beside = position ^ 1
        if beside < len(level):
            siblings.append(level[beside])
        level = _level_above(level)
        position >>= 1
    return MerkleProof(len(ids), index, tuple(siblings))


def verify(proof: MerkleProof, leaf_id: bytes, root: bytes) -> bool:
    """Return whether the proof shows `leaf_id` under `root`. Never raises for proofs of bytes and
    integers; at most 34 hashes."""
    n, position, siblings = proof.n, proof.index, proof.siblings
    # Protocol §2: fails unless index < n and all siblings are used
    if not 0 <= position < n <= MAX_LEAVES or len(leaf_id) != 32:
        return False
    node = LEAF(leaf_id)
    width, used = n, 0
    while width > 1:
        if position ^ 1 < width:
            if used == len(siblings) or len(siblings[used]) != 32:
                return False
            sibling = siblings[used]
            used += 1
            node = NODE(sibling + node if position & 1 else node + sibling)
        position >>= 1
        width = (width + 1) >> 1
    return used == len(siblings) and root_of(n, node) == root


def _level_above(level: list[bytes]) -> list[bytes]:
    pairs = iter(level)
    above = [NODE(left + right) for left, right in zip(pairs, pairs, strict=False)]
    if len(level) & 1:
        above.append(level[-1])
    return above


_DECODER = CanonicalDecoder(MerkleProof, max_size=32 + 34 * MAX_SIBLINGS)
