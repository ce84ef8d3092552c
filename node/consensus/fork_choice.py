"""Which chain wins (Protocol §6): votes, scores and the descent, pure.

The sums over the tree are kept by whoever keeps the tree; what is summed, and how anchors compare,
is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from unchained.node.consensus.params import Network, work
from unchained.node.primitives.types import CoinId


class Contender(Protocol):
    """An anchor that counts, as the descent sees it."""

    @property
    def id(self) -> CoinId:
        """The anchor's id."""

    def contenders(self: C) -> Sequence[C]:
        """Return its children that the descent may lead to."""

    def score(self) -> int:
        """Return score(X) of Protocol §6."""


C = TypeVar("C", bound=Contender)


def vote_work(child_target: int) -> int:
    """Return what one coin adds to votes(A), all bound to A having this target."""
    # Protocol §6: "votes(A) = sum of work(c.target)"
    return work(child_target)


def count_plain(fresh: Sequence[bytes], target: int, network: Network) -> int:
    """Return how many fresh coins of this target are not of anchor grade."""
    # Protocol §6: "c in fresh(X) and not of anchor grade"
    bound = network.grade_target(target).to_bytes(32, "big")
    return sum(coin_id > bound for coin_id in fresh)


def score(sub: int, plain_fresh: int, target: int) -> int:
    """Return score(X) of an anchor of this target, the same as its fresh coins have.

    `sub` is sub(X), `plain_fresh` what `count_plain` gave.
    """
    # Protocol §6: "score(X) = 2 * sub(X) + sum of work(c.target)"
    return 2 * sub + plain_fresh * work(target)


def descend(start: C) -> Iterator[C]:
    """Yield the best path above an anchor, lowest first; the last is the winner."""
    step = start
    while children := step.contenders():
        # Protocol §6: "descend to the child of greatest score"
        # Protocol §6: "on a tie to the child of lower id"
        step = (
            children[0]
            if len(children) == 1
            else min(children, key=lambda child: (-child.score(), child.id))
        )
        yield step


def is_settled(age_ms: int, network: Network) -> bool:
    """Tell whether an anchor has been on the main chain for so long, in the node's own running
    time, that the node does not undo it and MAX_REORG more by itself."""
    # Protocol §6: "on its chain for MAX_REORG * T of its own running time"
    return age_ms >= network.max_reorg * network.epoch_ms
