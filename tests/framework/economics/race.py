"""Pays, and mines a private branch beside the anchor that includes it, to undo it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from tests.framework.economics.scores import Choice, shipping
from tests.framework.economics.withholding import score_of
from tests.framework.economics.world import Attacker, Find, View, World
from unchained.node.chain.tree import AnchorNode
from unchained.node.consensus.fork_choice import work
from unchained.node.primitives.types import CoinId


class Racer(Attacker):
    """Mines on its own anchor beside all others, hears everything at once, shows nothing.

    Its first anchor lists what others have found on the same parent, too: it leads by what it kept
    to itself. Nobody sees the branch, so one attempt is one for every number of votes.
    """

    def __init__(self, world: World, index: int, choice: Choice) -> None:
        super().__init__(world, index)
        self.choice = choice
        self.own: AnchorNode | None = None
        """Its first anchor."""

    def found(self, number: int) -> None:
        find = self.world.mine(self.view, self, number)
        if find is None:
            return
        self.view.add(find)
        if find.body is not None:
            node = self.view.tree.get(find.coin.id)
            assert node is not None
            self.view.move_to(node)
            self.own = self.own or node

    def receive(self, find: Find) -> None:
        self.view.add(find)

    def is_ahead(self) -> bool:
        """Return whether everybody would follow its branch, if it were shown."""
        if self.own is None:
            return False
        step = self.choice(self.view.tree)
        while step.parent is not None and step.height > self.own.height:
            step = step.parent
        return step is self.own

    def lead(self) -> float:
        """Return by how many votes the own branch leads the best other one, by the product's
        score."""
        tree = self.view.tree
        unit = 2 * work(self.world.network.target0)
        others = [child for child in tree.root.children if child is not self.own]
        best = max((score_of(tree, child) for child in others), default=0)
        mine = 0 if self.own is None else score_of(tree, self.own)
        return (mine - best) / unit


class Leaning(NamedTuple):
    """How luck leans: the attacker's share of the coins drawn, and which part of the anchors stay
    anchors, before the payment and from it on."""

    share_before: float
    anchors_before: float
    share_after: float
    anchors_after: float


def leanings(share: float, tilt: float) -> list[Leaning]:
    """Return ways for luck to lean, its own among them, in which payments are undone oftener.

    Two ways lead there: the attacker finds more coins than its share once it has paid; or the
    epoch before lasts long, while it hoards coins that its own anchor alone will list.
    """
    even = Leaning(share, 1.0, share, 1.0)
    if tilt == 0:
        return [even]
    between = (share + tilt) / 2
    return [
        even,
        Leaning(share, 1.0, tilt, 1.0),
        Leaning(between, 0.5, between, 1.0),
        Leaning(tilt, 0.25, tilt, 1.0),
    ]


class Luck:
    """Draws coins as one of several leanings has it, and knows how likely all had them.

    What comes out is weighed by its likelihood without a leaning, over the mean of that with each
    (importance sampling from a mixture: Veach, Guibas 1995): no weight exceeds their number.
    """

    def __init__(self, world: World, share: float, among: Sequence[Leaning], chosen: int) -> None:
        self._world = world
        self._share = share
        self._among = among
        self._chosen = chosen
        self._ratios = [1.0] * len(among)
        self._most = world.network.target0
        self._grade = world.network.grade_target(self._most)
        self.is_paid = False

    @property
    def weight(self) -> float:
        return len(self._ratios) / sum(self._ratios)

    def draw(self) -> tuple[int, int]:
        """Return who has found the next coin, and its id."""
        rng, honest = self._world.rng, len(self._world.miners) - 1
        tilt, kept = self._now(self._among[self._chosen])
        mine = rng.random() < tilt
        number = rng.randrange(self._most)
        if number <= self._grade and rng.random() >= kept:
            number = rng.randrange(self._grade + 1, self._most)
        part = 1 / self._world.network.coins_per_epoch
        for at, leaning in enumerate(self._among):
            tilt, kept = self._now(leaning)
            drawn = tilt / self._share if mine else (1 - tilt) / (1 - self._share)
            is_anchor = number <= self._grade
            drawn *= kept if is_anchor else (1 - kept * part) / (1 - part)
            self._ratios[at] *= drawn
        return honest if mine else rng.randrange(honest), number

    def _now(self, leaning: Leaning) -> tuple[float, float]:
        return leaning[2:] if self.is_paid else leaning[:2]


class Attempt:
    """One payment, and for each number of votes whether it could be undone after those."""

    def __init__(self, world: World, racer: Racer, depths: Sequence[int], luck: Luck) -> None:
        self._racer = racer
        self._luck = luck
        self._waiting = sorted(depths)
        self._reached = 0
        self._payee = world.miners[0].view
        self.undone: dict[int, float] = {}
        """Weights of those numbers of votes after which it was undone."""

    def is_going(self, far: float) -> bool:
        """Look at what has changed; return whether the attacker goes on, unless so far behind."""
        tree = self._payee.tree
        self._luck.is_paid = self._luck.is_paid or self._payee.tip.height > 0
        votes = sum(one.votes for one in tree.path(tree.root, self._payee.tip))
        while self._reached < len(self._waiting) and votes >= self._waiting[self._reached]:
            self._reached += 1
        open_depths = [
            depth for depth in self._waiting[: self._reached] if depth not in self.undone
        ]
        if open_depths and self._racer.is_ahead():
            for depth in open_depths:
                self.undone[depth] = self._luck.weight
        if len(self.undone) == len(self._waiting):
            return False
        if self._racer.choice is shipping:
            return self._racer.lead() > -far
        # Nothing tells how far behind it is by the votes: it goes on for a while.
        return votes < 2 * self._waiting[-1]


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
        """Return by how many votes the trailing branch trails, all that is kept back counted."""
        tree = self.view.tree
        unit = 2 * work(self.world.network.target0)
        scores = sorted((score_of(tree, child) for child in tree.root.children), reverse=True)
        if self.own is None:
            return scores[0] / unit if scores else 0.0
        return (scores[0] - scores[1]) / unit if len(scores) > 1 else 0.0

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
        self.undone: dict[int, float] = {}

    def is_going(self, far: float) -> bool:
        """Look at what has changed; return whether the attacker goes on, unless so far behind."""
        payee = self._world.miners[0].view
        self._luck.is_paid = self._luck.is_paid or payee.tip.height > 0
        first = payee.tree.main_at(1)
        if first is not None and first.id != self._first:
            # What the branch before had when it was left.
            for depth in self._depths:
                if self._first is not None and self._votes >= depth:
                    self.undone.setdefault(depth, self._luck.weight)
            self._first = first.id
        self._votes = sum(one.votes for one in payee.tree.path(payee.tree.root, payee.tip))
        if len(self.undone) == len(self._depths):
            return False
        return self._votes < 4 * max(self._depths) and self._balancer.behind() < far
