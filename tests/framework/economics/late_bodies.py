"""Shows the coins of its anchors at once, and their bodies when it likes."""

from __future__ import annotations

from tests.framework.economics.withholding import Thresholds, Withholding
from tests.framework.economics.world import Find, World


class LateBodies(Withholding):
    """A withholding miner that risks no coin: one of anchor grade whose body is not there is a vote
    and a candidate like any other (Protocol §5.1), so that whoever wins lists it for the whole
    subsidy; and it counts as an anchor from when its body comes."""

    def __init__(self, world: World, index: int, thresholds: Thresholds) -> None:
        super().__init__(world, index, thresholds)
        self.kept_bodies = 0

    def found(self, number: int) -> None:
        super().found(number)
        for find in self.secret:
            known = self.world.finds[find.coin.id]
            parent_is_public = self.public.tree.get(find.coin.parent) is not None
            if find.body is not None and known is find and parent_is_public:
                bare = Find(find.coin, self.index)
                # What others ask for is what they are told: the coin.
                self.world.finds[find.coin.id] = bare
                self.kept_bodies += 1
                self.public.add(bare)
                self.world.tell(self.index, bare)

    def _show(self) -> None:
        for find in self.secret:
            self.world.finds[find.coin.id] = find
        super()._show()
