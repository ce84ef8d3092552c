"""What every part of a node has: a snapshot of what it counts."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

S_co = TypeVar("S_co", covariant=True)


class Counts(Protocol[S_co]):
    """A part that gives a snapshot of one kind."""

    def statistics(self) -> S_co:
        """Return the snapshot, a frozen value."""


class Counted(Protocol):
    """A part of the process or the node that gives a snapshot of what it counts."""

    def statistics(self) -> object:
        """Return the snapshot, a frozen value."""


class ChannelStatistics(msgspec.Struct, frozen=True, gc=False):
    """How full a queue between tasks is, and what it has lost since the start. `capacity` 0: of
    several queues together."""

    used: int
    capacity: int
    lost: int = 0


class ThreadStatistics(msgspec.Struct, frozen=True, gc=False):
    """Worker threads of one kind: those at work, those allowed, and the work that waits."""

    busy: int
    limit: int
    waiting: int
