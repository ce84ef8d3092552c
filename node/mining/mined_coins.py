"""What became of the coins found here: included by which kind of anchor, or left lying."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
import trio

from unchained.node.chain.service import ChainService
from unchained.node.chain.status import ChainStatus
from unchained.node.consensus.mints import CoinKind
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId

SETTLED: Final = 3
"""Anchors beyond the window of inclusion after which a coin is not looked for any more."""


class MinedCoinsStatistics(msgspec.Struct, frozen=True):
    """Coins found here since the start. `included` by the anchor of their own epoch, their own
    anchors among them; `waiting` for it; `lost`: the chain went on without them. `earned` in
    grains, fees included."""

    included: int
    late: int
    stray: int
    waiting: int
    lost: int
    earned: int


class MinedCoins:
    """Follows the coins that it is given on the main chain, through reorganisations."""

    def __init__(self, chain: ChainService) -> None:
        self._chain = chain
        self._heights: dict[CoinId, int] = {}
        self._fates: dict[CoinId, tuple[CoinKind, int]] = {}
        self._settled: dict[CoinKind, int] = dict.fromkeys(CoinKind, 0)
        self._settled_grains = 0
        self._lost = 0

    def add(self, coin: Coin) -> None:
        """Follow a coin from here on."""
        self._heights[coin.id] = coin.height

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the coins whenever the tip has changed, until cancelled."""
        task_status.started()
        while True:
            tip = self._chain.status.value.tip
            await self._look()
            await self._chain.status.wait_for(partial(_has_other_tip, seen=tip))

    async def _look(self) -> None:
        followed = tuple(self._heights)
        found = await self._chain.queries.coin_fates(followed)
        height, self._fates = found.height, found.included
        for coin_id in followed:
            if self._heights[coin_id] + self._chain.network.window + SETTLED < height:
                self._settle(coin_id)

    def _settle(self, coin_id: CoinId) -> None:
        del self._heights[coin_id]
        fate = self._fates.pop(coin_id, None)
        if fate is None:
            self._lost += 1
        else:
            self._settled[fate[0]] += 1
            self._settled_grains += fate[1]

    def statistics(self) -> MinedCoinsStatistics:
        """Return counts since the start."""
        counts = dict(self._settled)
        for kind, _ in self._fates.values():
            counts[kind] += 1
        return MinedCoinsStatistics(
            included=counts[CoinKind.ANCHOR] + counts[CoinKind.FRESH],
            late=counts[CoinKind.LATE],
            stray=counts[CoinKind.STRAY],
            waiting=len(self._heights) - len(self._fates),
            lost=self._lost,
            earned=self._settled_grains + sum(value for _, value in self._fates.values()),
        )


def _has_other_tip(status: ChainStatus, seen: CoinId) -> bool:
    return status.tip != seen
