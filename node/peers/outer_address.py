"""The address that others see this node at: behind a NAT, nothing on the machine tells it.

Each peer says at link's begin where it sees us (`identify`). One may lie, or be fooled; what two
peers say that we chose, in different networks, is believed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.transport.address_groups import is_public, is_stand_in
from unchained.node.transport.contract import Direction, Event, PeerIdentified

WITNESSES: Final = 2
"""Networks of peers that must name the same address."""
WITNESSES_KEPT: Final = 64


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
        count = sum(said == seen_at for said in self._said.values())
        if count >= WITNESSES and self._announcer.set_outer(seen_at):
            self._log.info("net.outer_address", ip=seen_at)
