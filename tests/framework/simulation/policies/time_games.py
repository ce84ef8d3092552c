"""Gives its coins the times that suit it."""

from __future__ import annotations

from tests.framework.simulation.policies.policy import Policy
from unchained.node.consensus.coins import is_anchor_grade


class TimeGames(Policy):
    """Mines honestly, but that its times are as early as may be, or as late, or too early."""

    async def act(self) -> None:
        template = self.template()
        limit = self.core.network.future_limit_ms
        late = (self.now_ms() + limit - 1, self.now_ms() + limit // 2)
        # Protocol §3.3: "time must exceed the parent's"
        times = (template.least_time, template.parent_time, *late)
        at = self.rng.choice(times)
        coin, body = self.mine(template, time_ms=at)
        await self.tell(coin, body if is_anchor_grade(coin, self.core.network) else None)
        self.did_it()
