"""Places at which several take turns: whoever asks for much waits for his own."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

USUAL_OF_TURNS: Final = 16
"""Of how many of the last turns the usual length is, about."""
REMEMBERED_MAX: Final = 256
"""Askers of whom it is remembered what they had, beyond those who wait."""


class _Lane:
    """What waits of an asker, and from where on the scale of the line."""

    def __init__(self, from_s: float) -> None:
        self.from_s = from_s
        self.waiting: deque[trio.Event] = deque()


class Turns:
    """So many places: when one is free, the asker is next who has held them for the least time; of
    equal ones, who had his turn longest ago (start-time fair queuing: Goyal, Vin, Cheng 1996).

    All begin where the line is, which is at whoever had his turn last: so nobody saves up what he
    did not ask for, and nobody pays for what he was given while nobody else asked. It moves on by
    what each of those who ask would have had of the time that is spent, and newcomers begin a turn
    of the usual length behind it: so nobody gains by a new name for each turn."""

    def __init__(self, places: int, each_s: float | None = None) -> None:
        """`each_s`: what a turn counts, where all are of a length; else the time that it takes."""
        self._free = places
        self._each_s = each_s
        self._lanes: dict[str, _Lane] = {}
        self._line_s = 0.0
        self._held_s: dict[str, float] = {}
        """For how long each has held places, on the scale of the line."""
        self._usual_s = each_s or 0.0
        """How long turns last, about."""

    @asynccontextmanager
    async def turn(self, asker: str, weight: float = 1.0) -> AsyncIterator[None]:
        """Hold a place while the context lasts. `weight`: how many askers this one counts for."""
        if self._free:
            self._free -= 1
            self._begin(self._had_s(asker))
        else:
            await self._wait(asker)
        # Whose turn it is, is where the line is.
        began_s, from_s = trio.current_time(), self._line_s
        try:
            yield
        finally:
            self._end(asker, from_s, trio.current_time() - began_s, weight)
            self._pass_on()

    @property
    def is_full(self) -> bool:
        """Whether who comes now has to wait."""
        return not self._free

    def waiting(self, asker: str) -> int:
        """Return how many turns of an asker wait."""
        return len(self._lanes[asker].waiting) if asker in self._lanes else 0

    @property
    def askers_waiting(self) -> int:
        """How many askers wait."""
        return len(self._lanes)

    def _had_s(self, asker: str) -> float:
        return max(self._line_s, self._held_s.get(asker, self._line_s + self._usual_s))

    def _begin(self, from_s: float) -> None:
        self._line_s = max(self._line_s, from_s)
        if len(self._held_s) > len(self._lanes) + REMEMBERED_MAX:
            # Who is not ahead of the line begins there anyway.
            self._held_s = {it: held for it, held in self._held_s.items() if held > self._line_s}

    def _end(self, asker: str, from_s: float, spent_s: float, weight: float) -> None:
        spent_s = spent_s if self._each_s is None else self._each_s
        held_s = max(from_s, self._held_s.get(asker, 0.0)) + spent_s / weight
        self._held_s[asker] = held_s
        self._usual_s += (spent_s - self._usual_s) / USUAL_OF_TURNS
        if asker in self._lanes:
            self._lanes[asker].from_s = held_s
        self._line_s += spent_s / (1 + len(self._lanes))

    async def _wait(self, asker: str) -> None:
        lane = self._lanes.setdefault(asker, _Lane(self._had_s(asker)))
        event = trio.Event()
        lane.waiting.append(event)
        try:
            await event.wait()
        except trio.Cancelled:
            if event.is_set():
                self._pass_on()
            else:
                lane.waiting.remove(event)
                if not lane.waiting:
                    del self._lanes[asker]
            raise

    def _pass_on(self) -> None:
        if not self._lanes:
            self._free += 1
            return
        asker = min(self._lanes, key=lambda it: self._lanes[it].from_s)
        lane = self._lanes.pop(asker)
        self._begin(lane.from_s)
        lane.waiting.popleft().set()
        if lane.waiting:
            self._lanes[asker] = lane
