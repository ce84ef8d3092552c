"""What a node says of itself to peers (Protocol §11, `status`)."""

from __future__ import annotations

from unchained.node.base.clock import Clock
from unchained.node.chain.service import ChainService
from unchained.node.primitives.types import CoinId
from unchained.node.wire.messages import VERSION, Status


class OwnStatus:
    """Makes the status of the moment; the main chain's sum of work is that of its history."""

    def __init__(self, chain: ChainService, genesis_id: CoinId, clock: Clock) -> None:
        self._chain = chain
        self._genesis_id = genesis_id
        self._clock = clock

    def current(self) -> Status:
        """Return the status of the moment."""
        status = self._chain.status.value
        return Status(
            self._genesis_id,
            status.tip,
            status.height,
            status.history.work.to_bytes(32, "big"),
            VERSION,
            max(0, self._clock.now_ms()),
        )
