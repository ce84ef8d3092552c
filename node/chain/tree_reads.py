"""Reads of the anchor tree with every vote in it, to be looked at as a whole.

Pure functions of a `ChainView`; `LiveQueries` runs them.
"""

from __future__ import annotations

from unchained.node.chain.anchor_reads import standing_of
from unchained.node.chain.answers import AnchorVotes
from unchained.node.chain.tree import AnchorNode
from unchained.node.chain.view import ChainView
from unchained.node.primitives.types import CoinId


def anchor_votes(
    view: ChainView, first: int, last: int, anchors_max: int, coins_max: int
) -> list[AnchorVotes]:
    """Return the anchors from one height up to another with the coins bound to each: of the tree
    on every branch, below it of the main chain, lowest first and the main chain's before others.

    At most `anchors_max` anchors, and `coins_max` coins of each, the first that came. Below the
    tree the coins are those that the next anchor lists as fresh.
    """
    root = view.tree.root.height
    found: list[AnchorVotes] = []
    for height in range(max(first, 0), min(last + 1, root)):
        if len(found) == anchors_max:
            return found
        found.append(_below_tree(view, height, coins_max))
    nodes = [node for node in view.tree.nodes.values() if first <= node.height <= last]
    nodes.sort(key=lambda node: (node.height, not node.on_main, node.id))
    scores = view.tree.scores() if nodes else {}
    room = anchors_max - len(found)
    found += [_in_tree(node, scores.get(node.id), coins_max) for node in nodes[:room]]
    return found


def _below_tree(view: ChainView, height: int, coins_max: int) -> AnchorVotes:
    coin = view.archive.main_anchor(height)
    following = view.archive.main_id(height + 1)
    assert coin is not None and following is not None, "the main chain reaches the tree"  # noqa: PT018
    body = view.archive.body(following)
    assert body is not None, "what is connected keeps its body"
    # The next anchor is bound to this one too, and listed by none.
    bound = [following, *map(CoinId, body.fresh)]
    return AnchorVotes(coin, "main", len(bound), None, bound[:coins_max])


def _in_tree(node: AnchorNode, score: int | None, coins_max: int) -> AnchorVotes:
    bound = list(node.bound)[:coins_max]
    return AnchorVotes(node.coin, standing_of(node), node.votes, score, bound)
