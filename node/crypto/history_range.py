"""The history: a range over a chain's anchors that sums up work, coins and time (Protocol §4).

A node has 80 bytes, `digest ‖ u256(work) ‖ u64(coins) ‖ u64(time)`; most of what handles nodes
handles their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from unchained.node.crypto.ranges import (
    MAX_PEAKS,
    RANGE_SIBLINGS_MAX,
    PagedRange,
    PageSource,
    is_path,
    mountain_of,
)
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import HISTORY_HASH, HISTORY_NODE
from unchained.node.primitives.types import U64_MAX, UInt64

NODE_SIZE: Final = 80
"""Bytes of a node."""

MAX_WORK: Final = 2**256 - 1
"""The greatest sum of work: whatever is greater is written as that."""

HISTORY_PAGE_HEIGHT: Final = 4
"""Levels of nodes in a page."""

HISTORY_PAGE_SIZE: Final = 2_400
"""Bytes of a page: 30 nodes."""

NodeBytes = Annotated[bytes, msgspec.Meta(min_length=NODE_SIZE, max_length=NODE_SIZE)]
"""The 80 bytes of a node in a MessagePack layout."""

_NODE: Final = struct.Struct(">32s32sQQ")


class HistoryNode(msgspec.Struct, frozen=True, gc=False):
    """What a node says: work and coins of all anchors below it, and the time of the last of them in
    ms. An anchor's own node has its id as the digest."""

    digest: bytes
    work: int
    coins: int
    time: int

    @classmethod
    def of_anchor(cls, anchor_id: bytes, work: int, coins: int, time: int) -> HistoryNode:
        """Return an anchor's own node: work `K * work(target)`, coins `|fresh| + |uncles| + 1`, the
        header's time; genesis's has neither work nor coins."""
        # Protocol §4: Work is at most 2**256 - 1: whatever is greater is written as that
        return cls(anchor_id, min(work, MAX_WORK), coins, time)

    def to_bytes(self) -> bytes:
        """Return the node's 80 bytes."""
        return _NODE.pack(self.digest, self.work.to_bytes(32, "big"), self.coins, self.time)

    @classmethod
    def from_bytes(cls, raw: bytes) -> HistoryNode:
        """Read a node. Any 80 bytes are one; raises ValueError for another length."""
        if len(raw) != NODE_SIZE:
            raise ValueError(f"a history node has {NODE_SIZE} bytes, got {len(raw)}")
        digest, work, coins, time = _NODE.unpack(raw)
        return cls(digest, int.from_bytes(work, "big"), coins, time)


def join(pair: bytes) -> bytes:
    """Return the node over two neighbours, 160 bytes left to right.

    Raises OverflowError for more than 2**64 - 1 coins, which no node that counts can have.
    """
    work = int.from_bytes(pair[32:64], "big") + int.from_bytes(pair[112:144], "big")
    coins = int.from_bytes(pair[64:72], "big") + int.from_bytes(pair[144:152], "big")
    return b"".join(
        (
            HISTORY_NODE(pair),
            min(work, MAX_WORK).to_bytes(32, "big"),
            coins.to_bytes(8, "big"),
            pair[152:],
        )
    )


class HistoryPeaks(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A history by its count of anchors and its peaks, from the highest mountain to the lowest:
    enough to append to, and for the root."""

    count: UInt64
    peaks: Annotated[tuple[NodeBytes, ...], msgspec.Meta(max_length=MAX_PEAKS)]

    def append(self, leaf: bytes) -> HistoryPeaks:
        """Return the history with one more anchor, whose own node this is, 80 bytes.

        Raises ValueError for another length, OverflowError as `join` does.
        """
        if len(leaf) != NODE_SIZE:
            raise ValueError(f"a history node has {NODE_SIZE} bytes, got {len(leaf)}")
        peaks = self.peaks
        node = leaf
        # each trailing one bit of the count is a mountain as high as the one that has just grown
        joined = (~self.count & (self.count + 1)).bit_length() - 1
        for height in range(1, joined + 1):
            node = join(peaks[-height] + node)
        return HistoryPeaks(self.count + 1, (*peaks[: len(peaks) - joined], node))

    def root(self) -> bytes:
        """Return the history root, 32 bytes."""
        return HISTORY_HASH(self.count.to_bytes(8, "big") + b"".join(self.peaks))

    @property
    def work(self) -> int:
        """Work of all anchors, at most 2**256 - 1."""
        return min(sum(HistoryNode.from_bytes(peak).work for peak in self.peaks), MAX_WORK)

    @property
    def coins(self) -> int:
        """Coins of all anchors: the n_total of the last one's children (Protocol §6)."""
        return _coins(self.peaks)

    @property
    def time(self) -> int | None:
        """Time of the last anchor in ms; None where there is none."""
        return HistoryNode.from_bytes(self.peaks[-1]).time if self.peaks else None

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> HistoryPeaks:
        """Decode a history. Raises `NonCanonicalError`, also for a number of peaks that is not the
        count's."""
        history = _PEAKS_DECODER.decode(raw)
        if len(history.peaks) != history.count.bit_count():
            raise NonCanonicalError(
                expected=f"{history.count.bit_count()} peaks over {history.count} anchors",
                actual=f"{len(history.peaks)} peaks",
            )
        return history


EMPTY_HISTORY: Final = HistoryPeaks(0, ())
"""The history of no anchors: what genesis commits to."""


class HistoryProof(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That a node is the anchor's at `height` in a history of so many anchors: its siblings from
    the leaf up, and all peaks from left to right."""

    anchors: UInt64
    height: UInt64
    siblings: Annotated[tuple[NodeBytes, ...], msgspec.Meta(max_length=RANGE_SIBLINGS_MAX)]
    peaks: Annotated[tuple[NodeBytes, ...], msgspec.Meta(max_length=MAX_PEAKS)]

    def before(self) -> HistoryPeaks:
        """Return the history before the anchor: its work and its coins (the anchor's n_total), its
        last time (the parent's; None for genesis), and its root (in the anchor's own body).

        Shown only by a proof that `verify` accepted, and of anchors that are not opened the sums
        are a claim of who mined the root. Raises ValueError where the index is not below the count.
        """
        # Protocol §4: So a path, with the peaks, gives the nodes that lie before an anchor
        if not 0 <= self.height < self.anchors:
            raise ValueError(f"no anchor of height {self.height} among {self.anchors}")
        _, place = mountain_of(self.anchors, self.height)
        left = [node for level, node in enumerate(self.siblings) if self.height >> level & 1]
        return HistoryPeaks(self.height, (*self.peaks[:place], *reversed(left)))

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> HistoryProof:
        """Decode a proof. Raises `NonCanonicalError`."""
        return _PROOF_DECODER.decode(raw)


def verify(proof: HistoryProof, leaf: bytes, root: bytes) -> bool:
    """Return whether the proof shows an anchor's own node, 80 bytes, under a history root. Never
    raises for proofs of bytes and integers; at most 64 hashes."""
    # Protocol §4: and if its sum of coins exceeds 2**64 - 1. What lies beside the path and what
    # lies below the peaks are two sums until the path is climbed
    if _coins((leaf, *proof.siblings)) > U64_MAX or _coins(proof.peaks) > U64_MAX:
        return False
    return (
        is_path(
            proof.anchors,
            proof.height,
            leaf,
            proof.siblings,
            proof.peaks,
            width=NODE_SIZE,
            join=join,
        )
        and HistoryPeaks(proof.anchors, proof.peaks).root() == root
    )


class HistoryRange(PagedRange):
    """The nodes of a chain's whole history in pages, for proofs; leaves are anchors' own nodes."""

    __slots__ = ()

    def __init__(
        self, source: PageSource, count: int, *, clean_pages_max: int | None = None
    ) -> None:
        super().__init__(
            source,
            count,
            width=NODE_SIZE,
            join=join,
            page_height=HISTORY_PAGE_HEIGHT,
            clean_pages_max=clean_pages_max,
        )

    def history(self) -> HistoryPeaks:
        """Return count and peaks."""
        return HistoryPeaks(self.count, self.peaks())

    def prove(self, height: int) -> HistoryProof:
        """Return the proof of the anchor at a height, under the root of the whole range. Raises
        IndexError for a height that the range does not have."""
        return HistoryProof(self.count, height, self.siblings(height), self.peaks())


def _coins(nodes: Iterable[bytes]) -> int:
    """Return the sum of the nodes' coins; of bytes of any length."""
    return sum(int.from_bytes(node[64:72], "big") for node in nodes)


_PEAKS_DECODER = CanonicalDecoder(HistoryPeaks, max_size=32 + 82 * MAX_PEAKS)
_PROOF_DECODER = CanonicalDecoder(HistoryProof, max_size=48 + 82 * (RANGE_SIBLINGS_MAX + MAX_PEAKS))
