"""Constants of the product that are next to nothing for a while."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final, NamedTuple

import trio

from unchained.node.chain import held_coins, mined_intake, service, writer
from unchained.node.relay import relay, stem, stem_queue
from unchained.node.sync import downloader
from unchained.node.transport import gossip_router
from unchained.node.wallet import wallet_follower


class Limit(NamedTuple):
    """A constant of a module: room for so many entries of so many bytes. It is read where it
    stands, as a node starts or each time."""

    module: ModuleType
    name: str
    size: int = 1


LIMITS: Final = (
    Limit(writer, "WRITER_QUEUE_MAX"),
    Limit(service, "CHANGES_KEPT"),
    Limit(held_coins, "MAX_ORPHANS"),
    Limit(held_coins, "MAX_ORPHANS_OF_PEER"),
    Limit(held_coins, "MAX_EARLY"),
    Limit(mined_intake, "HELD_BODIES_MAX"),
    Limit(gossip_router, "CACHE_BYTES_MAX", 1 << 10),
    Limit(relay, "ANNOUNCED_BODIES_MAX"),
    Limit(stem, "HELD_MAX"),
    Limit(stem, "HELD_OF_PEER_MAX"),
    Limit(stem, "MADE_AT_ONCE_MAX"),
    Limit(stem_queue, "QUEUE_BYTES_MAX", 1 << 13),
    Limit(stem_queue, "QUEUE_OF_PEER_BYTES_MAX", 1 << 13),
    Limit(downloader, "SYNC_BATCHES_AHEAD"),
    Limit(wallet_follower, "CHANGES_KEPT"),
)


class SmallQueues:
    """What has been asked for of the limits; the least of it counts."""

    def __init__(self) -> None:
        self._asked: list[int] = []
        self._usual = {limit: getattr(limit.module, limit.name) for limit in LIMITS}
        self.since = 0.0
        """Since when the limits have been as they are, s of virtual time; 0 if they are usual."""

    def __bool__(self) -> bool:
        """Whether they are smaller than usual."""
        return bool(self._asked)

    @property
    def least(self) -> float:
        """Entries for which a queue of nodes that start now has room."""
        return min(self._asked, default=math.inf)

    @contextmanager
    def of(self, most: int) -> Iterator[None]:
        """Let no queue have room for more than so many entries meanwhile."""
        self._asked.append(most)
        self._set()
        try:
            yield
        finally:
            self._asked.remove(most)
            self._set()

    def _set(self) -> None:
        self.since = trio.current_time() if self._asked else 0.0
        for limit, usual in self._usual.items():
            small = limit.size * min(self._asked, default=usual)
            setattr(limit.module, limit.name, min(small, usual))
