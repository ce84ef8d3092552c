"""Transfers that peers have handed on and that are not looked at yet (Protocol §11, the stem).

A request is answered as soon as its transfer is in here: so the answer takes as long whether the
transfer is known or not, and who ends the request early, or is lost, cuts short nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from unchained.node.transport.contract import PeerId

QUEUE_BYTES_MAX: Final = 8 << 20
"""Bytes of all that waits: 32 transfers of the greatest length."""
QUEUE_OF_PEER_BYTES_MAX: Final = 1 << 20
"""Bytes of what waits from one peer."""
COUNTED_BYTES_MIN: Final = 16 << 10
"""Bytes that a short transfer counts for: so at most 512 wait, and 64 from one peer."""


class _Line:
    """What waits from one peer, the oldest first."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.counted = 0


class StemQueue:
    """A line for each peer. The first in a line stays in it, and counts, until it is done with."""

    def __init__(self) -> None:
        self._lines: dict[PeerId, _Line] = {}
        self._counted = 0
        self.left_out = 0
        """Transfers for which there was no room, since the start."""

    def __len__(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    def peers(self) -> list[PeerId]:
        """Return those of whom something waits."""
        return list(self._lines)

    def put(self, peer: PeerId, raw: bytes) -> bool:
        """Let a transfer wait, if there is room; return whether it is the only one of its peer.

        Where all room is taken, the longest line gives up its last. Nothing is lost by that: who
        handed a transfer on gossips it when it hears nothing of it.
        """
        counted = _count(raw)
        line = self._lines.get(peer)
        own = counted + (0 if line is None else line.counted)
        if own > QUEUE_OF_PEER_BYTES_MAX or not self._make_room(counted, own):
            self.left_out += 1
            return False
        line = self._lines.setdefault(peer, _Line())
        line.waiting.append(raw)
        line.counted += counted
        self._counted += counted
        return len(line.waiting) == 1

    def _make_room(self, counted: int, own: int) -> bool:
        """Return whether there is room for so many bytes, of one that would then have `own`."""
        while self._counted + counted > QUEUE_BYTES_MAX:
            longest = max(self._lines.values(), key=lambda line: line.counted)
            if longest.counted <= own or len(longest.waiting) == 1:
                return False
            self._drop(longest, longest.waiting.pop())
            self.left_out += 1
        return True

    def first(self, peer: PeerId) -> bytes | None:
        """Return what is to be looked at next of a peer's, None if nothing waits."""
        line = self._lines.get(peer)
        return None if line is None else line.waiting[0]

    def done(self, peer: PeerId) -> None:
        """Let the first of a peer's go, which has been looked at."""
        line = self._lines[peer]
        self._drop(line, line.waiting.popleft())
        if not line.waiting:
            del self._lines[peer]

    def forget_rest(self, peer: PeerId) -> None:
        """Let go of all that waits from a peer but the first."""
        line = self._lines[peer]
        while len(line.waiting) > 1:
            self._drop(line, line.waiting.pop())

    def _drop(self, line: _Line, raw: bytes) -> None:
        line.counted -= _count(raw)
        self._counted -= _count(raw)


def _count(raw: bytes) -> int:
    return max(len(raw), COUNTED_BYTES_MIN)
