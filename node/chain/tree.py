"""The anchors of the last MAX_REORG heights, on every branch, and which chain wins (Protocol §6).

Structure only: which anchors are known, which of them count, how many votes each has. Nothing
here touches the disk or knows the coin set.

A vote adds its work to the sub(A) of every ancestor. Summing that up at once would cost a walk
to the root for each coin; but a vote for an anchor on the best path can only confirm that path.
So work is noted on the anchor it was given to, and summed up the tree when something happened
off the best path, just before the choice is made again.
"""

from __future__ import annotations

import enum
import heapq
from collections import Counter
from collections.abc import Iterator

import msgspec

from unchained.node.consensus.context import AnchorContext, child_context, genesis_context
from unchained.node.consensus.fork_choice import count_plain, descend, score, vote_work
from unchained.node.consensus.genesis import Genesis
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId


class AnchorStatus(enum.IntEnum):
    """What a node knows of an anchor. The numbers are on disk."""

    BODYLESS = 0
    """The coin is valid and of anchor grade; its body has not been validated."""

    COUNTS = 1
    """It and all its ancestors have passed Protocol §5.2."""

    INVALID = 2
    """Its body broke a rule of Protocol §5.2: simply a coin."""


class AnchorMark(enum.IntFlag):
    """What else is on record of an anchor, beside its status. The numbers are on disk."""

    NONE = 0

    DEAD = 1
    """It failed Protocol §5.3: it goes on counting, but nothing leads through it."""

    SET_ASIDE = 2
    """The operator has set it aside: neither it nor what descends from it counts."""


class Validation(msgspec.Struct, frozen=True, gc=False):
    """What passing Protocol §5.2 makes known of an anchor.

    `context` is the anchor as its children see it; `plain_fresh` counts the fresh coins that are
    not of anchor grade: the second term of score(X).
    """

    body: Body
    context: AnchorContext
    plain_fresh: int

    @classmethod
    def of_child(
        cls, anchor: Coin, body: Body, parent: AnchorContext, network: Network
    ) -> Validation:
        """Return the validation of an anchor that passed, from its parent's context."""
        return cls(
            body,
            child_context(anchor, len(body.fresh) + len(body.uncles), parent, network),
            # A fresh coin has the anchor's own target: both are bound to the same parent.
            count_plain(body.fresh, anchor.header.target, network),
        )

    @classmethod
    def of_genesis(cls, genesis: Genesis, network: Network) -> Validation:
        """Return what holds of genesis."""
        return cls(genesis.body, genesis_context(genesis.coin, genesis.history, network), 0)


class AnchorNode:
    """One anchor of the tree. Its owner is the `AnchorTree`; others read."""

    __slots__ = (
        "_pending",
        "bound",
        "children",
        "coin",
        "connected_running_ms",
        "forgotten",
        "height",
        "id",
        "marks",
        "on_best_path",
        "on_main",
        "parent",
        "status",
        "sub",
        "validation",
        "votes",
    )

    def __init__(self, coin: Coin, parent: AnchorNode | None) -> None:
        self.coin = coin
        self.id = coin.id
        self.height = coin.height
        self.parent = parent
        self.children: list[AnchorNode] = []
        """Known anchors bound to this one, whatever their status."""
        self.status = AnchorStatus.BODYLESS
        self.marks = AnchorMark.NONE
        self.validation: Validation | None = None
        self.bound: dict[CoinId, None] = {}
        """Coins bound to this anchor that pass §3.3 against it: its votes, in order of arrival."""
        self.votes = 0
        self.forgotten = 0
        """Votes whose coins have left this node, of an anchor that had left the tree."""
        self.connected_running_ms = 0
        self.sub = 0
        self._pending = 0
        self.on_main = False
        self.on_best_path = False

    @property
    def validated(self) -> Validation:
        """The validation of an anchor that counts."""
        assert self.validation is not None, "asked of an anchor that does not count"
        return self.validation

    @property
    def context(self) -> AnchorContext:
        """This anchor as the coins bound to it see it."""
        return self.validated.context

    @property
    def is_contender(self) -> bool:
        """Whether the descent of Protocol §6 may lead to this anchor from its parent."""
        # Protocol §6: "descend to the child of greatest score that is not dead"
        return self.status is AnchorStatus.COUNTS and not self.marks

    @property
    def is_set_aside(self) -> bool:
        """Whether the operator has set this very anchor aside."""
        return AnchorMark.SET_ASIDE in self.marks

    def contenders(self) -> list[AnchorNode]:
        """Return the children that the descent of Protocol §6 may lead to."""
        return [child for child in self.children if child.is_contender]

    def score(self) -> int:
        """Return score(X) of Protocol §6, once the tree has been summed up."""
        return score(self.sub, self.validated.plain_fresh, self.coin.header.target)

    def __repr__(self) -> str:
        return f"<AnchorNode {self.height} {self.id.hex()[:8]} {self.status.name}>"


class AnchorTree:
    """The anchors from the root, which is on the main chain, upwards.

    The main chain from the root to the tip is part of the tree (`main`), though which anchors
    are connected is decided where the coin set is kept.
    """

    def __init__(self, root_coin: Coin, validation: Validation) -> None:
        root = AnchorNode(root_coin, None)
        root.status = AnchorStatus.COUNTS
        root.validation = validation
        root.on_main = root.on_best_path = True
        self.root = root
        self.tip = root
        self.best = root
        self.nodes: dict[CoinId, AnchorNode] = {root.id: root}
        self._main: dict[int, AnchorNode] = {root.height: root}
        self._listed_by: dict[bytes, tuple[AnchorNode, ...]] = {}
        self._listed_aside: Counter[bytes] = Counter()
        """How many counting anchors beside the main chain list a transfer."""
        self._dirty: set[AnchorNode] = set()
        self._choice_is_open = False
        self._list(root)

    # Reading

    def get(self, anchor_id: CoinId) -> AnchorNode | None:
        """Return the anchor of an id, if the tree holds it."""
        return self.nodes.get(anchor_id)

    def main_at(self, height: int) -> AnchorNode | None:
        """Return the main chain's anchor at a height of the tree."""
        return self._main.get(height)

    def ancestor(self, node: AnchorNode, height: int) -> AnchorNode | None:
        """Return the anchor at a height on the chain that ends in `node`."""
        if height > node.height or height < self.root.height:
            return None
        step: AnchorNode | None = node
        while step is not None and not step.on_main and step.height > height:
            step = step.parent
        if step is not None and step.on_main:
            return self._main.get(height)
        return step

    def lister_of(self, coin_id: CoinId, tip: AnchorNode) -> AnchorNode | None:
        """Return the anchor of the tree that listed the coin, or is it, on the chain to `tip`."""
        for node in self._listed_by.get(coin_id, ()):
            if self.ancestor(tip, node.height) is node:
                return node
        return None

    def is_listed(self, coin_id: CoinId) -> bool:
        """Return whether any counting anchor of the tree lists the coin or is it."""
        return coin_id in self._listed_by

    def path(self, above: AnchorNode, to: AnchorNode) -> list[AnchorNode]:
        """Return the anchors above one anchor up to a descendant of it, in order of height."""
        steps: list[AnchorNode] = []
        step: AnchorNode | None = to
        while step is not None and step is not above:
            steps.append(step)
            step = step.parent
        assert step is above, "not a descendant"
        return steps[::-1]

    def fork_point(self, node: AnchorNode) -> AnchorNode:
        """Return the last anchor of the main chain among the node and its ancestors."""
        step = node
        while not step.on_main:
            assert step.parent is not None, "the root is on the main chain"
            step = step.parent
        return step

    def side_nodes(self, since: int) -> Iterator[AnchorNode]:
        """Yield the anchors at or above a height that are not on the main chain, those of the
        branch that leaves it lowest first."""
        for height in range(self.root.height, self.tip.height + 1):
            for node in self._side_subtrees(self._main[height]):
                if node.height >= since:
                    yield node

    def subtree(self, node: AnchorNode) -> Iterator[AnchorNode]:
        """Yield an anchor and its descendants, parents before children."""
        waiting = [node]
        while waiting:
            step = waiting.pop()
            yield step
            waiting.extend(step.children)

    def is_listed_aside(self, wid: bytes) -> bool:
        """Return whether a counting anchor that is not on the main chain lists the transfer."""
        return self._listed_aside[wid] > 0

    def _side_subtrees(self, parent: AnchorNode) -> Iterator[AnchorNode]:
        for child in parent.children:
            if not child.on_main:
                yield from self.subtree(child)

    # Growing

    def add_anchor(self, coin: Coin) -> AnchorNode:
        """Hang a coin of anchor grade below its parent, its body not validated."""
        parent = self.nodes[coin.parent]
        node = AnchorNode(coin, parent)
        parent.children.append(node)
        self.nodes[node.id] = node
        return node

    def add_vote(self, node: AnchorNode, coin_id: CoinId) -> None:
        """Count a coin that is bound to a counting anchor and passes §3.3 against it."""
        if coin_id in node.bound:
            return
        node.bound[coin_id] = None
        if node.forgotten:
            # It may be one of those, and no coin counts twice.
            node.forgotten -= 1
            return
        self._add_work(node, vote_work(node.context.child_target))
        node.votes += 1

    def recall_votes(self, node: AnchorNode, votes: int) -> None:
        """Let an anchor that was known to have so many votes have no fewer."""
        node.forgotten = max(0, votes - node.votes)
        if node.forgotten:
            self._add_work(node, node.forgotten * vote_work(node.context.child_target))
            node.votes = votes

    def remove_vote(self, node: AnchorNode, coin_id: CoinId) -> None:
        """Let a coin be no vote any more: the clock has stepped back behind its time."""
        del node.bound[coin_id]
        node.votes -= 1
        self._add_work(node, -vote_work(node.context.child_target))
        # Less on the best path can make another one the best.
        self._choice_is_open = True

    def count_in(self, node: AnchorNode, validation: Validation) -> None:
        """Let an anchor count whose parent counts and which passed Protocol §5.2."""
        parent = node.parent
        assert parent is not None and parent.status is AnchorStatus.COUNTS  # noqa: PT018
        node.status = AnchorStatus.COUNTS
        node.validation = validation
        self._list(node)
        if parent is self.best and parent.contenders() == [node]:
            # Nothing to weigh: the best path grows by its only continuation.
            node.on_best_path = True
            self.best = node
        else:
            self._choice_is_open = True

    def invalidate(self, node: AnchorNode) -> None:
        """Rule out an anchor whose body broke a rule: nothing of it ever counted."""
        assert node.status is AnchorStatus.BODYLESS, "what has passed goes on counting"
        node.status = AnchorStatus.INVALID

    def mark_dead(self, node: AnchorNode) -> None:
        """Let nothing lead through an anchor any more; it and what is above it go on counting."""
        node.marks |= AnchorMark.DEAD
        self._choice_is_open = True

    def set_aside(self, node: AnchorNode) -> None:
        """Let an anchor stop counting, with all above it."""
        self.sum_up()
        node.marks |= AnchorMark.SET_ASIDE
        self._pass_on(node, -node.sub)

    def take_back(self, node: AnchorNode) -> None:
        """Let an anchor that was set aside count again, with all above it."""
        self.sum_up()
        node.marks &= ~AnchorMark.SET_ASIDE
        self._pass_on(node, node.sub)

    def remove(self, node: AnchorNode) -> list[AnchorNode]:
        """Take an anchor that is not on the main chain off the tree, with all above it; return
        them, the anchor first."""
        parent = node.parent
        assert parent is not None and not node.on_main  # noqa: PT018
        self.sum_up()
        if not node.is_set_aside:
            self._pass_on(node, -node.sub)
        if node.on_best_path:
            # The next choice takes the old path's marks off from its end downwards.
            self.best = parent
            self._choice_is_open = True
        removed = list(self.subtree(node))
        for step in removed:
            if step.status is AnchorStatus.COUNTS:
                self._unlist(step)
            del self.nodes[step.id]
        parent.children.remove(node)
        return removed

    def choose(self) -> AnchorNode:
        """Return the winner: the counting anchor that the descent of Protocol §6 ends in."""
        if not self._choice_is_open:
            return self.best
        self.sum_up()
        step = self.best
        while step.on_best_path and step is not self.root:
            step.on_best_path = False
            assert step.parent is not None
            step = step.parent
        self.best = self.root
        for step in descend(self.root):
            step.on_best_path = True
            self.best = step
        self._choice_is_open = False
        return self.best

    def scores(self) -> dict[CoinId, int]:
        """Return score(X) of every counting anchor above the root, for display and tests."""
        self.sum_up()
        found: dict[CoinId, int] = {}
        waiting = [self.root]
        while waiting:
            for node in waiting.pop().children:
                if node.status is AnchorStatus.COUNTS and not node.is_set_aside:
                    found[node.id] = node.score()
                    waiting.append(node)
        return found

    # The main chain

    def set_tip(self, node: AnchorNode) -> None:
        """Make a child or the parent of the tip the tip: one anchor (dis)connected."""
        if node.parent is self.tip:
            self._count_aside(node, -1)
            node.on_main = True
            self._main[node.height] = node
        else:
            assert self.tip.parent is node
            self.tip.on_main = False
            self._count_aside(self.tip, 1)
            del self._main[self.tip.height]
        self.tip = node

    def advance_root(self) -> tuple[AnchorNode, list[AnchorNode]]:
        """Let the lowest main-chain anchor go, with the branches that leave it.

        Returns that anchor and the anchors of its lost branches.
        """
        old = self.root
        new = self._main[old.height + 1]
        lost = list(self._side_subtrees(old))
        for node in lost:
            if node.status is AnchorStatus.COUNTS:
                self._unlist(node)
            self._dirty.discard(node)
            del self.nodes[node.id]
        self._unlist(old)
        self._dirty.discard(old)
        del self.nodes[old.id]
        del self._main[old.height]
        old.children.clear()
        new.parent = None
        self.root = new
        if not new.on_best_path:
            # The best path leaves with its branch.
            new.on_best_path = True
            self.best = new
            self._choice_is_open = True
        return old, lost

    def lower_root(self, coin: Coin, validation: Validation) -> AnchorNode:
        """Take the anchor below the root back into the tree; return it."""
        old = self.root
        new = AnchorNode(coin, None)
        new.status = AnchorStatus.COUNTS
        new.validation = validation
        new.on_main = new.on_best_path = True
        new.children.append(old)
        # What is still to be summed up comes by itself.
        new.sub = old.sub
        old.parent = new
        self.nodes[new.id] = new
        self._main[new.height] = new
        self.root = new
        self._list(new)
        return new

    # The sums

    def _add_work(self, node: AnchorNode, amount: int) -> None:
        node._pending += amount
        self._dirty.add(node)
        if not node.on_best_path:
            self._choice_is_open = True

    def sum_up(self) -> None:
        """Carry the work noted since the last time up to the root, which `sub` and `score` lack."""
        queue = [(-node.height, node.id, node) for node in self._dirty]
        heapq.heapify(queue)
        while queue:
            node = heapq.heappop(queue)[2]
            amount, node._pending = node._pending, 0
            self._dirty.discard(node)
            node.sub += amount
            parent = node.parent
            # What is set aside goes on being summed up, for when it is taken back.
            if amount and parent is not None and not node.is_set_aside:
                if parent not in self._dirty:
                    self._dirty.add(parent)
                    heapq.heappush(queue, (-parent.height, parent.id, parent))
                parent._pending += amount

    def _pass_on(self, node: AnchorNode, amount: int) -> None:
        """Add to what an anchor's parent has of it, outside the sums of the anchor itself."""
        if amount and node.parent is not None:
            node.parent._pending += amount
            self._dirty.add(node.parent)
        self._choice_is_open = True

    def _list(self, node: AnchorNode) -> None:
        body = node.validated.body
        # One tuple for all that is listed once, which is nearly everything.
        alone = (node,)
        for coin_id in (node.id, *body.fresh, *body.uncles):
            others = self._listed_by.get(coin_id)
            self._listed_by[coin_id] = alone if others is None else (*others, node)
        if not node.on_main:
            self._count_aside(node, 1)

    def _unlist(self, node: AnchorNode) -> None:
        body = node.validated.body
        for coin_id in (node.id, *body.fresh, *body.uncles):
            others = tuple(other for other in self._listed_by[coin_id] if other is not node)
            if others:
                self._listed_by[coin_id] = others
            else:
                del self._listed_by[coin_id]
        if not node.on_main:
            self._count_aside(node, -1)

    def _count_aside(self, node: AnchorNode, step: int) -> None:
        for wid in node.validated.body.transfers:
            count = self._listed_aside[wid] + step
            if count:
                self._listed_aside[wid] = count
            else:
                del self._listed_aside[wid]
