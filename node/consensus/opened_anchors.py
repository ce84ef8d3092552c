"""Anchors that are validated with no chain at hand: by their headers and the history before them.

What a file shows of a chain rests on this (Protocol §4, §12.1): of an anchor that is opened every
rule is checked that needs no body, its target exactly, by the history that its own body root
commits to. Of anchors that are not opened the history is a claim of who mined that root.
"""

from __future__ import annotations

from typing import Final

import msgspec

from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.difficulty import child_target
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.node.consensus.transition import check_body_root, check_header
from unchained.node.crypto import history_range
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.crypto.history_range import (
    MAX_WORK,
    HistoryNode,
    HistoryPeaks,
    HistoryProof,
    HistoryRange,
    NodeBytes,
)
from unchained.node.primitives.coin import Coin

FIRST_HEIGHT: Final = 1
"""Height of R of Protocol §7."""


class UnprovenHistoryError(Exception):
    """An anchor and the history before it do not fit; the text names what does not."""


class HistoryStart(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How a history begins: its node of height 1, and that node's path, of which genesis's own node
    is the lowest sibling. There is none of a history of genesis alone."""

    node: NodeBytes
    path: HistoryProof

    @classmethod
    def of(cls, history: HistoryRange) -> HistoryStart:
        """Return the start of a history of two anchors or more."""
        return cls(history.leaf(FIRST_HEIGHT), history.prove(FIRST_HEIGHT))

    def first(self) -> HistoryNode:
        """Return the node of height 1: time and coins of R of Protocol §7."""
        return HistoryNode.from_bytes(self.node)

    def history(self) -> HistoryPeaks:
        """Return the history that the path is of."""
        return HistoryPeaks(self.path.anchors, self.path.peaks)


def check_start(start: HistoryStart, history_root: bytes, network: Network) -> HistoryPeaks:
    """Check that the history under a root begins with the network's genesis; return it.

    Raises `UnprovenHistoryError`.
    """
    path = start.path
    # Protocol §12.1: "the proof of `start` is of height 1, its lowest sibling is genesis's node"
    if path.height != FIRST_HEIGHT or not history_range.verify(path, start.node, history_root):
        raise UnprovenHistoryError("the history does not show its anchor of height 1")
    if path.siblings[:1] != genesis_of(network).history.peaks:
        raise UnprovenHistoryError(f"the chain does not begin with the genesis of {network.name}")
    # Protocol §7: "Children of genesis have target0"
    if start.first().work != min(anchor_work(network.target0, network), MAX_WORK):
        raise UnprovenHistoryError(
            "the anchor of height 1 does not have the work of the first target"
        )
    return start.history()


def check_opened(
    header: AnchorHeader, before: HistoryPeaks, first: HistoryNode, network: Network
) -> Coin:
    """Check an anchor by the history before it, which begins as `first` says; return its coin.

    All but its mix. Raises `UnprovenHistoryError`, or the `ProtocolError` that it breaks.
    """
    if not before.count:
        raise UnprovenHistoryError("genesis is not an anchor that anybody mined")
    anchor = Coin.from_bytes(header.coin)
    last = HistoryNode.from_bytes(before.peaks[-1])
    # Protocol §12.1: "Where the last mountain before it is one anchor, that is its parent."
    if before.count & 1 and anchor.parent != last.digest:
        raise UnprovenHistoryError("the anchor is not bound to the last one of its history")
    check_body_root(anchor, header.body_root())
    height, coins = before.count - 1, before.coins
    target = child_target(
        network,
        anchor_height=height,
        elapsed_ms=last.time - first.time,
        n=coins - first.coins,
    )
    parent = AnchorContext(
        anchor.parent, height, last.time, coins, target, first.time, first.coins, before
    )
    lists = header.fresh.n, header.uncles.n, header.transfers.n
    check_header(anchor, *lists, header.history_root, parent, network, None)
    return anchor
