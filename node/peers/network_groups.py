"""Which addresses count as one network when peers are to be of different ones."""

from __future__ import annotations

from unchained.node.peers.asmap import Asmap
from unchained.node.transport.address_groups import network_group


class NetworkGroups:
    """Groups addresses by who runs their network as far as an `Asmap` tells, otherwise an IPv4 /16
    or an IPv6 /32."""

    def __init__(self, asmap: Asmap | None = None) -> None:
        self._asmap = asmap

    def of(self, ip: str) -> str:
        """Return the group of an IP literal."""
        system = 0 if self._asmap is None else self._asmap.system_of(ip)
        return f"AS{system}" if system else network_group(ip)
