"""An internet gateway that maps ports by UPnP, through miniupnpc: calls that block, for a thread.

What the gateway says is not believed: where the node is reached is for peers to say.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, TypeVar

import miniupnpc  # type: ignore[import-not-found]  # a module in C, without types

from unchained.node.transport.port_mapping import NoGatewayError

T = TypeVar("T")

SEARCH_MS: Final = 2_000
"""Milliseconds for which answers to the search are waited for."""
LEASE_S: Final = 3_600
"""Seconds after which a gateway forgets a mapping that is not renewed, where it forgets any."""
FOREVER: Final = 0
PURPOSE: Final = "Unchained node"
_NOBODY: Final = "Success"
"""What miniupnpc raises where the search went well and nobody answered."""
_ONLY_FOREVER: Final = "OnlyPermanentLeasesSupported"


class UpnpGateway:
    """The gateway of the network that this machine is in; found anew by each `find`."""

    def __init__(self, interface: str = "") -> None:
        """`interface`: the address of the one to search on; empty: as the system chooses."""
        self._interface = interface
        self._found: miniupnpc.UPnP | None = None

    def find(self) -> str:
        """Find the gateway, and return this machine's address as it sees it. Raises
        `NoGatewayError`."""
        found = miniupnpc.UPnP(multicastif=self._interface or None, discoverdelay=SEARCH_MS)
        try:
            count = _asked(found.discover)
        except NoGatewayError as error:
            if _NOBODY not in str(error):
                raise
            count = 0
        if not count:
            raise NoGatewayError("no device answers by UPnP")
        _asked(found.selectigd)
        self._found = found
        return str(found.lanaddr)

    def map(self, ip: str, port: int) -> None:
        """Lead a port of the gateway to the same port here, in place of what was mapped for it
        before. Raises `NoGatewayError`."""
        assert self._found is not None, "found before"
        add = functools.partial(self._found.addportmapping, port, "TCP", ip, port, PURPOSE, "")
        try:
            _asked(add, LEASE_S)
        except NoGatewayError as error:
            if _ONLY_FOREVER not in str(error):
                raise
            _asked(add, FOREVER)

    def unmap(self, port: int) -> None:
        """Lead a port nowhere again. Raises `NoGatewayError`."""
        assert self._found is not None, "found before"
        _asked(self._found.deleteportmapping, port, "TCP")


def _asked(call: Callable[..., T], *arguments: object) -> T:
    """Return what miniupnpc says, whose every failure is an Exception with a word in it."""
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - miniupnpc has no class of its own
        raise NoGatewayError(f"by UPnP: {' '.join(str(error).split())[:200]}") from None
