"""Whose password is checked next. A check is made slow on purpose, so one runs at a time: the
addresses take turns, and whoever guesses keeps waiting for his own guesses alone."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from unchained.node.rpc.core.errors import BusyError

WAITING_EACH_MAX: Final = 4
"""Checks of one address that wait."""
WAITING_ADDRESSES_MAX: Final = 24
"""Addresses that wait. With four connections each they take all that a server has: the owner comes
in by the cookie all the same, whose check waits for nothing."""


class PasswordTurns:
    """Gives turns to addresses: after one has had its check, all others that wait come first."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[trio.Event]] = {}
        self._is_taken = False

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Hold the turn while the context lasts. Raises `BusyError` where too many of the
        address, or too many addresses, wait for theirs."""
        if self._is_taken:
            await self._wait(_network(address))
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, lane: str) -> None:
        waiting = self._lanes.get(lane)
        if waiting is None:
            if len(self._lanes) >= WAITING_ADDRESSES_MAX:
                raise BusyError("passwords of too many addresses wait to be checked")
            waiting = self._lanes[lane] = deque()
        if len(waiting) >= WAITING_EACH_MAX:
            raise BusyError("too many passwords of this address wait to be checked")
        event = trio.Event()
        waiting.append(event)
        try:
            await event.wait()
        except trio.Cancelled:
            if event.is_set():
                self._pass_on()
            else:
                waiting.remove(event)
                if not waiting:
                    del self._lanes[lane]
            raise

    def _pass_on(self) -> None:
        self._is_taken = bool(self._lanes)
        if not self._lanes:
            return
        lane = next(iter(self._lanes))
        waiting = self._lanes.pop(lane)
        waiting.popleft().set()
        if waiting:
            self._lanes[lane] = waiting


def _network(address: str) -> str:
    """Return what an address shares with those that its owner has as well: an IPv6 /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
