"""Inbound handshakes under way, bounded in time and number.

Fault 9: 300 silent sockets held up an honest peer for 7 s in libp2p's swarm. Here each address has
few places; where all are taken the oldest is closed, and none lasts longer than `HANDSHAKE_S`. And
as a handshake is the most expensive thing that anybody may ask for, each address waits its turn
when it asks for many. It can go when libp2p bounds its handshakes per address.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio

from unchained.node.base.token_bucket import KeyedTokenBuckets

HANDSHAKE_S: Final = 10.0
HANDSHAKES_PER_IP_MAX: Final = 8
HANDSHAKES_MAX: Final = 128
HANDSHAKES_PER_IP_BURST: Final = 16
HANDSHAKES_PER_IP_PER_S: Final = 4.0
"""Handshakes of one address that begin per second, after a burst; more of them wait."""


class Handshakes:
    """Who is being let in."""

    def __init__(self) -> None:
        self._scopes: dict[trio.CancelScope, str] = {}
        self._per_ip: Counter[str] = Counter()
        self._rate = KeyedTokenBuckets(HANDSHAKES_PER_IP_BURST, HANDSHAKES_PER_IP_PER_S)

    def __len__(self) -> int:
        return len(self._scopes)

    def has_room(self, ip: str) -> bool:
        """Return whether an address (`address_group`) may have one more under way."""
        return self._per_ip[ip] < HANDSHAKES_PER_IP_MAX

    def enter(self, ip: str) -> trio.CancelScope | None:
        """Return the scope to shake hands in, or None if there is no room."""
        if not self.has_room(ip):
            return None
        if len(self._scopes) >= HANDSHAKES_MAX:
            oldest = next(iter(self._scopes))
            oldest.cancel()
            self.leave(oldest)
        scope = trio.CancelScope(deadline=trio.current_time() + HANDSHAKE_S)
        self._scopes[scope] = ip
        self._per_ip[ip] += 1
        return scope

    async def turn(self, ip: str) -> None:
        """Wait until a handshake of an address may begin."""
        await trio.sleep(self._rate.spend(ip, trio.current_time()))

    def leave(self, scope: trio.CancelScope) -> None:
        """Give the place back; calling it again changes nothing."""
        ip = self._scopes.pop(scope, None)
        if ip is not None:
            self._per_ip[ip] -= 1
            if not self._per_ip[ip]:
                del self._per_ip[ip]
