"""One writer, many readers: the latest value (`Watch`) and every value (`Broadcast`).

Neither ever makes the writer wait. A reader of a `Watch` that is slow misses values that were
overtaken; a reader of a `Broadcast` that is slow is given the number of those it lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

import msgspec
import trio

from unchained.node.base.counted import ChannelStatistics

T = TypeVar("T")


class Watch(Generic[T]):
    """A value that changes, of which readers want the latest.

    One task owns it and calls `set`; any number of tasks wait for a change.
    """

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._changed = trio.Event()

    @property
    def value(self) -> T:
        """The latest value."""
        return self._value

    @property
    def version(self) -> int:
        """How often the value was set."""
        return self._version

    def set(self, value: T) -> None:
        """Replace the value and wake every waiting reader, also when it equals the old one."""
        self._value = value
        self._version += 1
        self._changed.set()
        self._changed = trio.Event()

    async def wait_newer(self, version: int) -> tuple[int, T]:
        """Return version and value once the version exceeds the given one; cancelling loses
        nothing."""
        await trio.lowlevel.checkpoint()
        while self._version <= version:
            await self._changed.wait()
        return self._version, self._value

    async def wait_for(self, wanted: Callable[[T], bool]) -> T:
        """Return the first value seen for which `wanted` holds, the present one included."""
        await trio.lowlevel.checkpoint()
        while not wanted(self._value):
            await self._changed.wait()
        return self._value


class Lost(msgspec.Struct, frozen=True, gc=False):
    """What a lagging subscriber receives in place of the oldest items, which are gone."""

    count: int


class BroadcastStatistics(msgspec.Struct, frozen=True, gc=False):
    """What went through a broadcast so far."""

    subscribers: int
    sent: int
    lost: int
    """Items dropped from the queues of lagging subscribers, summed over them."""


class Broadcast(Generic[T]):
    """Gives every subscriber every item, through a queue of `capacity` items for each."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        self._capacity = capacity
        self._subscriptions: set[Subscription[T]] = set()
        self._sent = 0
        self._lost = 0
        self._closed = False

    def send(self, item: T) -> None:
        """Queue the item for every subscriber; where a queue is full its oldest item goes.

        Raises `trio.ClosedResourceError` once closed.
        """
        if self._closed:
            raise trio.ClosedResourceError
        self._sent += 1
        for subscription in self._subscriptions:
            self._lost += subscription._push(item)

    def subscribe(self) -> Subscription[T]:
        """Return a subscription to all items sent from here on; to be used as a context
        manager."""
        subscription: Subscription[T] = Subscription(self._capacity, self._subscriptions.discard)
        if self._closed:
            subscription._end()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """End every subscription once it has received what is queued."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription._end()
        self._subscriptions.clear()

    def statistics(self) -> BroadcastStatistics:
        """Return a snapshot of the counters."""
        return BroadcastStatistics(len(self._subscriptions), self._sent, self._lost)

    def channel(self) -> ChannelStatistics:
        """Return how full the fullest queue of a subscriber is, and what all of them lost."""
        used = max((len(subscription._items) for subscription in self._subscriptions), default=0)
        return ChannelStatistics(used, self._capacity, self._lost)


class Subscription(Generic[T]):
    """One subscriber's end of a broadcast, read by one task.

    Iterating gives items and, where items were dropped since the last one, a `Lost`.
    """

    def __init__(self, capacity: int, leave: Callable[[Subscription[T]], None]) -> None:
        self._items: deque[T] = deque(maxlen=capacity)
        self._leave = leave
        self._lost = 0
        self._ended = False
        self._wake = trio.Event()

    def _push(self, item: T) -> int:
        dropped = int(len(self._items) == self._items.maxlen)
        self._lost += dropped
        self._items.append(item)
        self._wake.set()
        return dropped

    def _end(self) -> None:
        self._ended = True
        self._wake.set()

    async def receive(self) -> T | Lost:
        """Return the next item, or how many items were lost before it.

        Raises `trio.EndOfChannel` when the broadcast is closed and the queue empty. Cancelling
        loses nothing.
        """
        await trio.lowlevel.checkpoint()
        while not self._items:
            if self._ended:
                raise trio.EndOfChannel
            self._wake = trio.Event()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return Lost(lost)
        return self._items.popleft()

    def close(self) -> None:
        """Unsubscribe and drop what is queued."""
        self._leave(self)
        self._items.clear()
        self._end()

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> T | Lost:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __enter__(self) -> Subscription[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
