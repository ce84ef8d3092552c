"""Honest miners who answer whoever leaves out others' coins by leaving out its own."""

from __future__ import annotations

from collections import Counter

from tests.framework.economics.withholding import keep
from tests.framework.economics.world import Miner, World
from unchained.node.chain.template import Template
from unchained.node.chain.tree import AnchorNode
from unchained.node.primitives.body import Body

ENOUGH = 80
"""What somebody may owe before it is answered: each coin that it has left out counts ten, and each
that it has listed pays one."""
MOST = 3 * ENOUGH
"""What it can owe at most, so that it is forgiven some epochs after it has begun to list again."""


class Answering(Miner):
    """Knows a miner by its lock: whoever mines to a lock of its own each time is not answered. A
    coin that was on its way is left out by honest miners too, so what they list has to outweigh
    it; and that they answer somebody is nothing to answer."""

    def __init__(self, world: World, index: int) -> None:
        super().__init__(world, index)
        self.debts: Counter[int] = Counter()
        self._looked_at = 0

    def body(self, template: Template) -> Body:
        tree = self.view.tree
        for height in range(max(self._looked_at, tree.root.height) + 1, tree.tip.height):
            node = tree.main_at(height)
            assert node is not None
            self._weigh(node)
            self._looked_at = height
        mean = self._mean()
        return keep(template.body, self.view, lambda find: find.miner not in mean)

    def _mean(self) -> set[int]:
        return {one for one, debt in self.debts.items() if debt > ENOUGH and one != self.index}

    def _weigh(self, node: AnchorNode) -> None:
        finds, parent, mean = self.world.finds, node.parent, self._mean()
        assert parent is not None
        listed = set(node.validated.body.fresh)
        missed = sum(
            one != node.id
            and one not in listed
            and finds[one].miner not in mean
            and finds[one].coin.header.time < node.coin.header.time
            for one in parent.bound
        )
        debt = self.debts[finds[node.id].miner] + 10 * missed - len(listed)
        self.debts[finds[node.id].miner] = min(MOST, max(0, debt))
