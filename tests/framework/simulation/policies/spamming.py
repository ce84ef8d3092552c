"""Sends what takes room and comes to nothing."""

from __future__ import annotations

import msgspec

from tests.framework.simulation.policies.policy import Policy


class Spamming(Policy):
    """Coins of unknown parents, coins of the future, and the same thing over and over."""

    async def act(self) -> None:
        tip = self.core.tip
        limit = self.core.network.future_limit_ms
        self.did_it()
        for _ in range(self.rng.randint(1, 12)):
            coin = self.vote(tip)
            match self.rng.randrange(3):
                case 0:
                    await self.tell(
                        self.solved(
                            msgspec.structs.replace(coin.header, parent=self.rng.randbytes(32))
                        )
                    )
                case 1:
                    early = self.now_ms() + int(limit * self.rng.uniform(1.1, 1.9))
                    await self.tell(self.vote(tip, time=early))
                case _:
                    for _ in range(5):
                        await self.tell(coin)
