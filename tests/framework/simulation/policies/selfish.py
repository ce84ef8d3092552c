"""The selfish miner (Eyal and Sirer, 2014), on votes."""

from __future__ import annotations

from typing import Any

from tests.framework.simulation.policies.policy import Policy
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin


class Selfish(Policy):
    """Builds in private while it leads, and shows its branch when the others come close."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._private: list[tuple[Coin, Body | None]] = []

    async def act(self) -> None:
        public = max(node.height for node in self.simulation.nodes if node.is_up)
        coin, body = self.mine()
        found = (coin, body if is_anchor_grade(coin, self.core.network) else None)
        self._private.append(found)
        self.take(*found)
        lead = self.core.tip.height - public
        ours = {coin.id for coin, _ in self._private}
        if lead <= 0 and self.core.tip.id not in ours:
            # The others have won: what was private is worth most as votes.
            await self._show()
        elif lead == 1 and len(self._private) > self.core.network.coins_per_epoch:
            await self._show()

    async def _show(self) -> None:
        private, self._private = self._private, []
        for one in private:
            await self.tell(*one)
        self.did_it()
