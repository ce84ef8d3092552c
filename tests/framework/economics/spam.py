"""Keeps the others' verification busy with forged coins."""

from __future__ import annotations

from tests.framework.economics.withholding import Thresholds, Withholding
from tests.framework.economics.world import Find, World


class Spammer(Withholding):
    """A withholding miner that, whenever an honest node finds a coin, sends every honest node so
    many forged ones, which come in half the time and are verified first.

    Its own coins wait behind none that it sends, only for what is left of those. A forged mix bans
    its sender, so that each takes an address of its own (Protocol §11).
    """

    def __init__(self, world: World, index: int, thresholds: Thresholds, forged: int) -> None:
        super().__init__(world, index, thresholds)
        self.forged = forged

    def receive(self, find: Find) -> None:
        if not self.view.has(find):
            for miner in self.world.miners:
                if miner.verifies:
                    due = self.world.now + self.world.delays[self.index][miner.index] / 2
                    self.world.at(due, miner.verify, self.forged)
        super().receive(find)
