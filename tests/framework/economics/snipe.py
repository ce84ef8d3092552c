"""Mines an anchor's rival for the fees that the anchor took from the pool (Protocol §5.4)."""

from __future__ import annotations

from fractions import Fraction

from tests.framework.economics.withholding import Thresholds, Withholding
from tests.framework.economics.world import World
from unchained.node.consensus.mints import pool_share

POOL = 10**18
"""A pool of so many grains stands for one: each share is its part."""


class Sniper(Withholding):
    """Mines beside the first anchor until it is too far behind, and then honestly."""

    def __init__(
        self, world: World, index: int, patience: float | None, hoards: bool, give_up: float = 0.0
    ) -> None:
        """`patience`: how far behind it gives up to look for a rival, in coins that count once;
        None: never tries. `hoards`: whether it has kept its coins back before, for the rival that
        it may find. `give_up`: how far behind it gives the rival up that it has, if that is more
        than its patience."""
        sniping = patience is not None
        self.patience = patience or 0.0
        limits = Thresholds(
            1000, 1000, max(self.patience, give_up), "all", hoards=hoards and sniping
        )
        super().__init__(world, index, limits)
        self.sniping = sniping

    def decide(self) -> None:
        if self.sniping and self.view.tip.height == 0 and self.public.tip.height > 0:
            if self.hope() >= -self.patience:
                return
            self.stop()
            return
        super().decide()

    def stop(self) -> None:
        """Show everything, and be honest."""
        self.sniping = False
        self.thresholds = Thresholds(1000, 1000, 0, "all")
        self._show()


def income(world: World, index: int, until_ms: int, share: float) -> tuple[float, float]:
    """Return what a miner has got for what it found until a time, ms: in subsidies, and as a part
    of a pool that was full at the first anchor. What is left of the pool goes by hash power."""
    view = world.miners[0].view
    grains, pool, got = 0, POOL, Fraction(0)
    for node in view.tree.path(view.tree.root, view.tip):
        for mint in world.finds[node.id].mints:
            if mint.coin.header.time <= until_ms and world.finds[mint.coin.id].miner == index:
                grains += mint.value
        if node.coin.header.time <= until_ms:
            part = pool_share(pool)
            pool -= part
            if world.finds[node.id].miner == index:
                got += Fraction(part, POOL)
    return grains / world.network.subsidy, float(got) + share * pool / POOL
