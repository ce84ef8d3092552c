"""Places at which several take turns: whoever asks for much waits for his own."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turns:
    """So many places: when one is free, the asker that had his turn longest ago is next."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lanes: dict[str, deque[trio.Event]] = {}

    @asynccontextmanager
    async def turn(self, asker: str) -> AsyncIterator[None]:
        """Hold a place while the context lasts."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(asker)
        try:
            yield
        finally:
            self._pass_on()

    @property
    def is_full(self) -> bool:
        """Whether who comes now has to wait."""
        return not self._free

    def waiting(self, asker: str) -> int:
        """Return how many turns of an asker wait."""
        return len(self._lanes.get(asker, ()))

    @property
    def askers_waiting(self) -> int:
        """How many askers wait."""
        return len(self._lanes)

    async def _wait(self, asker: str) -> None:
        waiting = self._lanes.setdefault(asker, deque())
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
                    del self._lanes[asker]
            raise

    def _pass_on(self) -> None:
        if not self._lanes:
            self._free += 1
            return
        asker = next(iter(self._lanes))
        waiting = self._lanes.pop(asker)
        waiting.popleft().set()
        if waiting:
            self._lanes[asker] = waiting
