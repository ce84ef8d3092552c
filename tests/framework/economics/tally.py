"""What a main chain has paid, and to whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.framework.economics.world import View, World
from unchained.node.chain.tree import AnchorNode
from unchained.node.consensus.mints import CoinKind


class Part:
    """What a stretch of the main chain has paid."""

    def __init__(self) -> None:
        self.epochs = 0
        self.forks = 0
        """Epochs that ended in more than one anchor."""
        self.grains: Counter[int] = Counter()
        """By miner."""
        self.kinds: Counter[CoinKind] = Counter()
        self.found: Counter[int] = Counter()
        """Coins that each miner found meanwhile, wherever they went."""

    @property
    def coins(self) -> int:
        return self.kinds.total()

    def share(self, miners: Sequence[int]) -> float:
        """Return the part of all grains that some miners have got."""
        return sum(self.grains[one] for one in miners) / self.grains.total()


class Tally:
    """What the main chain of one view has paid, in parts of so many epochs."""

    def __init__(self, world: World, view: View, epochs: int) -> None:
        self._world = world
        self._length = epochs
        self._part = Part()
        self.parts: list[Part] = []
        self.epochs = 0
        """Of all parts, the one that has begun included."""
        self._before: Counter[int] = Counter()
        self.last_ms = 0
        """The time of the last anchor, since genesis."""
        view.on_final = self._add

    def _add(self, node: AnchorNode) -> None:
        world = self._world
        if node.height > 0:
            part = self._part
            part.epochs += 1
            self.epochs += 1
            part.forks += len(node.children) > 1
            self.last_ms = node.coin.header.time - world.network.birth_ms
            for mint in world.finds[node.id].mints:
                part.grains[int.from_bytes(mint.lock, "big")] += mint.value
                part.kinds[mint.kind] += 1
            if part.epochs == self._length:
                for miner in world.miners:
                    part.found[miner.index] = miner.coins_found - self._before[miner.index]
                    self._before[miner.index] = miner.coins_found
                self.parts.append(part)
                self._part = Part()
        if node.height % 16 == 0:
            world.forget()
