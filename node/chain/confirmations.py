"""How well what an anchor includes is confirmed, in votes (Protocol §6).

An anchor that leaves out coins which lie on its parent is beaten from the start by a rival there
that lists them, as each plain fresh coin adds to a score. Who pays in such an anchor of their own,
or above it, can undo the payment some hundred times as often as the votes say. So one vote is taken
off for each coin that was left out. And of many votes little is left where a rival that is known
has as many, so that there are no more confirmations than votes by which the best rival trails
(docs/decisions/confirmations.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from unchained.node.chain.anchor_reads import main_coin, standing_of
from unchained.node.chain.answers import AnchorPlace
from unchained.node.chain.tree import AnchorNode, AnchorTree
from unchained.node.chain.view import ChainView
from unchained.node.consensus.fork_choice import count_plain, vote_work
from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId


def confirmations_at(view: ChainView, height: int) -> int:
    """Return the confirmations of what the main chain's anchor at a height includes: the coins that
    are known to be bound to it or to one above, less those that it left out, and no more than the
    votes by which the best rival on its parent trails; or as many as there are by this count of an
    anchor below it, if that is less. Never less than 0.

    Below the tree, as no reorganisation reaches there: the coins that are listed above it.
    """
    return _confirmations(view, [height])[height]


def _confirmations(view: ChainView, heights: Collection[int]) -> dict[int, int]:
    """Return `confirmations_at` several heights of the main chain."""
    tree = view.tree
    in_tree = [height for height in heights if height >= tree.root.height]
    found = confirmations_in(tree, view.network, in_tree) if in_tree else {}
    below = [height for height in heights if height < tree.root.height]
    if below:
        votes = tree.root.votes + sum(step.votes for step in tree.path(tree.root, tree.tip))
    for height in below:
        above = view.archive.main_anchor(height + 1)
        assert above is not None, "the main chain reaches up to the tree"
        # What is bound to an anchor is listed from the next one on.
        found[height] = votes + tree.root.context.child_n_total - above.header.n_total
    return found


def confirmations_in(
    tree: AnchorTree, network: Network, heights: Collection[int]
) -> dict[int, int]:
    """Return `confirmations_at` some heights of the tree, by what the tree knows."""
    tree.sum_up()
    lowest, highest = min(heights), max(heights)
    votes = 0
    path: list[tuple[AnchorNode, int]] = []
    step: AnchorNode | None = tree.tip
    while step is not None and step.height >= lowest:
        votes += step.votes
        if step.height <= highest:
            path.append((step, votes))
        step = step.parent
    least = votes if step is None else _least_from(step, votes, network)
    found: dict[int, int] = {}
    for anchor, its_votes in reversed(path):
        least = min([least, its_votes - left_out(anchor, network), *leads(anchor)])
        found[anchor.height] = max(0, least)
    return {height: found[height] for height in heights}


def _least_from(anchor: AnchorNode, above: int, network: Network) -> int:
    """Return the least count over an anchor, which has `above` votes more than its own, and those
    below it."""
    most = network.max_listed
    step, votes = anchor, above + anchor.votes
    least = votes - left_out(step, network)
    while (parent := step.parent) is not None:
        if len(parent.children) > 1:
            least = min([least, *leads(step)])
        step = parent
        votes += step.votes
        # Further down there are more votes than any anchor can leave out.
        if votes - most < least:
            least = min(least, votes - left_out(step, network))
    return least


def left_out(anchor: AnchorNode, network: Network) -> int:
    """Return by how many plain fresh coins a rival on the same parent could list more than an
    anchor that counts, as far as they are known; 0 where the parent is not in the tree."""
    parent = anchor.parent
    listed = anchor.validated.plain_fresh
    # The anchor is one of the parent's votes.
    if parent is None or parent.votes - 1 <= listed:
        return 0
    plain = count_plain(parent.bound, anchor.coin.header.target, network)
    return max(0, min(plain, network.max_listed) - listed)


def leads(anchor: AnchorNode) -> Iterator[int]:
    """Yield by how many votes each known rival on the same parent trails an anchor of the main
    chain, once the tree was summed up: so many more, and none for the anchor, and it has as much.
    """
    for rival in () if anchor.parent is None else anchor.parent.contenders():
        if rival is not anchor:
            # Protocol §6: a vote counts twice in a score.
            yield (anchor.score() - rival.score()) // (2 * vote_work(rival.context.child_target))


def confirmations(view: ChainView, last: CoinId, heights: Iterable[int]) -> dict[int, int]:
    """Return `confirmations_at` each height at which the chain that ends in the anchor `last` has
    the main chain's anchor: who has read the chain up to there asks, and what was undone since has
    none."""
    node = view.tree.get(last)
    if node is not None:
        reached = view.tree.fork_point(node).height
    elif (coin := main_coin(view, last)) is not None:
        reached = coin.height
    else:
        return {}
    return _confirmations(view, [height for height in heights if height <= reached])


def anchor_place(view: ChainView, coin: Coin, recorded_votes: int) -> AnchorPlace:
    """Return where an anchor stands. `recorded_votes`: of one that has left the tree."""
    node = view.tree.get(coin.id)
    on_main = node.on_main if node is not None else view.archive.main_id(coin.height) == coin.id
    votes = recorded_votes if node is None else node.votes
    if not on_main:
        standing = "invalid" if node is None else standing_of(node)
        return AnchorPlace(standing, None, votes, 0)
    return AnchorPlace(
        "main", view.archive.main_id(coin.height + 1), votes, confirmations_at(view, coin.height)
    )
