"""Whose password is checked next. A check is made slow on purpose, so one runs at a time: the
addresses take turns, and whoever guesses keeps waiting for his own guesses alone."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from unchained.node.base.turns import Turns
from unchained.node.rpc.core.errors import BusyError

WAITING_EACH_MAX: Final = 4
"""Checks of one address that wait."""
WAITING_ADDRESSES_MAX: Final = 24
"""Addresses that wait. With four connections each they take all that a server has: the owner comes
in by the cookie all the same, whose check waits for nothing."""


class PasswordTurns:
    """Gives turns to addresses: of those that wait, who has had the fewest is next."""

    def __init__(self) -> None:
        self._turns = Turns(1, each_s=1.0)

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Hold the turn while the context lasts. Raises `BusyError` where too many of the
        address, or too many addresses, wait for theirs."""
        lane = _network(address)
        if self._turns.is_full:
            self._check_may_wait(lane)
        async with self._turns.turn(lane):
            yield

    def _check_may_wait(self, lane: str) -> None:
        waiting = self._turns.waiting(lane)
        if not waiting and self._turns.askers_waiting >= WAITING_ADDRESSES_MAX:
            raise BusyError("passwords of too many addresses wait to be checked")
        if waiting >= WAITING_EACH_MAX:
            raise BusyError("too many passwords of this address wait to be checked")


def _network(address: str) -> str:
    """Return what an address shares with those that its owner has as well: an IPv6 /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
