"""Places for calls: how many run and wait at once, apart for each kind of caller, so that nobody
takes those of the node's owner."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

import trio

from unchained.node.base.counted import ChannelStatistics
from unchained.node.rpc.core.errors import BusyError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import Caller


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds on requests and calls."""

    body_bytes: int = 2 * 1024 * 1024
    answer_bytes: int = 8 * 1024 * 1024
    """Of a whole answer, a batch's included."""
    public_answer_bytes: int = 1024 * 1024
    """The same, for callers who have nothing but what is public."""
    depth: int = 32
    """Arrays and objects inside one another."""
    batch: int = 100
    calls: int = 16
    """Calls of the node's owner that run at once."""
    queued: int = 64
    """Calls that wait for their turn; beyond, callers are asked to come back."""
    known_calls: int = 8
    """Calls by the read-only and the miners' token: nobody takes a place of the owner."""
    known_queued: int = 32
    token_calls: int = 4
    """Calls of wallets' tokens that run at once."""
    token_queued: int = 16
    one_token_calls: int = 8
    """Those of the tokens of one wallet that run or wait."""
    stranger_calls: int = 8
    """Calls without credentials, the page's among them."""
    stranger_queued: int = 64
    long_polls: int = 32
    """Of the owner, of the read-only and the miners' token, and of everybody else, each."""
    call_seconds: float = 30.0


class _Class(enum.Enum):
    """Who calls: none of them takes the places of another."""

    OWNER = enum.auto()
    KNOWN = enum.auto()
    TOKEN = enum.auto()
    STRANGER = enum.auto()


@dataclass(slots=True)
class _Room:
    """Admits at most `limiter` calls, and `queued` waiting ones."""

    limiter: trio.CapacityLimiter
    queued: int
    each: int | None = None
    """Calls of one wallet's tokens that run or wait; None: as many as there are places."""
    waiting: int = field(default=0)
    held: Counter[str] = field(default_factory=Counter)


class CallPlaces:
    """The places of one server."""

    def __init__(self, limits: CallLimits) -> None:
        self._calls = {
            _Class.OWNER: _room(limits.calls, limits.queued),
            _Class.KNOWN: _room(limits.known_calls, limits.known_queued),
            _Class.TOKEN: _room(limits.token_calls, limits.token_queued, limits.one_token_calls),
            _Class.STRANGER: _room(limits.stranger_calls, limits.stranger_queued),
        }
        self._polls = {kind: _room(limits.long_polls, 0) for kind in _Class}
        self._polls[_Class.TOKEN] = self._polls[_Class.STRANGER]

    def place(self, caller: Caller, *, is_long_poll: bool) -> _Place:
        """Return the place of a call, to be entered."""
        rooms = self._polls if is_long_poll else self._calls
        return _Place(rooms[_class_of(caller)], caller)

    def queue(self) -> ChannelStatistics:
        """Return how many calls of the node's owner wait for their turn."""
        room = self._calls[_Class.OWNER]
        return ChannelStatistics(room.waiting, room.queued)


def _room(places: int, queued: int, each: int | None = None) -> _Room:
    return _Room(trio.CapacityLimiter(places), queued, each)


def _class_of(caller: Caller) -> _Class:
    if caller.rights is not None:
        return _Class.TOKEN
    if not caller.is_known:
        return _Class.STRANGER
    return _Class.OWNER if caller.access is Access.FULL else _Class.KNOWN


class _Place:
    """A place among the running calls, waited for if few enough wait already. Entering it raises
    `BusyError`."""

    def __init__(self, room: _Room, caller: Caller) -> None:
        self._room = room
        self._wallet = "" if caller.rights is None else caller.rights.wallet

    async def __aenter__(self) -> None:
        room = self._room
        if room.each is not None and room.held[self._wallet] >= room.each:
            raise BusyError
        room.held[self._wallet] += 1
        try:
            await self._acquire()
        except BaseException:
            self._leave()
            raise

    async def _acquire(self) -> None:
        room = self._room
        try:
            return room.limiter.acquire_on_behalf_of_nowait(self)
        except trio.WouldBlock:
            if room.waiting >= room.queued:
                raise BusyError from None
        room.waiting += 1
        try:
            return await room.limiter.acquire_on_behalf_of(self)
        finally:
            room.waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._room.limiter.release_on_behalf_of(self)
        self._leave()

    def _leave(self) -> None:
        held = self._room.held
        held[self._wallet] -= 1
        if not held[self._wallet]:
            del held[self._wallet]
