"""What peers may make a node hold and do: one budget for all of them.

Each kind has the same shape: every connection has a share that nobody takes from it, enough for an
honest peer; what it wants beyond it comes out of a pool for all. So what is held is bounded however
many there are who want more, and who is content with the share never notices them.
"""

from __future__ import annotations

from typing import Final

import trio

from unchained.node.transport.libp2p.pace import WorkPool
from unchained.node.transport.libp2p.unsent_answers import UnsentAnswers
from unchained.node.transport.libp2p.upload import Upload

UNREAD_SHARE_BYTES: Final = 256 << 10
"""Bytes of a connection that came and are not read, in all of its streams: its share, the pool for
what goes beyond shares, and the most of one connection."""
UNREAD_POOL_BYTES: Final = 32 << 20
UNREAD_BYTES_OF_PEER_MAX: Final = 8 << 20
OUTBOX_SHARE_BYTES: Final = 128 << 10
"""Bytes of gossip that wait to be sent on a connection: likewise. The excess is dropped."""
OUTBOX_POOL_BYTES: Final = 16 << 20
OUTBOX_BYTES_OF_PEER_MAX: Final = 4 << 20


class SharedBytes:
    """Bytes held for connections, each by a key of its own."""

    def __init__(self, share: int, pool: int, most: int) -> None:
        self._share = share
        self._pool = pool
        self._most = most
        self._held: dict[object, int] = {}
        self._drawn = 0
        self._freed = trio.Event()

    def set(self, holder: object, held: int) -> None:
        """Note what is held for a connection from here on, however much it is."""
        before = self._held.pop(holder, 0)
        if held:
            self._held[holder] = held
        self._drawn += self._beyond_share(held) - self._beyond_share(before)
        if held < before:
            freed, self._freed = self._freed, trio.Event()
            freed.set()

    def fits(self, holder: object, more: int = 0) -> bool:
        """Return whether so much more may be held for a connection."""
        before = self._held.get(holder, 0)
        held = before + more
        if held <= self._share:
            return True
        drawn = self._drawn + self._beyond_share(held) - self._beyond_share(before)
        return held <= self._most and drawn <= self._pool

    async def wait_until_it_fits(self, holder: object) -> None:
        """Wait until no more is held for a connection than may be."""
        while not self.fits(holder):
            await self._freed.wait()

    def _beyond_share(self, held: int) -> int:
        return max(0, held - self._share)


class NodeBudget:
    """The budgets of a transport, for all of its connections."""

    def __init__(self, upload_bytes_per_s: int = 0, connections: int = 64) -> None:
        """`connections`: how many there may be."""
        self.work = WorkPool(connections)
        self.upload = Upload(upload_bytes_per_s)
        self.answers = UnsentAnswers()
        self.unread = SharedBytes(UNREAD_SHARE_BYTES, UNREAD_POOL_BYTES, UNREAD_BYTES_OF_PEER_MAX)
        self.outbox = SharedBytes(OUTBOX_SHARE_BYTES, OUTBOX_POOL_BYTES, OUTBOX_BYTES_OF_PEER_MAX)
