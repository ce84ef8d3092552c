"""The tree as it is looked at: every branch, every vote, and no more than was asked for."""

from __future__ import annotations

from tests.framework.corechain import SHALLOW, Chain
from unchained.node.chain.answers import AnchorVotes
from unchained.node.chain.tree_reads import anchor_votes


def read(
    chain: Chain, first: int, last: int, *, anchors: int = 100, coins: int = 100
) -> list[AnchorVotes]:
    return anchor_votes(chain.core.view, first, last, anchors, coins)


def test_branches_stand_beside_the_main_chain_with_their_votes_and_scores() -> None:
    chain = Chain()
    low = chain.grow(chain.genesis, 2)
    one, other = chain.forge.anchor(low), chain.forge.anchor(low)
    chain.take(one, other)
    votes = chain.vote(other, 3)
    found = read(chain, 2, 3)
    assert [(row.anchor.id, row.standing, row.votes) for row in found] == [
        (low.id, "main", 2),
        (other.id, "main", 3),
        (one.id, "side", 0),
    ]
    assert found[1].bound == [coin.id for coin in votes]
    assert set(found[0].bound) == {one.id, other.id}
    winner, loser = found[1].score, found[2].score
    assert winner is not None
    assert loser is not None
    assert winner > loser


def test_only_the_heights_asked_for_are_read_and_no_more_than_so_many() -> None:
    chain = Chain()
    tip = chain.grow(chain.genesis, 6)
    chain.vote(tip, 4)
    assert [row.anchor.height for row in read(chain, 2, 4)] == [2, 3, 4]
    assert [row.anchor.height for row in read(chain, 0, 100, anchors=3)] == [0, 1, 2]
    (row,) = read(chain, 6, 6, coins=2)
    assert (row.votes, len(row.bound)) == (4, 2)
    assert read(chain, 7, 90) == []
    assert read(chain, 4, 2) == []


def test_below_the_tree_stands_the_main_chain_with_what_the_next_anchor_lists() -> None:
    chain = Chain(SHALLOW)
    first = chain.grow(chain.genesis, 1)
    fresh = chain.vote(first, 2)
    second = chain.forge.anchor(first, fresh=fresh)
    chain.take(second)
    chain.grow(second, 8)
    assert chain.core.view.tree.root.height > 2
    (row,) = read(chain, 1, 1)
    assert (row.anchor.id, row.standing, row.score) == (first.id, "main", None)
    assert set(row.bound) == {second.id, *(coin.id for coin in fresh)}
    assert row.votes == 3
    heights = [row.anchor.height for row in read(chain, 0, 10)]
    assert heights == list(range(11))
    assert [row.anchor.height for row in read(chain, 0, 10, anchors=2)] == [0, 1]
