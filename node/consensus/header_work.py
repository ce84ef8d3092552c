"""What headers alone show of a branch, and how much of it is asked for by that."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from unchained.node.consensus.params import Network, work


class HeaderTargets(msgspec.Struct, frozen=True, gc=False):
    """The target in an anchor's header, and the one that its children carry (Protocol §7)."""

    own: int
    children: int


def anchor_work(target: int, network: Network) -> int:
    """Return what an anchor's header shows of its epoch's work."""
    # Protocol §11: "its sum of K * work(target)"
    return network.coins_per_epoch * work(target)


def count_asked_for(
    branch: Sequence[HeaderTargets],
    branch_work: int,
    main: Sequence[int],
    main_work: int,
    depth: int,
    network: Network,
) -> int:
    """Return of how many of a branch's anchors, the lowest, bodies and votes are asked for.

    `branch` are its anchors above the fork, lowest first, `main` the targets of the main chain's at
    the same heights, that of its tip's children last; both sums are of `anchor_work` above the
    fork, which is `depth` anchors below the tip. A branch that goes on above the main chain may be
    cut there: it has work enough if it is asked for so far.
    """
    # Protocol §11: "a branch that leaves the main chain more than W below the tip"
    if depth <= network.window:
        return len(branch)
    # Protocol §11: "at least a quarter of the main chain's above the fork"
    if 4 * branch_work >= main_work:
        return len(branch)
    for count, (anchor, beside, above) in enumerate(zip(branch, main, main[1:], strict=False)):
        # Protocol §11: "that of its last anchor's children included, are at most twice the main"
        if anchor.own > 2 * beside or anchor.children > 2 * above:
            return count
    return len(branch)
