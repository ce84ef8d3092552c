"""Makes its anchors dead, and votes for them."""

from __future__ import annotations

from tests.framework.economics.world import Attacker, Find, View, World


class DeadMiner(Attacker):
    """Each of its anchors lists a transfer that nobody may make: it passes §5.2 and fails §5.3, so
    it is dead (Protocol §6): nobody goes there, but it counts, and so do the coins that its miner
    binds to it, up to `height` dead anchors above one another. Then it begins anew at the tip."""

    def __init__(self, world: World, index: int, height: int) -> None:
        super().__init__(world, index)
        self.highest = height
        self.public = View(world)
        self.dead_anchors = 0

    def found(self, number: int) -> None:
        find = self.world.mine(self.view, self, number)
        if find is None:
            return
        if find.body is not None:
            find.is_dead = True
            self.dead_anchors += 1
        self.view.add(find)
        self.public.add(find)
        self.world.tell(self.index, find)
        node = self.view.tree.get(find.coin.id)
        if node is not None:
            self.view.move_to(node)
        self._stay_near()

    def receive(self, find: Find) -> None:
        self.view.add(find)
        if self.public.add(find):
            self.public.move_to(self.public.tree.choose())
        self._stay_near()

    def _stay_near(self) -> None:
        """Begin anew at the tip once the own branch is full, or lower than the main chain."""
        tip, step, dead = self.public.tip, self.view.tip, 0
        while not self.public.tree.nodes[step.id].on_main:
            assert step.parent is not None, "the root is on the main chain"
            step, dead = step.parent, dead + 1
        if dead > self.highest or tip.height >= self.view.tip.height:
            self.view.move_to(self.view.tree.nodes[tip.id])
