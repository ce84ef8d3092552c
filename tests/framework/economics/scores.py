"""Other ways to choose a chain, to be compared with the product's: nothing of them ships."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from unchained.node.chain.tree import AnchorNode, AnchorTree
from unchained.node.consensus.fork_choice import work

Choice = Callable[[AnchorTree], AnchorNode]


def shipping(tree: AnchorTree) -> AnchorNode:
    """Return the winner of Protocol §6."""
    return tree.choose()


def longest(tree: AnchorTree) -> AnchorNode:
    """Return the end of the chain of most work in anchors, the first seen of equals: Bitcoin's."""
    return _heaviest_path(tree, lambda node: work(node.coin.header.target))


def included(tree: AnchorTree) -> AnchorNode:
    """Return the end of the chain that includes most work, the first seen of equals."""

    def listed(node: AnchorNode) -> int:
        body = node.validated.body
        return (1 + len(body.fresh) + len(body.uncles)) * work(node.coin.header.target)

    return _heaviest_path(tree, listed)


def ghost(tree: AnchorTree) -> AnchorNode:
    """Return the end of the descent to the child with most anchors at and above it: no votes."""

    def weight(node: AnchorNode) -> int:
        return work(node.coin.header.target) + sum(map(weight, node.children))

    step = tree.root
    while step.children:
        # The first seen of equals: children stand in the order in which they came.
        step = max(step.children, key=weight)
    return step


def _heaviest_path(tree: AnchorTree, value: Callable[[AnchorNode], int]) -> AnchorNode:
    best, most = tree.root, 0
    sums = {tree.root.id: 0}
    # In the order in which they came: an equal one that came later does not win.
    for node in tree.nodes.values():
        if node.parent is not None:
            sums[node.id] = sums[node.parent.id] + value(node)
            if sums[node.id] > most:
                best, most = node, sums[node.id]
    return best


CHOICES: Final[dict[str, Choice]] = {
    "shipping": shipping,
    "longest": longest,
    "included": included,
    "ghost": ghost,
}
"""By the name that `--score` takes."""
