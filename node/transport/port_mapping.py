"""Ports of a home's gateway that lead to this node, kept while it runs.

That others reach the node there is found out like any outer address: by what peers say who see it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar, TypeVarTuple

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.transport.address import Address

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RENEW_S: Final = 1_200.0
"""Seconds between renewals, thrice in a lease: a gateway that was switched off has forgotten it."""
GATEWAY_TIMEOUT_S: Final = 20.0
"""Seconds that a gateway has for one answer, the search for it included."""
REMOVE_S: Final = 5.0
"""Seconds that the mappings have to be removed when the node stops."""


class NoGatewayError(Exception):
    """No gateway did what it was asked for; the text says why, in one line."""


class Gateway(Protocol):
    """A device that maps ports. Its calls block, and raise `NoGatewayError`."""

    def find(self) -> str:
        """Find the gateway, and return this machine's address as it sees it."""

    def map(self, ip: str, port: int) -> None:
        """Lead a port of the gateway to the same port here."""

    def unmap(self, port: int) -> None:
        """Lead a port nowhere again."""


class Listening(Protocol):
    """Knows where it listens: a transport that runs."""

    def listening(self) -> Sequence[Address]:
        """Return the places that are listened on."""


class PortMapping:
    """Has the ports mapped that the transport listens on; run `run` while that runs."""

    def __init__(self, gateway: Gateway, listening: Listening, log: FilteringBoundLogger) -> None:
        self._gateway = gateway
        self._listening = listening
        self._log = log
        self._limiter = trio.CapacityLimiter(1)
        self._mapped: dict[int, str] = {}
        """Where each port that is mapped leads."""
        self._told = ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Map and renew until cancelled; then what was mapped is removed."""
        task_status.started()
        try:
            while True:
                try:
                    await self._renew()
                except NoGatewayError as error:
                    self._tell(str(error))
                await trio.sleep(RENEW_S)
        finally:
            with trio.move_on_after(REMOVE_S, shield=True):
                await self._remove()

    async def _renew(self) -> None:
        places = [place for place in self._listening.listening() if place.kind == "ip4"]
        if all(ipaddress.ip_address(place.host).is_loopback for place in places):
            raise NoGatewayError("nothing listens but on this machine alone")
        here = await self._ask(self._gateway.find)
        for place in places:
            if place.host != here and not ipaddress.ip_address(place.host).is_unspecified:
                continue
            await self._ask(self._gateway.map, here, place.port)
            if self._mapped.get(place.port) != here:
                self._mapped[place.port] = here
                self._told = ""
                self._log.info("net.port_mapped", port=place.port, leads_to=here)

    async def _remove(self) -> None:
        for port in tuple(self._mapped):
            try:
                await self._ask(self._gateway.unmap, port)
            except NoGatewayError as error:
                self._tell(str(error))
            del self._mapped[port]

    async def _ask(self, call: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Return what the gateway says; one that does not answer holds a thread, and no more."""
        try:
            with trio.fail_after(GATEWAY_TIMEOUT_S):
                return await trio.to_thread.run_sync(
                    call, *arguments, abandon_on_cancel=True, limiter=self._limiter
                )
        except trio.TooSlowError:
            raise NoGatewayError(
                f"the gateway has not answered in {GATEWAY_TIMEOUT_S:g} s"
            ) from None

    def _tell(self, why: str) -> None:
        """Say once what is amiss."""
        if why != self._told:
            self._told = why
            self._log.warning("net.port_not_mapped", why=why)
