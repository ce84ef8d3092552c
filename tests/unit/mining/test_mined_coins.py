"""What became of the coins found here, through reorganisations, until they are settled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from unchained.node.base.fanout import Watch
from unchained.node.chain.answers import CoinFates
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import LOCAL
from unchained.node.mining.mined_coins import SETTLED, MinedCoins, MinedCoinsStatistics
from unchained.node.primitives.types import CoinId


class FakeChain:
    """A chain of which there is a tip, and a history of coins that the test writes."""

    network = LOCAL

    def __init__(self) -> None:
        self.queries = self
        self.fates: dict[CoinId, tuple[CoinKind, int]] = {}
        self.height = 0
        self.status = Watch(SimpleNamespace(tip=bytes(32)))

    async def coin_fates(self, ids: Collection[CoinId]) -> CoinFates:
        await trio.lowlevel.checkpoint()
        included = {coin_id: self.fates[coin_id] for coin_id in ids if coin_id in self.fates}
        return CoinFates(self.height, included)

    def include(self, coin_id: CoinId, kind: CoinKind, value: int) -> None:
        self.fates[coin_id] = kind, value

    def undo(self, coin_id: CoinId) -> None:
        del self.fates[coin_id]

    async def advance(self, height: int) -> None:
        """Move the tip, and let those who watch it look."""
        self.height = height
        self.status.set(SimpleNamespace(tip=height.to_bytes(32, "big")))
        await trio.sleep(1)


@asynccontextmanager
async def harvesting() -> AsyncIterator[tuple[FakeChain, MinedCoins]]:
    chain = FakeChain()
    harvest = MinedCoins(chain)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(harvest.run)
        yield chain, harvest
        nursery.cancel_scope.cancel()


def coin(number: int, height: int) -> Any:
    return SimpleNamespace(id=number.to_bytes(32, "big"), height=height)


async def test_every_fate_is_counted_and_stays_so() -> None:
    async with harvesting() as (chain, harvest):
        kinds = [CoinKind.ANCHOR, CoinKind.FRESH, CoinKind.LATE, CoinKind.STRAY, None, None]
        coins = [coin(number, 1) for number in range(len(kinds))]
        for found in coins:
            harvest.add(found)
        assert harvest.statistics() == MinedCoinsStatistics(0, 0, 0, 6, 0, 0)
        for found, kind in zip(coins, kinds, strict=True):
            if kind is not None:
                chain.include(found.id, kind, 10 * kind)
        await chain.advance(1)
        assert harvest.statistics() == MinedCoinsStatistics(2, 1, 1, 2, 0, 100)
        await chain.advance(1 + LOCAL.window + SETTLED)
        assert harvest.statistics().waiting == 2
        await chain.advance(2 + LOCAL.window + SETTLED)
        assert harvest.statistics() == MinedCoinsStatistics(2, 1, 1, 0, 2, 100)
        # Nothing is followed any more.
        chain.undo(coins[0].id)
        await chain.advance(100)
        assert harvest.statistics() == MinedCoinsStatistics(2, 1, 1, 0, 2, 100)


async def test_a_reorganisation_takes_back_and_gives_another_fate() -> None:
    async with harvesting() as (chain, harvest):
        found = coin(1, 5)
        harvest.add(found)
        chain.include(found.id, CoinKind.FRESH, 16)
        await chain.advance(5)
        assert harvest.statistics() == MinedCoinsStatistics(1, 0, 0, 0, 0, 16)
        chain.undo(found.id)
        await chain.advance(6)
        assert harvest.statistics() == MinedCoinsStatistics(0, 0, 0, 1, 0, 0)
        chain.include(found.id, CoinKind.LATE, 15)
        await chain.advance(7)
        assert harvest.statistics() == MinedCoinsStatistics(0, 1, 0, 0, 0, 15)
