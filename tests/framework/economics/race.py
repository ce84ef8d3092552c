"""Pays, and mines a private branch beside the anchor that includes it, to undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tests.framework.economics.luck import Luck
from tests.framework.economics.scores import Choice, shipping
from tests.framework.economics.withholding import score_of
from tests.framework.economics.world import Attacker, Find, World
from unchained.node.chain.confirmations import confirmations_in
from unchained.node.chain.template import Template
from unchained.node.chain.tree import AnchorNode
from unchained.node.consensus.fork_choice import count_plain, work
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body

RETURNS_FOR: Final = (0, 8)
"""By how many coins that count once in a score another first anchor, found at once, would have to
lead the own one for an attacker that returns to go for it: before the payment and after it. Chosen
by dynamic programming in a game without delays; it came within a fifth of the best play."""


class Racer(Attacker):
    """Mines on its own anchor beside all others, hears everything at once, shows nothing.

    Its first anchor lists what others have found on the same parent, too: it leads by what it kept
    to itself. Nobody sees the branch, so one attempt is one for every number of votes.
    """

    returns = False
    """Whether it goes back to the root, where a new first anchor would list all that has come since
    and lead by more than the one that it has."""
    baits = False
    """Whether it pays by an anchor of its own, which it shows at once and which lists nothing: the
    branch beside it leads by all that others have found there, too."""

    def __init__(self, world: World, index: int, choice: Choice) -> None:
        super().__init__(world, index)
        self.choice = choice
        self.own: AnchorNode | None = None
        """The best first anchor that it has kept to itself."""
        self.bait: AnchorNode | None = None

    def body(self, template: Template) -> Body:
        if self._is_baiting():
            return msgspec.structs.replace(template.body, fresh=(), uncles=())
        return template.body

    def found(self, number: int) -> None:
        self.view.move_to(self._goal())
        is_baiting = self._is_baiting()
        find = self.world.mine(self.view, self, number)
        if find is None:
            return
        self.view.add(find)
        node = self.view.tree.get(find.coin.id)
        if node is None or node.height > 1:
            return
        if is_baiting:
            self.bait = node
            self.world.tell(self.index, find)
        elif self.own is None or self._score(node) > self._score(self.own):
            self.own = node

    def receive(self, find: Find) -> None:
        self.view.add(find)

    def is_armed(self, is_paid: bool) -> bool:
        """Return whether it mines on an anchor of its own: before the payment one that returns to
        the root only does so in between."""
        return self._goal().height > 0 and (is_paid or not self.returns)

    def has_baited(self, paying: AnchorNode) -> bool:
        """Return whether an anchor of another's view is the one by which it pays."""
        return self.bait is not None and self.bait.id == paying.id

    def is_ahead(self) -> bool:
        """Return whether everybody would follow its branch, if it were shown."""
        if self.own is None:
            return False
        step = self.choice(self.view.tree)
        while step.parent is not None and step.height > self.own.height:
            step = step.parent
        return step is self.own

    def lead(self) -> float:
        """Return by how many votes it leads the best other branch, by the product's score: with its
        best anchor, or with one that it would find at once."""
        best = max(map(self._score, self._others()), default=0)
        if self.own is None:
            return (self._hoard() - best) / 2
        mine = self._score(self.own)
        return (max(mine, self._hoard()) - best if self.returns else mine - best) / 2

    def _goal(self) -> AnchorNode:
        """Return what it mines on."""
        if self.own is None:
            return self.view.tree.root
        if self.returns:
            is_paid = bool(self._others())
            if self._hoard() - self._score(self.own) > RETURNS_FOR[is_paid]:
                return self.view.tree.root
        goal = self.own
        while goal.children:
            goal = goal.children[0]
        return goal

    def _others(self) -> list[AnchorNode]:
        """Return the first anchors that are known to others."""
        finds = self.world.finds
        return [
            child
            for child in self.view.tree.root.children
            if child is self.bait or finds[child.id].miner != self.index
        ]

    def _is_baiting(self) -> bool:
        """Return whether the next anchor is the bait."""
        tree = self.view.tree
        return self.baits and tree.tip is tree.root and not tree.root.children

    def _hoard(self) -> int:
        """Return what a first anchor that it found at once would begin with."""
        return plain_on(self.view.tree.root, self.world.network)

    def _score(self, first: AnchorNode) -> int:
        """Return an anchor's score, in coins that count once."""
        return score_of(self.view.tree, first) // work(self.world.network.target0)


def plain_on(parent: AnchorNode, network: Network) -> int:
    """Return how many coins that are known on an anchor an anchor on it would have in its score, of
    which it can list so many."""
    known = count_plain(list(parent.bound), parent.context.child_target, network)
    return min(known, network.max_listed)


class Attempt:
    """One payment, and for each number of votes whether it could be undone after those."""

    def __init__(self, world: World, racer: Racer, depths: Sequence[int], luck: Luck) -> None:
        self._racer = racer
        self._luck = luck
        self._waiting = sorted(depths)
        self._reached = 0
        self._payee = world.miners[0].view
        self.discounts = False
        """Whether the payee counts confirmations as the shipping node does, not votes alone."""
        self.undone: dict[int, float] = {}
        """Weights of those numbers of votes after which it was undone."""
        luck.undone = self.undone

    def is_going(self, far: float) -> bool:
        """Look at what has changed; return whether the attacker goes on, unless so far behind."""
        tree, racer = self._payee.tree, self._racer
        paying = tree.main_at(1)
        self._luck.is_paid = self._luck.is_paid or paying is not None
        if (
            racer.baits
            and paying is not None
            and (racer.bait is None or paying.id != racer.bait.id)
        ):
            # Another anchor has come first, or beside the one that pays.
            return False
        votes = sum(one.votes for one in tree.path(tree.root, self._payee.tip))
        if self.discounts and paying is not None:
            height = paying.height
            votes = confirmations_in(tree, racer.world.network, [height])[height]
        self._luck.votes = votes
        self._luck.is_armed = racer.is_armed(paying is not None)
        while self._reached < len(self._waiting) and votes >= self._waiting[self._reached]:
            self._reached += 1
        open_depths = [
            depth for depth in self._waiting[: self._reached] if depth not in self.undone
        ]
        if open_depths and racer.is_ahead():
            for depth in open_depths:
                self.undone[depth] = self._luck.weight
        if len(self.undone) == len(self._waiting):
            return False
        if racer.choice is shipping:
            return racer.lead() > -far
        # Nothing tells how far behind it is by the votes: it goes on for a while.
        return votes < 2 * self._waiting[-1]
