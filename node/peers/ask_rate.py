"""How often peers are asked: who has to wait for a peer's rate waits in its line, what is urgent
before all else."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import count
from typing import Final, NamedTuple

import trio

from unchained.node.base.token_bucket import KeyedTokenBuckets
from unchained.node.transport.contract import PeerId

SOON_S: Final = 1e-6
"""Seconds that are not slept for: what a token lacks by then is what rounding makes of it."""


class _Ticket(NamedTuple):
    """A place in a line: the least goes first."""

    can_wait: bool
    number: int


class _Line:
    """Those who wait for one peer's rate."""

    def __init__(self) -> None:
        self.tickets: list[_Ticket] = []
        self.given_up = trio.Event()
        """Set when one of them gives up."""


class AskRate:
    """A bucket and a line for each peer. A token is taken when a request may go, not before: who
    gives up waiting takes none."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._buckets = KeyedTokenBuckets(burst, per_second)
        self._lines: dict[PeerId, _Line] = {}
        self._numbers = count()

    def wait_s(self, peer: PeerId, *, urgent: bool) -> float:
        """Return the seconds that a request would wait for its turn."""
        line = self._lines.get(peer)
        tickets = [] if line is None else line.tickets
        ahead = bisect_left(tickets, _Ticket(True, -1)) if urgent else len(tickets)
        return self._delay_s(peer, ahead)

    async def turn(self, peer: PeerId, *, urgent: bool = False) -> None:
        """Wait until a peer may be asked once more, and count that; cancelled, it counts nothing.
        What is `urgent` goes before what is not."""
        ticket = _Ticket(not urgent, next(self._numbers))
        line = self._lines.setdefault(peer, _Line())
        insort(line.tickets, ticket)
        try:
            await trio.lowlevel.checkpoint()
            while True:
                # Others may have gone before it meanwhile, or given up.
                wait_s = self._delay_s(peer, bisect_left(line.tickets, ticket))
                if wait_s <= SOON_S:
                    break
                with trio.move_on_after(wait_s):
                    await line.given_up.wait()
            self._buckets.spend(peer, trio.current_time())
        except trio.Cancelled:
            line.given_up.set()
            line.given_up = trio.Event()
            raise
        finally:
            line.tickets.remove(ticket)
            if not line.tickets:
                del self._lines[peer]

    def _delay_s(self, peer: PeerId, ahead: int) -> float:
        return self._buckets.delay(peer, trio.current_time(), ahead + 1)
