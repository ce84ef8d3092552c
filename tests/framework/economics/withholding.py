"""Keeps anchors back until they undo others' work; or only leaves out others' coins."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

import msgspec

from tests.framework.economics.world import KEPT_ANCHORS, Attacker, Find, View, World
from unchained.node.chain.template import Template
from unchained.node.chain.tree import AnchorNode, AnchorTree
from unchained.node.consensus.fork_choice import count_plain, score, vote_work, work
from unchained.node.primitives.body import Body
from unchained.node.primitives.types import CoinId

LONGEST: Final = KEPT_ANCHORS - 8
"""Anchors of a branch, the own one or another, with which a secret ends whatever thresholds say:
views forget where longer ones fork."""


class Thresholds(msgspec.Struct, frozen=True):
    """When a withholding miner acts, in coins that count once in a score (a vote counts twice).

    It shows its branch once it leads another by at most `show`, or, while there is no other, once
    it leads what the next public anchor would begin with by at most `alone`; it gives up once it
    is more than `give_up` behind. Between, it mines on in secret. `alone` of some hundreds keeps
    nothing back. What both sides have at stake are the coins bound to their branches: strays, once
    the branch has lost.
    """

    alone: float
    show: float = 2
    give_up: float = 0
    lists: str = "own"
    """Which coins its anchors list: "own" alone; "all"; "first", all in the first anchor of a
    branch, whose score they raise, and its own in those above; or "fresh", in the first anchor all
    fresh ones, as the others raise no score."""
    hoards: bool = False
    """Whether it keeps its coins on the public tip for its own anchor, until somebody finds one."""
    stakes: float = 0.0
    """By how much further behind it goes on for each coin that it has at stake."""
    worth: float = 0.0
    """How many coins both sides must have at stake before it shows what leads another branch."""
    rival: float = 1000.0
    """By how much an anchor would have to lead that it found at once beside one that others have
    found, for it to mine on there and keep its coins back."""


def score_of(tree: AnchorTree, node: AnchorNode) -> int:
    """Return what `tree.scores()` says of an anchor, without summing up the whole tree."""
    sub = sum(one.votes * vote_work(one.context.child_target) for one in tree.subtree(node))
    return score(sub, node.validated.plain_fresh, node.coin.header.target)


def keep(body: Body, view: View, wanted: Callable[[Find], bool]) -> Body:
    """Return a body, to be built on a view's tip, that lists only what is wanted of another."""
    finds = view.world.finds
    own = [one for one in map(CoinId, body.uncles) if wanted(finds[one])]
    branch = view.branch_of(view.tip)
    while True:
        # A stray needs its parent listed; that of a late coin is an anchor of this chain.
        rest = [
            one
            for one in own
            if (parent := finds[one].coin.parent) in own or branch.included(parent) is not None
        ]
        if len(rest) == len(own):
            break
        own = rest
    fresh = tuple(one for one in body.fresh if wanted(finds[CoinId(one)]))
    return msgspec.structs.replace(body, fresh=fresh, uncles=tuple(own))


class Withholding(Attacker):
    """A miner that sees at once what anybody finds, and shows its own when it likes.

    `view` has all that it knows, its own secrets too; `public` what everybody knows, or will when
    the messages have come.
    """

    def __init__(self, world: World, index: int, thresholds: Thresholds) -> None:
        super().__init__(world, index)
        self.thresholds = thresholds
        self.public = View(world)
        self.secret: list[Find] = []
        self.shown = 0
        self.given_up = 0

    def body(self, template: Template) -> Body:
        branching = self.public.tree.get(template.parent) is None
        lists = self.thresholds.lists
        if lists == "all" or (lists == "first" and not branching):
            return template.body
        everybodys = template.parent if lists == "fresh" and not branching else None
        return keep(
            template.body,
            self.view,
            lambda find: find.miner == self.index or find.coin.parent == everybodys,
        )

    def found(self, number: int) -> None:
        find = self.world.mine(self.view, self, number)
        if find is None:
            return
        self.view.add(find)
        branching = find.coin.parent != self.public.tip.id
        if find.body is None and not branching and not self.thresholds.hoards:
            self.public.add(find)
            self.world.tell(self.index, find)
        else:
            self.secret.append(find)
            if find.body is not None:
                node = self.view.tree.get(find.coin.id)
                assert node is not None
                self.view.move_to(node)
        self.decide()

    def receive(self, find: Find) -> None:
        self.view.add(find)
        if self.public.add(find):
            self.public.move_to(self.public.tree.choose())
        self.decide()

    def decide(self) -> None:
        """Show, wait or give up."""
        if self.public.tree.get(self.view.tip.id) is not None:
            # It has no branch of its own.
            if self.view.tip.id != self.public.tip.id and self.hope() < self.thresholds.rival:
                self._show()
            return
        fork, limits = self._fork(), self.thresholds
        if max(self.view.tip.height, self.public.tip.height) - fork.height > LONGEST:
            self._show()
            return
        lead, contested = self.lead(fork)
        own, theirs = self._at_stake(fork)
        if (
            0 < lead <= limits.show and own + theirs >= limits.worth
            if contested
            else lead <= limits.alone
        ):
            self.shown += 1
            self._show()
        elif contested and lead < -limits.give_up - limits.stakes * own:
            self.given_up += 1
            self._show()

    def _fork(self) -> AnchorNode:
        """Return the lowest anchor of the own branch that is not on the public main chain."""
        step = self.view.tip
        while step.parent is not None:
            below = self.public.tree.get(step.parent.id)
            if below is not None and below.on_main:
                break
            step = step.parent
        return step

    def _at_stake(self, own: AnchorNode) -> tuple[int, int]:
        """Return how many coins are bound to the own branch, and to all beside it."""
        assert own.parent is not None
        beside = self.public.tree.nodes[own.parent.id].children
        others = [one for child in beside for one in self.public.tree.subtree(child)]
        mine = sum(one.votes for one in self.view.tree.subtree(own))
        return mine, sum(one.votes for one in others)

    def hope(self) -> float:
        """Return by how much an anchor would lead others' that it found at once on its tip."""
        tip = self.view.tip
        target = tip.context.child_target
        public = self.public.tree.nodes[tip.id]
        if not public.on_main:
            return -inf
        best = max(score_of(self.public.tree, child) for child in public.children)
        return count_plain(list(tip.bound), target, self.world.network) - best / work(target)

    def lead(self, own: AnchorNode) -> tuple[float, bool]:
        """Return by how much the own branch leads, and whether there is another to lead.

        Without another, it leads what the next public anchor would begin with.
        """
        assert own.parent is not None
        beside = self.public.tree.get(own.parent.id)
        assert beside is not None
        unit = work(own.coin.header.target)
        mine = score_of(self.view.tree, own)
        others = [child for child in beside.children if child.id != own.id]
        if others:
            best = max(score_of(self.public.tree, child) for child in others)
            return (mine - best) / unit, True
        plain = count_plain(list(beside.bound), own.coin.header.target, self.world.network)
        return mine / unit - plain, False

    def _show(self) -> None:
        """Tell all that was kept back, and go on from where everybody does."""
        for find in self.secret:
            self.public.add(find)
            self.world.tell(self.index, find)
        self.secret.clear()
        self.public.move_to(self.public.tree.choose())
        goal = self.view.tree.get(self.public.tip.id)
        assert goal is not None
        self.view.move_to(goal)
