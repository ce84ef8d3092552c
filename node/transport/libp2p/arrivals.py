"""Connections that have come in and wait to be looked at, each network's in a line of its own.

What a flood may fill is thereby its own networks' lines: there is a place for who comes from
elsewhere, and a turn as often as for any network, however many connections the flood makes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Final, Generic, TypeVar

from unchained.node.transport.address_groups import address_group, is_shared, network_group

ARRIVALS_WAITING_MAX: Final = 256
"""Connections that wait. Over it, one goes of the network (IPv4 /16, IPv6 /32) that has most: the
one that has waited longest."""
ARRIVALS_WAITING_PER_IP_MAX: Final = 8
"""Of them, those of one address (IPv6 /64), this machine's own apart; further ones go at once."""

T = TypeVar("T")


class Arrivals(Generic[T]):
    """Who waits: `T` is what waits for it."""

    def __init__(self, most: int = ARRIVALS_WAITING_MAX) -> None:
        self.most = most
        self._lines: OrderedDict[str, deque[tuple[str, T]]] = OrderedDict()
        """Hosts and what waits, by network; the network that had a turn longest ago first."""
        self._of_host: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ip: str, arrival: T) -> T | None:
        """Let one wait; return the one that has to go for it, which may be itself."""
        host = address_group(ip)
        if self._of_host[host] >= ARRIVALS_WAITING_PER_IP_MAX and not is_shared(ip):
            return arrival
        self._lines.setdefault(network_group(ip), deque()).append((host, arrival))
        self._of_host[host] += 1
        self._count += 1
        if self._count <= self.most:
            return None
        return self._take(max(self._lines, key=lambda network: len(self._lines[network])))

    def next(self) -> T:
        """Return whose turn it is: networks take turns. Raises StopIteration if nobody waits."""
        network = next(iter(self._lines))
        self._lines.move_to_end(network)
        return self._take(network)

    def _take(self, network: str) -> T:
        line = self._lines[network]
        host, arrival = line.popleft()
        if not line:
            del self._lines[network]
        self._count -= 1
        self._of_host[host] -= 1
        if not self._of_host[host]:
            del self._of_host[host]
        return arrival
