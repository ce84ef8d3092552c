"""The address that others see this node at: behind a NAT, nothing on the machine tells it.

Each peer says at link's begin where it sees us (`identify`). Some may lie, or be fooled; what two
peers say that we chose, in different networks, is believed, unless more of the last ones say
another thing.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.transport.address_groups import is_public, is_stand_in
from unchained.node.transport.contract import Direction, Event, PeerIdentified

WITNESSES: Final = 2
"""Networks of peers that must name the same address."""
WITNESSES_KEPT: Final = 8
"""Networks whose last word counts: as many as there are outbound peers, so that where the address
has changed the old one is soon outvoted."""


class Announcer(Protocol):
    """Gives addresses to others: a transport."""

    def set_outer(self, ip: str) -> bool:
        """Announce that a public address leads here; return whether that is news."""


class OuterAddress:
    """Weighs what outbound peers say of where they see us; `note` is called with every event."""

    def __init__(
        self, announcer: Announcer, groups: NetworkGroups, log: FilteringBoundLogger
    ) -> None:
        self._announcer = announcer
        self._groups = groups
        self._log = log
        self._said: OrderedDict[str, str] = OrderedDict()
        """What the last peer of each network said."""

    def note(self, event: Event) -> None:
        """Take note of what a peer said, if the event is that."""
        if not isinstance(event, PeerIdentified) or event.info.direction is not Direction.OUTBOUND:
            return
        seen_at, witness = event.observed, event.info.ip
        if not seen_at or not is_public(seen_at) or is_stand_in(seen_at) or not is_public(witness):
            return
        group = self._groups.of(witness)
        self._said[group] = seen_at
        self._said.move_to_end(group)
        if len(self._said) > WITNESSES_KEPT:
            self._said.popitem(last=False)
        # Of its family alone: who is seen at an IPv6 address is no witness against an IPv4 one.
        of_family = Counter(it for it in self._said.values() if (":" in it) == (":" in seen_at))
        most = max(of_family.values())
        count = of_family[seen_at]
        if count >= WITNESSES and count == most and self._announcer.set_outer(seen_at):
            self._log.info("net.outer_address", ip=seen_at)
