"""Inbound handshakes under way, bounded in time, number and rate.

Fault 9: 300 silent sockets held up an honest peer for 7 s in libp2p's swarm. Here each address has
few places, and none is kept for longer than `HANDSHAKE_S`. Where all are taken, somebody goes of
the network that has most of them under way, so that who comes from elsewhere is never shown out
for a flood, however slow its line; of its own, who has said nothing for a while goes first. This
machine's own address has no limit but those of all, nor have the visitors of an onion service, who
share one. And as a handshake is the most expensive thing that anybody may ask for, so many begin
per second, in all and of each address; networks take turns. It can go when libp2p bounds its
handshakes so.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from typing import Final

import trio

from unchained.node.base.token_bucket import KeyedTokenBuckets, TokenBucket
from unchained.node.transport.address_groups import address_group, is_shared, network_group

HANDSHAKE_S: Final = 10.0
HANDSHAKES_PER_IP_MAX: Final = 8
HANDSHAKES_MAX: Final = 128
SILENT_S: Final = 2.0
"""Who has not sent its first byte after so long is the first to be shown out."""
HANDSHAKES_PER_IP_BURST: Final = 8
HANDSHAKES_PER_IP_PER_S: Final = 4.0
"""Handshakes of one address, this machine's own apart, that begin per second, after a burst; more
of them wait."""
HANDSHAKES_BURST: Final = 8
HANDSHAKES_PER_S: Final = 20.0
"""Handshakes that begin per second in all, after a burst: a twentieth of a core, and with all that
is said and asked at the beginning of a link a third. A burst is one long turn of the event loop.
"""


class Handshake:
    """One that is under way; `scope` is cancelled when its place is given to another."""

    def __init__(self, ip: str) -> None:
        self.host = address_group(ip)
        self.network = network_group(ip)
        self.is_shared = is_shared(ip)
        self.since = trio.current_time()
        self.scope = trio.CancelScope(deadline=self.since + HANDSHAKE_S)
        self.has_spoken = False
        self.has_begun = False

    def is_silent(self, now: float) -> bool:
        """Return whether nothing has come for a while."""
        return not self.has_spoken and now - self.since >= SILENT_S


class Handshakes:
    """Who is being let in. Run `run` beside it: it gives the turns."""

    def __init__(self) -> None:
        self._under_way: dict[Handshake, None] = {}
        self._of_host: Counter[str] = Counter()
        self._of_network: Counter[str] = Counter()
        self._host_rate = KeyedTokenBuckets(HANDSHAKES_PER_IP_BURST, HANDSHAKES_PER_IP_PER_S)
        self._rate = TokenBucket(HANDSHAKES_BURST, HANDSHAKES_PER_S, -math.inf)
        self._lines: OrderedDict[str, deque[trio.Event]] = OrderedDict()
        """Who waits for a turn, by network; the network that had one longest ago first."""
        self._arrived = trio.Event()

    def __len__(self) -> int:
        return len(self._under_way)

    def has_room(self, ip: str) -> bool:
        """Return whether an address may have one more under way."""
        return is_shared(ip) or self._of_host[address_group(ip)] < HANDSHAKES_PER_IP_MAX

    def enter(self, ip: str) -> Handshake | None:
        """Take a place for an address, None if there is no room for it; `leave` must follow."""
        if not self.has_room(ip):
            return None
        handshake = Handshake(ip)
        self._under_way[handshake] = None
        self._of_host[handshake.host] += 1
        self._of_network[handshake.network] += 1
        if len(self._under_way) > HANDSHAKES_MAX:
            shown_out = self._to_be_shown_out()
            shown_out.scope.cancel()
            self.leave(shown_out)
        return handshake

    def _to_be_shown_out(self) -> Handshake:
        """Return the oldest of the address that has most of the network that has most; rather one
        that is silent, then one that has not begun."""
        now = trio.current_time()
        return max(
            self._under_way,
            key=lambda it: (
                self._of_network[it.network],
                self._of_host[it.host],
                it.is_silent(now),
                not it.has_begun,
            ),
        )

    async def turn(self, handshake: Handshake) -> None:
        """Wait until a handshake may begin."""
        if not handshake.is_shared:
            await trio.sleep(self._host_rate.spend(handshake.host, trio.current_time()))
        called = trio.Event()
        line = self._lines.setdefault(handshake.network, deque())
        line.append(called)
        self._arrived.set()
        try:
            await called.wait()
        finally:
            if not called.is_set():
                line.remove(called)
                self._drop_if_empty(handshake.network)
        handshake.has_begun = True

    async def run(self) -> None:
        """Give turns until cancelled: one network after the other, so many per second."""
        while True:
            await trio.sleep(self._rate.spend(trio.current_time()))
            while not self._lines:
                self._arrived = trio.Event()
                await self._arrived.wait()
            network, line = next(iter(self._lines.items()))
            line.popleft().set()
            self._lines.move_to_end(network)
            self._drop_if_empty(network)

    def _drop_if_empty(self, network: str) -> None:
        if not self._lines.get(network, True):
            del self._lines[network]

    def leave(self, handshake: Handshake) -> None:
        """Give the place back; calling it again changes nothing."""
        if handshake not in self._under_way:
            return
        del self._under_way[handshake]
        for counter, key in (
            (self._of_host, handshake.host),
            (self._of_network, handshake.network),
        ):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]
