"""How fast what peers send is taken in: the excess waits where it comes from.

A peer that sends faster finds windows closed, so that a flood delays only itself. What counts is
the work that something makes: a thousand empty messages, or frames, cost more than a large one.

No connection gets more than `PEER_WORK_PER_S`. Of those that others opened each has a share that
nobody takes from it, enough to follow the chain; what they want beyond it they draw from one pool,
so that many who flood cost no more than a few.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.gossip_router import Rpc

PEER_WORK_BURST: Final = 4 << 20
"""Units at once, 60 ms of work in all; a unit is that of one byte of gossip, some 15 ns."""
PEER_WORK_PER_S: Final = 4 << 20
"""Units per second of one connection: 6 % of a core."""
INBOUND_SHARE_BURST: Final = 1 << 20
INBOUND_SHARE_AT_FIRST: Final = 256 << 10
"""Units that a connection finds in its share: five requests. Were it full, who connects again and
again would have its whole burst each time, and forty may come in a second.
"""
INBOUND_SHARE_PER_S: Final = 512 << 10
"""Units per second that each inbound connection has for itself: 0.8 % of a core, some 12 requests
a second. Forty of one peer are far below what all have together."""
INBOUND_POOL_BURST: Final = 2 << 20
INBOUND_POOL_PER_S: Final = 4 << 20
"""Units per second that all inbound connections have together beyond their shares: 6 % of a
core."""
WORK_PER_RPC: Final = 1024
WORK_PER_ENTRY: Final = 512
WORK_PER_ID: Final = 64
WORK_PER_RECORD: Final = 256
"""Units of a record of the encryption: 4 us, its data not counted."""
WORK_PER_FRAME: Final = 2048
"""Units of a multiplexer's frame, whatever is in it: 30 us. All frames of `PEER_WORK_PER_S` carry
134 MB/s where they are full."""
WORK_PER_STREAM: Final = 24 << 10
"""Units of a stream that is opened, whatever becomes of it: 0.4 ms for its tasks and its end."""
WORK_PER_PROPOSAL: Final = 8 << 10
"""Units of a protocol that is proposed on a stream, served or not: it is read and answered."""
WORK_PER_IDENTIFY: Final = 16 << 10
"""Units of saying who we are: it takes a message of its own."""
WORK_AT_ONCE: Final = 64 << 10
"""Units after which other tasks get a turn: 1 ms."""


def work_of(rpc: Rpc, size: int) -> int:
    """Return the units of work that an RPC of `size` bytes makes."""
    lists = (rpc.subscribe, rpc.unsubscribe, rpc.messages, rpc.have, rpc.graft, rpc.prune)
    ids = len(rpc.want) + len(rpc.unwanted) + sum(len(sent) for _, sent in rpc.have)
    return WORK_PER_RPC + size + WORK_PER_ENTRY * sum(map(len, lists)) + WORK_PER_ID * ids


class WorkPool:
    """What all inbound connections of a node may have it do beyond their shares."""

    def __init__(self) -> None:
        self._turns = trio.Lock()
        self._bucket = TokenBucket(INBOUND_POOL_BURST, INBOUND_POOL_PER_S, -math.inf)

    async def turn(self) -> None:
        """Wait for a turn of the event loop that nobody else who waits here has as well.

        Trio carries out all that is ready before it looks at what came meanwhile, and connections
        that were held back are ready at about the same time: their work would be one long turn. Who
        waits for a lock is ready in the turn after it was given up."""
        async with self._turns:
            pass

    def spend(self, now: float, units: float, within_s: float) -> float | None:
        """Take units; return the seconds until they are there, None if none were taken since that
        would take `within_s` or longer."""
        if self._bucket.delay(now, units) >= within_s:
            return None
        return self._bucket.spend(now, units)


class Pace:
    """What one connection may have us do; `pool` is None for one that we opened."""

    def __init__(self, pool: WorkPool | None) -> None:
        self._pool = pool
        self._bucket = TokenBucket(PEER_WORK_BURST, PEER_WORK_PER_S, -math.inf)
        now = trio.current_time()
        self._share = TokenBucket(INBOUND_SHARE_BURST, INBOUND_SHARE_PER_S, now)
        self._share.spend(now, INBOUND_SHARE_BURST - INBOUND_SHARE_AT_FIRST)
        self._untaken = 0

    async def spend(self, units: int) -> None:
        """Note units of work that are done; wait until there is room for more."""
        now = trio.current_time()
        wait_s = self._bucket.spend(now, units)
        if self._pool is not None:
            wait_s = max(wait_s, self._spend_shared(self._pool, now, units))
        self._untaken += units
        if wait_s > 0:
            self._untaken = 0
            await trio.sleep(wait_s)
        elif self._untaken >= WORK_AT_ONCE:
            self._untaken = 0
            await trio.lowlevel.checkpoint()

    async def turn(self) -> None:
        """Wait for a turn of the event loop for a piece of work."""
        if self._pool is not None:
            await self._pool.turn()

    def _spend_shared(self, pool: WorkPool, now: float, units: int) -> float:
        own = min(float(units), max(0.0, self._share.level(now)))
        lacking = units - own
        if lacking:
            by_share_s = self._share.delay(now, units)
            by_pool_s = pool.spend(now, lacking, by_share_s)
            if by_pool_s is not None:
                self._share.spend(now, own)
                return by_pool_s
        return self._share.spend(now, units)
