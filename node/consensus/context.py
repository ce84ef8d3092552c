"""An anchor as what is built on it sees it: one arithmetic for tree, header chains and archive.

What every coin bound to an anchor has to carry follows from the anchor's header and the number of
coins that it lists: no body is needed, and no state (Protocol §6, §7).
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from unchained.node.consensus.difficulty import child_target
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.params import Network
from unchained.node.crypto.history_range import HistoryNode, HistoryPeaks
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId


class AnchorContext(msgspec.Struct, frozen=True, gc=False):
    """What the children of an anchor have to fit, and what they hand on to theirs.

    `time` in ms; `child_n_total` and `child_target` are what every coin bound to the anchor
    carries (Protocol §6, §7). `origin_time` (ms) and `origin_n_total` are those of R of §7: the
    time of this chain's anchor of height 1 and the n_total of its children; 0 at genesis.
    `history` is the range after the anchor (Protocol §4), None where that is not kept any more:
    deep below the tip, where no body is asked for.
    """

    id: CoinId
    height: int
    time: int
    child_n_total: int
    child_target: int
    origin_time: int
    origin_n_total: int
    history: HistoryPeaks | None


class BranchView(Protocol):
    """The chain that ends in the parent of the anchor in hand ("this chain", Protocol §5)."""

    def anchor_at(self, height: int) -> AnchorContext | None:
        """Return this chain's anchor at a height, or None above its end or below genesis."""

    def target_at(self, height: int) -> int | None:
        """Return the target in the header of this chain's anchor at a height: t(h) of §5."""

    def included(self, coin_id: CoinId, since: int = 0) -> Coin | None:
        """Return the coin if it is an anchor of this chain or was listed by one.

        `since` is a height below which no anchor can have listed it: a coin's own height.
        """


def genesis_context(genesis: Coin, history: HistoryPeaks | None, network: Network) -> AnchorContext:
    """Return genesis as its children see it; `history` is the range over genesis alone."""
    time = genesis.header.time
    # Protocol §6: "for children of genesis it is 0"
    # Protocol §7: "Children of genesis have target0"
    return AnchorContext(genesis.id, 0, time, 0, network.target0, 0, 0, history)


def child_context(
    anchor: Coin, listed: int, parent: AnchorContext, network: Network
) -> AnchorContext:
    """Return the context of an anchor that lists so many coins, fresh and uncles, from its
    parent's. Of the parent it takes R of Protocol §7 and the history."""
    header = anchor.header
    # Protocol §6: "n_total(child of A) = n_total(A) + |fresh(A)| + |uncles(A)| + 1"
    n_total = header.n_total + listed + 1
    origin_time, origin_n_total = parent.origin_time, parent.origin_n_total
    # Protocol §7: "with R the chain's anchor of height 1"
    if header.height == 1:
        origin_time, origin_n_total = header.time, n_total
    target = child_target(
        network,
        anchor_height=header.height,
        elapsed_ms=header.time - origin_time,
        n=n_total - origin_n_total,
    )
    return AnchorContext(
        anchor.id,
        header.height,
        header.time,
        n_total,
        target,
        origin_time,
        origin_n_total,
        None if parent.history is None else parent.history.append(leaf_of(anchor, listed, network)),
    )


def leaf_of(anchor: Coin, listed: int, network: Network) -> bytes:
    """Return the node of the history, 80 bytes, of an anchor that lists so many coins."""
    header = anchor.header
    # Protocol §4: "its id as the digest, work `K * work(target)`, coins `|fresh| + |uncles| + 1`"
    work = anchor_work(header.target, network)
    return HistoryNode.of_anchor(anchor.id, work, listed + 1, header.time).to_bytes()
