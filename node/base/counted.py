"""What every part of a node has: a snapshot of what it counts."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from unchained.node.base.user_text import user_text

S_co = TypeVar("S_co", covariant=True)


class Counts(Protocol[S_co]):
    """A part that gives a snapshot of one kind."""

    def statistics(self) -> S_co:
        """Return the snapshot, a frozen value."""


class Counted(Protocol):
    """A part of the process or the node that gives a snapshot of what it counts."""

    def statistics(self) -> msgspec.Struct:
        """Return the snapshot, a frozen value."""


@user_text(
    """How full a queue between tasks is, and what it has lost since the start. `capacity` 0: of
    several queues together."""
)
class ChannelStatistics(msgspec.Struct, frozen=True, gc=False):  # noqa: D101 - user_text
    used: int
    capacity: int
    lost: int = 0


@user_text("Worker threads of one kind: those at work, those allowed, and the work that waits.")
class ThreadStatistics(msgspec.Struct, frozen=True, gc=False):  # noqa: D101 - user_text
    busy: int
    limit: int
    waiting: int
