"""Keeps what it finds to itself, and lets go of it all at once."""

from __future__ import annotations

from typing import Any

from tests.framework.simulation.policies.policy import Policy
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin


class Withholding(Policy):
    """Mines on its own branch, and shows it after so many finds, when it may be late; some coins
    it shows when the next anchor is the first that may not list them any more."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._kept: list[tuple[Coin, Body | None]] = []
        self._stale: list[Coin] = []
        self._patience = self.rng.randint(2, 16)

    async def act(self) -> None:
        coin, body = self.mine()
        if is_anchor_grade(coin, self.core.network):
            self._kept.append((coin, body))
            self.take(coin, body)
        elif self.rng.random() < 0.5:
            self._kept.append((coin, None))
            self.take(coin)
        else:
            self._stale.append(coin)
        if len(self._kept) >= self._patience:
            kept, self._kept = self._kept, []
            self._patience = self.rng.randint(2, 16)
            for one in kept:
                await self.tell(*one)
            self.did_it()
        late = self.core.tip.height - self.core.network.window
        for coin in [coin for coin in self._stale if coin.height <= late]:
            self._stale.remove(coin)
            await self.tell(coin)
            self.did_it()
