"""Says again what others have said, long ago or just now."""

from __future__ import annotations

from tests.framework.simulation.policies.policy import Policy


class Replaying(Policy):
    """Gossips coins and anchors of any age once more, in any order."""

    async def act(self) -> None:
        coins = self.simulation.coins
        if not coins:
            return
        for coin_id in self.rng.sample(list(coins), min(len(coins), 4)):
            await self.tell(coins[coin_id], self.simulation.bodies.get(coin_id))
        self.did_it()
