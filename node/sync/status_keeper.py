"""What a node says of itself to peers (Protocol §11, `status`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Lost
from unchained.node.chain.results import ConnectedAnchor
from unchained.node.chain.service import ChainService
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.primitives.types import CoinId
from unchained.node.wire.messages import VERSION, Status

SUMMED_AT_ONCE: Final = 2_000
"""Anchors whose work is summed up in one operation of the chain."""
SUMS_KEPT: Final = 1_024
"""Heights below the tip whose sums are kept, for reorganisations."""


class StatusKeeper:
    """Keeps the main chain's sum of work, and makes the status from it. `run` keeps it current;
    until it has caught up with a long chain, the sum is that of a part."""

    def __init__(self, chain: ChainService, genesis_id: CoinId, clock: Clock) -> None:
        self._chain = chain
        self._genesis_id = genesis_id
        self._clock = clock
        self._sums: list[tuple[CoinId, int]] = [(genesis_id, 0)]
        self._lowest = 0
        """The height of the first sum."""

    def current(self) -> Status:
        """Return the status of the moment."""
        status = self._chain.status.value
        return Status(
            self._genesis_id,
            status.tip,
            status.height,
            min(self._sums[-1][1], 2**256 - 1).to_bytes(32, "big"),
            VERSION,
            max(0, self._clock.now_ms()),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the chain until cancelled."""
        with self._chain.changes.subscribe() as changes:
            task_status.started()
            await self._catch_up()
            async for step in changes:
                if (
                    isinstance(step, Lost)
                    or step.disconnected
                    or (step.connected and not self._extend(step.connected))
                ):
                    await self._catch_up()

    def _extend(self, connected: Sequence[ConnectedAnchor]) -> bool:
        """Sum up anchors that have been connected, where they go on from the last sum; return
        whether the sums are those of the main chain then."""
        for coin in (anchor.coin for anchor in connected):
            if coin.parent == self._sums[-1][0]:
                self._add(coin.id, anchor_work(coin.header.target, self._chain.network))
            elif all(coin.id != anchor_id for anchor_id, _ in self._sums):
                return False
        return True

    async def _catch_up(self) -> None:
        tip = self._sums[-1][0]
        while tip != self._chain.status.value.tip:
            tip = await self._follow()

    async def _follow(self) -> CoinId:
        """Go some anchors towards the tip; return the last one summed up."""
        known = [anchor_id for anchor_id, _ in self._sums]
        stretch = await self._chain.queries.main_stretch(self._lowest, known, SUMMED_AT_ONCE)
        del self._sums[stretch.kept :]
        if not self._sums:
            self._lowest = 0
            self._sums.append((self._genesis_id, 0))
        for anchor_id, work in stretch.anchors:
            self._add(anchor_id, work)
        return self._sums[-1][0]

    def _add(self, anchor_id: CoinId, work: int) -> None:
        self._sums.append((anchor_id, self._sums[-1][1] + work))
        if len(self._sums) > SUMS_KEPT:
            del self._sums[0]
            self._lowest += 1
