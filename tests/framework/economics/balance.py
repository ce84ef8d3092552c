"""Pays, and keeps two branches level by the votes that it keeps back, to undo what was paid."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from tests.framework.economics.luck import Luck
from tests.framework.economics.race import Racer
from tests.framework.economics.scores import Choice
from tests.framework.economics.withholding import score_of
from tests.framework.economics.world import Find, View, World
from unchained.node.chain.confirmations import confirmations_in
from unchained.node.chain.tree import AnchorNode
from unchained.node.consensus.fork_choice import work
from unchained.node.primitives.types import CoinId


class Balancer(Racer):
    """Mines a rival as a racer does, and shows it when it leads; from then on it votes in secret
    for whichever branch trails, and throws in what turns the choice: both only once the trailing
    branch is `patience` behind in public, in coins that count once in a score."""

    def __init__(self, world: World, index: int, choice: Choice, patience: float = 0.0) -> None:
        super().__init__(world, index, choice)
        self.patience = patience
        self.halves = False
        """Whether it tells half of the honest nodes alone: the two halves mine against each other
        until that has been passed on."""
        self.public = View(world)
        self.hoard: list[Find] = []
        """What it has found on the root, its first anchor among it."""
        self.votes: dict[CoinId, list[Find]] = {}
        """What it has found above each first anchor."""

    def found(self, number: int) -> None:
        behind = self._trailing()
        if self.own is None:
            goal = self.view.tree.root
        else:
            goal = self.own if behind is None else behind
            while goal.children:
                goal = max(goal.children, key=lambda one: score_of(self.view.tree, one))
        self.view.move_to(goal)
        find = self.world.mine(self.view, self, number)
        if find is None:
            return
        self.view.add(find)
        if goal.height == 0:
            self.hoard.append(find)
            if find.body is not None:
                self.own = self.view.tree.get(find.coin.id)
        else:
            self.votes.setdefault(_first_of(goal).id, []).append(find)
        self.act()

    def receive(self, find: Find) -> None:
        self.view.add(find)
        self.public.add(find)
        self.act()

    def act(self) -> None:
        """Turn the choice, if what is kept back is enough."""
        behind = self._trailing()
        if behind is None or self.own is None:
            return
        ahead = max(
            score_of(self.public.tree, one)
            for one in self.public.tree.root.children
            if one.id != behind.id
        )
        tree = self.view.tree
        kept = self.votes.get(behind.id, [])
        spare = (score_of(tree, behind) - ahead) / (2 * work(self.world.network.target0))
        unit = work(self.world.network.target0)
        shown_of = self.public.tree.get(behind.id)
        plain = behind.validated.plain_fresh
        lead = ahead / unit - (
            plain if shown_of is None else score_of(self.public.tree, shown_of) / unit
        )
        if spare <= 0 or lead < self.patience:
            return
        # As few as turn it: the others turn it again.
        most = max(0, len(kept) - max(0, ceil(spare) - 1))
        shown = [*(self.hoard if behind is self.own else ()), *kept[:most]]
        if behind is self.own:
            self.hoard = []
        self.votes[behind.id] = kept[most:]
        for find in shown:
            self.public.add(find)
            tell = self.world.tell_half if self.halves else self.world.tell
            tell(self.index, find)

    def behind(self) -> float:
        """Return by how many votes the trailing branch trails, all that is kept back counted, also
        what an anchor of its own would list that it found at once."""
        tree = self.view.tree
        scores = sorted(map(self._score, tree.root.children), reverse=True)
        if self.own is None:
            return max(0, scores[0] - self._hoard()) / 2 if scores else 0.0
        return (scores[0] - scores[1]) / 2 if len(scores) > 1 else 0.0

    def _trailing(self) -> AnchorNode | None:
        """Return which of the two best first anchors trails in public, the own one while nobody
        knows it, None where there are not two."""
        tree = self.public.tree
        known = sorted(tree.root.children, key=lambda one: -score_of(tree, one))
        if self.own is not None and tree.get(self.own.id) is None:
            return self.own if known else None
        return self.view.tree.get(known[1].id) if len(known) > 1 else None


def _first_of(node: AnchorNode) -> AnchorNode:
    step = node
    while step.height > 1 and step.parent is not None:
        step = step.parent
    return step


class Balance:
    """One attempt of a balancer, and the most votes that it undid at a payee."""

    def __init__(self, world: World, balancer: Balancer, depths: Sequence[int], luck: Luck) -> None:
        self._world = world
        self._balancer = balancer
        self._depths = depths
        self._luck = luck
        self._seen = 0
        self._first: CoinId | None = None
        self._votes = 0
        self.discounts = False
        """Whether the payee counts confirmations as the shipping node does, not votes alone."""
        self.undone: dict[int, float] = {}
        luck.undone = self.undone

    def is_going(self, far: float) -> bool:
        """Look at what has changed; return whether the attacker goes on, unless so far behind."""
        payee = self._world.miners[0].view
        self._luck.is_paid = self._luck.is_paid or payee.tip.height > 0
        first = payee.tree.main_at(1)
        if first is not None and first.id != self._first:
            # The branch before is left; on the new one the payee begins to count anew.
            for depth in self._depths:
                if self._first is not None and self._votes >= depth:
                    self.undone.setdefault(depth, self._luck.weight)
            self._first, self._votes = first.id, 0
        votes = sum(one.votes for one in payee.tree.path(payee.tree.root, payee.tip))
        self._luck.votes = votes
        if first is not None:
            counted = votes
            if self.discounts:
                height = first.height
                counted = confirmations_in(payee.tree, self._world.network, [height])[height]
            # Who has seen so many takes the payment for done, also when there are fewer again.
            self._votes = max(self._votes, counted)
        self._luck.is_armed = self._balancer.own is not None
        if len(self.undone) == len(self._depths):
            return False
        return votes < 4 * max(self._depths) and self._balancer.behind() < far
