"""What a node says of itself to peers (Protocol §11, `status`)."""

from __future__ import annotations

from typing import Final

import trio

from unchained.node.base.clock import Clock
from unchained.node.chain.service import ChainService
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
        task_status.started()
        version, tip = -1, self._genesis_id
        while True:
            version, status = await self._chain.status.wait_newer(version)
            while tip != status.tip:
                tip = await self._follow()
                status = self._chain.status.value

    async def _follow(self) -> CoinId:
        """Go some anchors towards the tip; return the last one summed up."""
        known = [anchor_id for anchor_id, _ in self._sums]
        stretch = await self._chain.queries.main_stretch(self._lowest, known, SUMMED_AT_ONCE)
        sums = self._sums
        del sums[stretch.kept :]
        if not sums:
            self._lowest = 0
            sums.append((self._genesis_id, 0))
        for anchor_id, work in stretch.anchors:
            sums.append((anchor_id, sums[-1][1] + work))
        drop = max(0, len(sums) - SUMS_KEPT)
        del sums[:drop]
        self._lowest += drop
        return sums[-1][0]
