"""Which chain wins (Protocol §6): work, votes, scores and the descent, pure; and what headers alone
show of a branch's work (§11).

The sums over the tree are kept where the tree is kept; what is summed, and how anchors compare,
is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import msgspec

from unchained.node.consensus.params import Network
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


def work(target: int) -> int:
    """Return the hashes that a coin of this target stands for on average (Protocol §2)."""
    return (1 << 256) // (target + 1)


def vote_work(child_target: int) -> int:
    """Return what one coin adds to votes(A), all bound to A having this target."""
    # Protocol §6: "votes(A) = sum of work(c.target)"
    return work(child_target)


def count_plain(fresh: Iterable[bytes], target: int, network: Network) -> int:
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
    """Return whether an anchor has been on the main chain for so long, in the node's own running
    time, that the node does not undo it and MAX_REORG more by itself."""
    # Protocol §6: "on its chain for MAX_REORG * T of its own running time"
    return age_ms >= network.max_reorg * network.epoch_ms


# What headers alone show, and how much of a branch is asked for by that


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
