"""Keeps two branches alike, so that the network stays of two minds."""

from __future__ import annotations

from tests.framework.simulation.policies.policy import Policy
from unchained.node.chain.tree import AnchorNode, AnchorStatus


class Balancing(Policy):
    """Votes for the weaker of two branches; where there is but one, it makes another."""

    async def act(self) -> None:
        rivals = self._rivals()
        if len(rivals) < 2:
            # Another anchor beside the tip, from the same parent.
            tip = self.core.tip
            if tip.parent is not None and self.rng.random() < 0.5:
                coin = self.vote(tip.parent)
            else:
                coin, body = self.mine()
                await self.tell(coin, body)
                return
        else:
            self.did_it()
            scores = self.core.tree.scores()
            coin = self.vote(min(rivals, key=lambda node: scores.get(node.id, 0)))
        self.take(coin)
        await self.tell(coin)

    def _rivals(self) -> list[AnchorNode]:
        """Return the anchors beside the tip, itself among them."""
        parent = self.core.tip.parent
        return [
            node
            for node in self.core.tree.nodes.values()
            if node.parent is parent and node.status is AnchorStatus.COUNTS
        ]
