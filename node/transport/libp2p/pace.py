"""How fast what peers send is taken in: the excess waits where it comes from.

A peer that sends faster finds windows closed, so that a flood delays only itself. What counts is
the work that something makes: a thousand empty messages, or frames, cost more than a large one.

No connection gets more than `PEER_WORK_PER_S`, and those that others opened have
`INBOUND_WORK_PER_S` together. Where they want more than that they wait in a line, and of them who
has had least goes first (start-time fair queuing: Goyal, Vin, Cheng 1996). So many who flood cost
no more than a few, and who was there before them, or asks for less than they get, does not wait.

Each is owed its part of half of that, come what may. It may have saved `OWED_MAX` of it, and who
connects has `GREETING_WORK` to begin with: only by these is it more for all together.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

import trio

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.gossip_router import Rpc

PEER_WORK_BURST: Final = 4 << 20
"""Units at once, 60 ms of work in all; a unit is that of one byte of gossip, some 15 ns."""
PEER_WORK_PER_S: Final = 4 << 20
"""Units per second of one connection: 6 % of a core."""
INBOUND_WORK_BURST: Final = 512 << 10
INBOUND_WORK_PER_S: Final = 12 << 20
"""Units per second that all inbound connections have together: 18 % of a core."""
DEBT_MAX: Final = INBOUND_WORK_PER_S
"""Units that they may together have had too many; what was more is nobody's debt."""
OWED_MAX: Final = 2 << 20
"""Units by which a connection that had less than it is owed may be behind: 24 requests, which it
may make at once."""
WORK_AT_ONCE: Final = 64 << 10
"""Units after which other tasks get a turn, and others in the line theirs: 1 ms."""
GREETING_WORK: Final = 3 * WORK_AT_ONCE
"""Units that who connects is owed at once: it is asked and told what both are and how they stand.
In a full house of many places it would have to wait seconds for what all others had before it. At
the rate of handshakes that is at most a third of what there is, and half of that is owed to nobody.
"""
AHEAD_MAX: Final = 4 << 20
"""Units by which a connection that had more is at most held to be ahead."""
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
WORK_PER_PING: Final = 8 << 10
"""Units of a ping that is sent back."""
WORK_PER_REFUSAL: Final = 24 << 10
"""Units of a request that finds no place: it is said, and what it asks for may be long."""
PRICE_OF_REFUSAL: Final = 256 << 10
"""Units for which its peer waits, more than were done: whoever goes on asking all the same shall
have less than those who take what they asked for."""


def work_of(rpc: Rpc, size: int) -> int:
    """Return the units of work that an RPC of `size` bytes makes."""
    lists = (rpc.subscribe, rpc.unsubscribe, rpc.messages, rpc.have, rpc.graft, rpc.prune)
    ids = len(rpc.want) + len(rpc.unwanted) + sum(len(sent) for _, sent in rpc.have)
    return WORK_PER_RPC + size + WORK_PER_ENTRY * sum(map(len, lists)) + WORK_PER_ID * ids


class WorkPool:
    """What all inbound connections of a node may have it do. Run `run` beside it: it gives the
    turns.

    What each has had is kept on one scale, on which all begin where the line is. The line moves on
    with those who wait, and by `owed_per_s` in any case; who is behind it does not wait."""

    def __init__(self, connections: int) -> None:
        """`connections`: how many there may be."""
        self.owed_per_s = INBOUND_WORK_PER_S / (2 * connections)
        """Units per second that each is owed at least. It is half of what there is, as those who
        are owed some are not kept waiting until there is room."""
        self._turns = trio.Lock()
        self._bucket = TokenBucket(INBOUND_WORK_BURST, INBOUND_WORK_PER_S, -math.inf)
        self._at = 0.0
        self._at_since = 0.0
        self._line: list[tuple[float, int, trio.Event]] = []
        """A heap of those who wait: what each has had, and who came first of equal ones."""
        self._numbers = count()
        self._changed = trio.Event()
        """Somebody came into the line, or left it unserved."""

    def line_at(self, now: float) -> float:
        """Return what whoever goes next has had, in units."""
        return self._at + (now - self._at_since) * self.owed_per_s

    async def turn(self) -> None:
        """Wait for a turn of the event loop that nobody else who waits here has as well.

        Trio carries out all that is ready before it looks at what came meanwhile, and connections
        that were held back are ready at about the same time: their work would be one long turn. Who
        waits for a lock is ready in the turn after it was given up."""
        async with self._turns:
            pass

    def spend(self, now: float, units: int) -> None:
        """Note units of work that are done."""
        self._bucket.spend(now, min(units, self._bucket.level(now) + DEBT_MAX))

    def has_room(self, now: float) -> bool:
        """Return whether nobody has to wait."""
        return not self._line and self._bucket.level(now) >= 0

    async def wait(self, had: float) -> None:
        """Wait until there is room for more work, where whoever has had least goes first, or until
        the line is where it was owed as much."""
        place = (had, next(self._numbers), trio.Event())
        heappush(self._line, place)
        self._changed.set()
        try:
            await place[-1].wait()
        finally:
            if not place[-1].is_set():
                self._line.remove(place)
                heapify(self._line)
                self._changed.set()

    async def run(self) -> None:
        """Give turns until cancelled, one in a turn of the event loop: those who wait are ready for
        more at about the same time, and all of it together would be one long turn."""
        while True:
            self._changed = trio.Event()
            with trio.move_on_after(self._next_in(trio.current_time())) as wait:
                await self._changed.wait()
            # Who was alone in the line may have left it in this very turn.
            if wait.cancelled_caught and self._line:
                had, _, called = heappop(self._line)
                now = trio.current_time()
                self._at, self._at_since = max(self.line_at(now), had), now
                called.set()

    def _next_in(self, now: float) -> float:
        """Return the seconds until somebody in the line is called."""
        if not self._line:
            return math.inf
        owed_in = (self._line[0][0] - self.line_at(now)) / self.owed_per_s
        return max(0.0, min(self._bucket.delay(now, 0), owed_in))


class Pace:
    """What one connection may have us do; `pool` is None for one that we opened."""

    def __init__(self, pool: WorkPool | None) -> None:
        self._pool = pool
        self._bucket = TokenBucket(PEER_WORK_BURST, PEER_WORK_PER_S, -math.inf)
        self._had = 0.0 if pool is None else pool.line_at(trio.current_time()) - GREETING_WORK
        self._untaken = 0

    async def spend(self, units: int, *, price: int = 0) -> None:
        """Note units of work that are done; wait until there is room for more, as if it were
        `price` units if those are more."""
        now = trio.current_time()
        price = max(price, units)
        wait_s = self._bucket.spend(now, price)
        if self._pool is not None:
            self._pool.spend(now, units)
        self._untaken += price
        if wait_s > 0:
            await trio.sleep(wait_s)
        elif self._untaken < WORK_AT_ONCE:
            return
        done, self._untaken = self._untaken, 0
        if self._pool is None or not self._has_to_wait(self._pool, done):
            await trio.lowlevel.checkpoint()
        else:
            await self._pool.wait(self._had)

    def _has_to_wait(self, pool: WorkPool, done: int) -> bool:
        now = trio.current_time()
        if pool.has_room(now):
            return False  # What is done while there is room for all is nobody's loss.
        line_at = pool.line_at(now)
        self._had = min(max(self._had, line_at - OWED_MAX) + done, line_at + AHEAD_MAX)
        return self._had > line_at

    async def turn(self) -> None:
        """Wait for a turn of the event loop for a piece of work."""
        if self._pool is not None:
            await self._pool.turn()
