"""How a peer's tip stands to our own chain."""

from __future__ import annotations

from unchained.node.chain.core import ChainCore
from unchained.node.chain.tree import AnchorNode, Status
from unchained.node.primitives.types import CoinId


def is_known(core: ChainCore, anchor_id: CoinId) -> bool:
    """Tell whether there is nothing to ask about an anchor."""
    node = core.tree.get(anchor_id)
    if node is not None:
        return node.status is not Status.BODYLESS
    coin = core.archive.coin(anchor_id)
    return coin is not None and core.archive.main_id(coin.height) == anchor_id


def are_apart(core: ChainCore, tip_id: CoinId) -> bool:
    """Tell whether a known tip and our own are not on one chain."""
    node = core.tree.get(tip_id)
    if node is None or node.status is not Status.COUNTS or node.on_main:
        return False
    return core.tree.fork_point(node) is not core.tip


def above_fork(core: ChainCore, one_id: CoinId, other_id: CoinId) -> list[CoinId]:
    """Return the anchors above the last common ancestor of two, on both branches, lowest first;
    where one descends from the other, the last W + 1 up to the higher one."""
    one, other = core.tree.get(one_id), core.tree.get(other_id)
    if one is None or other is None or Status.COUNTS not in (one.status, other.status):
        return []
    paths: dict[CoinId, int] = {}
    low, high = sorted((one, other), key=lambda node: node.height)
    left: AnchorNode | None = low
    right: AnchorNode | None = high
    while left is not right:
        # Protocol §6: candidates bound to all anchors above the last common ancestor, both sides
        if left is None or (right is not None and right.height > left.height):
            assert right is not None  # noqa: S101 - the higher one
            paths[right.id] = right.height
            right = right.parent
        else:
            paths[left.id] = left.height
            left = left.parent
    if left is low:
        step: AnchorNode | None = high
        paths.clear()
        while step is not None and step.height >= high.height - core.network.window:
            paths[step.id] = step.height
            step = step.parent
    return sorted(paths, key=lambda anchor_id: paths[anchor_id])
