"""A network cut in halves; and a miner that hears both, and keeps votes back until later."""

from __future__ import annotations

from typing import NamedTuple

from tests.framework.economics.withholding import score_of
from tests.framework.economics.world import Attacker, Find, View, World
from unchained.node.chain.confirmations import confirmations_in
from unchained.node.chain.tree import AnchorNode, AnchorTree
from unchained.node.consensus.fork_choice import work
from unchained.node.primitives.types import CoinId


class Halves:
    """Two halves of the honest nodes that hear nothing of each other until a time."""

    def __init__(self, world: World, honest: int, until: float) -> None:
        self.until = until
        self._half = honest // 2
        self._honest = honest
        world.links = self

    def arrival(self, sender: int, receiver: int, now: float, delay: float) -> float:
        """Return when a message comes."""
        if max(sender, receiver) >= self._honest:
            return now + delay
        apart = (sender < self._half) != (receiver < self._half)
        return max(now, self.until) + delay if apart else now + delay


class Paid(NamedTuple):
    """What a payment in a branch's first anchor has, as whoever hears everything counts it."""

    votes: int
    confirmations: int

    def most(self, other: Paid) -> Paid:
        """Return the more of each."""
        return Paid(max(self.votes, other.votes), max(self.confirmations, other.confirmations))


def paid_in(tree: AnchorTree, fork: AnchorNode, world: World) -> Paid:
    """Return what a payment has in the first anchor above a fork of the branch that is chosen."""
    votes = sum(one.votes for one in tree.path(fork, tree.tip))
    height = min(fork.height + 1, tree.tip.height)
    return Paid(votes, confirmations_in(tree, world.network, [height])[height])


class Bomber(Attacker):
    """Votes in secret for both branches of a cut network; afterwards throws its votes in.

    "bomb": all that it has for the branch that trails, at once, to one half of the nodes. "juggle":
    no more than turns the choice, as soon as the leader leads by `patience`, so long as it can.
    """

    def __init__(self, world: World, index: int, mode: str, patience: float) -> None:
        super().__init__(world, index, kept=96)
        self.mode = mode
        self.patience = patience
        self.public = View(world, kept=96)
        self.secret: dict[CoinId, list[Find]] = {}
        """By the branch's first anchor above the fork."""
        self.fork = self.public.tree.root
        """Where the halves have parted, as far as they have."""
        self.has_begun = False
        """Whether the network is whole again."""
        self.rivals: tuple[AnchorNode, ...] = ()
        self.turns = 0
        self.last_turn = 0.0
        self._paid = Paid(0, 0)
        self.undone = Paid(0, 0)
        """The most that was undone at one turn."""

    def found(self, number: int) -> None:
        branches = self._branches()
        if branches:
            # What it has least votes for.
            first, goal = min(branches.items(), key=lambda one: len(self.secret.get(one[0], ())))
        else:
            first, goal = None, self.public.tip
        self.view.move_to(self._own(goal))
        find = self.world.mine(self.view, self, number)
        assert find is not None, "every draw is a coin where the target never moves"
        self.view.add(find)
        if first is not None:
            self.secret.setdefault(first, []).append(find)
        elif self.has_begun:
            self.public.add(find)
            self.world.tell(self.index, find)
        # Else the halves have not parted yet: an anchor that both knew would join them.
        self.act()

    def receive(self, find: Find) -> None:
        self.view.add(find)
        if self.public.add(find):
            self.public.move_to(self.public.tree.choose())
        self.act()

    def act(self) -> None:
        """Throw in what turns the choice, or wait."""
        if not self.rivals:
            return
        self._paid = self._paid.most(paid_in(self.public.tree, self.fork, self.world))
        scores = {one.id: score_of(self.public.tree, one) for one in self.rivals}
        behind, ahead = sorted(self.rivals, key=lambda one: scores[one.id])
        unit = work(self.world.network.target0)
        lead = (scores[ahead.id] - scores[behind.id]) / unit
        have = self.secret.get(behind.id, [])
        need = int(lead // 2) + 1
        if len(have) < need or (self.mode == "juggle" and lead < self.patience):
            return
        thrown = have[:] if self.mode == "bomb" else have[:need]
        del have[: len(thrown)]
        for find in thrown:
            self.public.add(find)
            self.world.tell_half(self.index, find)
        self.public.move_to(self.public.tree.choose())
        self.undone = self.undone.most(self._paid)
        self._paid = Paid(0, 0)
        self.turns += 1
        self.last_turn = self.world.now
        if self.mode == "bomb":
            self.rivals = ()

    def arm(self) -> None:
        """Begin: the network is whole again."""
        self.has_begun = True
        best = sorted(self.fork.children, key=lambda one: -score_of(self.public.tree, one))
        self.rivals = tuple(best[:2]) if len(best) > 1 else ()
        self.act()

    def _branches(self) -> dict[CoinId, AnchorNode]:
        """Return the tips that it votes for, by the first anchors of their branches: those of the
        halves, and once it has begun those of the rivals; nothing where there are not two."""
        tree = self.public.tree
        if self.rivals:
            return {one.id: _best_above(tree, one) for one in self.rivals}
        tips = [self._public(miner.view.tip) for miner in self.world.miners[:-1]]
        lowest = min(tips, key=lambda tip: tip.height)
        while any(tree.ancestor(tip, lowest.height) is not lowest for tip in tips):
            assert lowest.parent is not None, "the root is below all"
            lowest = lowest.parent
        if any(tip is lowest for tip in tips):
            # Some have not parted from the others yet.
            return {}
        self.fork = lowest
        return {first.id: tip for tip in tips if (first := tree.ancestor(tip, lowest.height + 1))}

    def _public(self, node: AnchorNode) -> AnchorNode:
        found = self.public.tree.get(node.id)
        assert found is not None, "it hears everything at once"
        return found

    def _own(self, node: AnchorNode) -> AnchorNode:
        found = self.view.tree.get(node.id)
        assert found is not None, "it hears everything at once"
        return found


def _best_above(tree: AnchorTree, anchor: AnchorNode) -> AnchorNode:
    """Return where the choice ends from an anchor on."""
    step = anchor
    while step.children:
        step = max(step.children, key=lambda one: score_of(tree, one))
    return step
