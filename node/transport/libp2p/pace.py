"""How fast one connection's gossip and streams are taken: the excess waits where it comes from.

A peer that sends faster finds the stream's window closed, so that a flood delays only itself. What
counts is the work that a message makes: a thousand empty ones cost more than one large one.
"""

from __future__ import annotations

from typing import Final

import trio

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.gossip_router import Rpc

GOSSIP_WORK_BURST: Final = 4 << 20
"""Units at once, 60 ms of work in all; a unit is that of one byte, some 15 ns."""
GOSSIP_WORK_PER_S: Final = 4 << 20
"""Units per second: 6 % of a core."""
WORK_PER_RPC: Final = 1024
WORK_PER_ENTRY: Final = 256
WORK_PER_ID: Final = 16
WORK_AT_ONCE: Final = 64 << 10
"""Units after which other tasks get a turn: 1 ms."""


def work_of(rpc: Rpc, size: int) -> int:
    """Return the units of work that an RPC of `size` bytes makes."""
    lists = (rpc.subscribe, rpc.unsubscribe, rpc.messages, rpc.have, rpc.graft, rpc.prune)
    ids = len(rpc.want) + len(rpc.unwanted) + sum(len(sent) for _, sent in rpc.have)
    return WORK_PER_RPC + size + WORK_PER_ENTRY * sum(map(len, lists)) + WORK_PER_ID * ids


class Pace:
    """A bucket of units that refills with time."""

    def __init__(self, burst: int = GOSSIP_WORK_BURST, per_s: int = GOSSIP_WORK_PER_S) -> None:
        self._bucket = TokenBucket(burst, per_s, trio.current_time())
        self._untaken = 0

    async def spend(self, units: int) -> None:
        """Take units out of the bucket; wait until it is no longer overdrawn."""
        wait_s = self._bucket.spend(trio.current_time(), units)
        self._untaken += units
        if wait_s > 0:
            self._untaken = 0
            await trio.sleep(wait_s)
        elif self._untaken >= WORK_AT_ONCE:
            self._untaken = 0
            await trio.lowlevel.checkpoint()
