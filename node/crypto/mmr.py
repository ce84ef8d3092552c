"""The history: a Merkle mountain range over the ids of a chain's anchors (Protocol §4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import HISTORY_HASH, LEAF, NODE
from unchained.node.primitives.types import U64_MAX, Bytes32, UInt64

MAX_PEAKS: Final = 64
"""Most mountains of a range: its size is a u64 and has a mountain for each of its bits."""


class History(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A range of `count` anchor ids: the peaks of its mountains, from the highest to the lowest."""

    count: UInt64
    peaks: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_PEAKS)]

    def append(self, anchor_id: bytes) -> History:
        """Return the range with one more id."""
        peaks = self.peaks
        node = LEAF(anchor_id)
        # each trailing one bit of the count is a mountain as high as the one that has just grown
        joined = (~self.count & (self.count + 1)).bit_length() - 1
        for height in range(1, joined + 1):
            node = NODE(peaks[-height] + node)
        return History(self.count + 1, (*peaks[: len(peaks) - joined], node))

    def root(self) -> bytes:
        """Return the history root, 32 bytes."""
        return HISTORY_HASH(self.count.to_bytes(8, "big") + b"".join(self.peaks))

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> History:
        """Decode a range. Raises `NonCanonicalError`, also for a number of peaks that is not the
        count's."""
        history = _DECODER.decode(raw)
        if len(history.peaks) != history.count.bit_count():
            raise NonCanonicalError(
                expected=f"{history.count.bit_count()} peaks over {history.count} ids",
                actual=f"{len(history.peaks)} peaks",
            )
        return history


EMPTY_HISTORY: Final = History(0, ())
"""The range over no ids: what genesis commits to."""


class HistoryProof(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That an anchor is the one at height `index` of a chain of `count` anchors: siblings from the
    leaf to the peak of its mountain, then all other peaks from left to right."""

    count: UInt64
    index: UInt64
    siblings: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_PEAKS)]
    peaks: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_PEAKS)]

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> HistoryProof:
        """Decode a proof. Raises `NonCanonicalError`."""
        return _PROOF_DECODER.decode(raw)


def prove(ids: Sequence[bytes], index: int) -> HistoryProof:
    """Return the proof of `ids[index]` in the range over all `ids`, genesis first.

    Hashes every id once. Raises IndexError unless 0 <= index < len(ids).
    """
    if not 0 <= index < len(ids):
        raise IndexError(f"index {index} in a history of {len(ids)} anchors")
    peaks: list[bytes] = []
    siblings: list[bytes] = []
    start = 0
    for height in _mountain_heights(len(ids)):
        level = [LEAF(anchor_id) for anchor_id in ids[start : start + (1 << height)]]
        position = index - start
        within = 0 <= position < len(level)
        start += len(level)
        while len(level) > 1:
            if within:
                siblings.append(level[position ^ 1])
                position >>= 1
            pairs = iter(level)
            level = [NODE(left + right) for left, right in zip(pairs, pairs, strict=True)]
        if not within:
            peaks.append(level[0])
    return HistoryProof(len(ids), index, tuple(siblings), tuple(peaks))


def verify(proof: HistoryProof, anchor_id: bytes, root: bytes) -> bool:
    """Tell whether the proof shows `anchor_id` under a history root. Never raises for proofs of
    bytes and integers; at most 66 hashes."""
    count, position = proof.count, proof.index
    if not 0 <= position < count <= U64_MAX or len(anchor_id) != 32:
        return False
    if any(len(node) != 32 for node in (*proof.siblings, *proof.peaks)):
        return False
    before = 0
    for height in _mountain_heights(count):
        if position < 1 << height:
            break
        position -= 1 << height
        before += 1
    if len(proof.siblings) != height or len(proof.peaks) != count.bit_count() - 1:
        return False
    node = LEAF(anchor_id)
    for sibling in proof.siblings:
        node = NODE(sibling + node if position & 1 else node + sibling)
        position >>= 1
    peaks = (*proof.peaks[:before], node, *proof.peaks[before:])
    return History(count, peaks).root() == root


def _mountain_heights(count: int) -> list[int]:
    """Return the heights of the mountains over `count` leaves, left to right."""
    return [bit for bit in range(count.bit_length() - 1, -1, -1) if count >> bit & 1]


_DECODER = CanonicalDecoder(History, max_size=16 + 34 * MAX_PEAKS)
_PROOF_DECODER = CanonicalDecoder(HistoryProof, max_size=32 + 2 * 34 * MAX_PEAKS)
