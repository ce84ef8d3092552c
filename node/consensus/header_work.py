"""What headers alone show of work, and what they must show before bodies are asked for."""

from __future__ import annotations

from unchained.node.consensus.params import Network, work


def anchor_work(target: int, network: Network) -> int:
    """Return what an anchor's header shows of its epoch's work."""
    # Protocol §11: "its sum of K * work(target)"
    return network.coins_per_epoch * work(target)


def deserves_bodies(branch_work: int, main_work: int, depth: int, network: Network) -> bool:
    """Tell whether the bodies of a branch are to be asked for.

    Both sums are of `anchor_work` above the fork, which is `depth` anchors below the tip.
    """
    # Protocol §11: "a branch that leaves the main chain more than W below the tip"
    # Protocol §11: "at least a quarter of the main chain's above the fork"
    return depth <= network.window or 4 * branch_work >= main_work
