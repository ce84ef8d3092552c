"""How a peer's tip stands to our own chain."""

from __future__ import annotations

from unchained.node.chain.core import ChainCore
from unchained.node.chain.tree import AnchorNode, AnchorStatus
from unchained.node.primitives.types import CoinId


def is_known(core: ChainCore, anchor_id: CoinId) -> bool:
    """Tell whether there is nothing to ask about an anchor."""
    node = core.tree.get(anchor_id)
    if node is not None:
        return node.status is not AnchorStatus.BODYLESS
    coin = core.archive.coin(anchor_id)
    return coin is not None and core.archive.main_id(coin.height) == anchor_id


def are_apart(core: ChainCore, tip_id: CoinId) -> bool:
    """Tell whether a known tip and our own are not on one chain."""
    node = core.tree.get(tip_id)
    if node is None or node.status is not AnchorStatus.COUNTS or node.on_main:
        return False
    return core.tree.fork_point(node) is not core.tip


def above_fork(core: ChainCore, one_id: CoinId, other_id: CoinId) -> list[CoinId]:
    """Return the anchors above the last common ancestor of two, lowest first: on both branches and
    on those that leave them, as their votes count too. Where one descends from the other, the last
    W + 1 up to the higher one."""
    one, other = core.tree.get(one_id), core.tree.get(other_id)
    if one is None or other is None or AnchorStatus.COUNTS not in (one.status, other.status):
        return []
    low, high = sorted((one, other), key=lambda node: node.height)
    ancestor = _common_ancestor(low, high)
    if ancestor is low:
        return _last_of(high, core.network.window + 1)
    # Protocol §6: candidates bound to all anchors above the last common ancestor
    found: list[AnchorNode] = []
    level = [ancestor]
    while level:
        level = [
            child
            for node in level
            for child in node.children
            if child.status is AnchorStatus.COUNTS
        ]
        found += level
    return [node.id for node in found]


def _common_ancestor(low: AnchorNode, high: AnchorNode) -> AnchorNode:
    while low is not high:
        if low.height > high.height:
            low, high = high, low
        assert high.parent is not None, "at the latest they meet at the root"
        high = high.parent
    return low


def _last_of(node: AnchorNode, count: int) -> list[CoinId]:
    found: list[CoinId] = []
    step: AnchorNode | None = node
    while step is not None and len(found) < count:
        found.append(step.id)
        step = step.parent
    return found[::-1]
