"""Answers that wait to be taken by those who asked: one budget for all of them.

An answer lies here whole until its last byte is under way, so who asks for much and takes nothing
would have a node hold as much as it likes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from unchained.node.transport.contract import PeerId
from unchained.node.transport.served import Place

UNSENT_ANSWER_BYTES_MAX: Final = 32 << 20
"""Bytes of all answers that wait. Over it, of whoever has most of them, by where they are and not
by name, that one is given up of which longest nothing was taken."""
UNSENT_ANSWER_BYTES_OF_PEER_MAX: Final = 8 << 20
"""Bytes of one peer's answers that wait; over it, further ones are refused."""
ROOM_WANTED_BYTES: Final = 2 << 20
"""Where less than that is left, of a peer's or of all, none is made: it would be made in vain."""


class UnsentAnswers:
    """What waits, by its place."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[Place, int] = OrderedDict()
        self._of_peer: Counter[PeerId] = Counter()
        self._of_group: Counter[str] = Counter()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    def has_room(self, place: Place) -> bool:
        """Return whether one more answer is worth making."""
        if self._of_peer[place.peer] > UNSENT_ANSWER_BYTES_OF_PEER_MAX - ROOM_WANTED_BYTES:
            return False
        is_full = self._bytes > UNSENT_ANSWER_BYTES_MAX - ROOM_WANTED_BYTES
        return not is_full or self._of_group[place.group] < max(self._of_group.values(), default=0)

    def hold(self, place: Place, size: int) -> bool:
        """Let an answer wait; False if it may not. `leave` must follow."""
        if (
            size > UNSENT_ANSWER_BYTES_MAX
            or self._of_peer[place.peer] + size > UNSENT_ANSWER_BYTES_OF_PEER_MAX
        ):
            return False
        while self._bytes + size > UNSENT_ANSWER_BYTES_MAX:
            most = max(self._of_group.values(), default=0)
            if self._of_group[place.group] + size > most:
                return False
            stalled = next(held for held in self._sizes if self._of_group[held.group] == most)
            stalled.scope.cancel()
            self.leave(stalled)
        self._sizes[place] = size
        self._of_peer[place.peer] += size
        self._of_group[place.group] += size
        self._bytes += size
        return True

    def progressed(self, place: Place) -> None:
        """Note that some of an answer was taken."""
        if place in self._sizes:
            self._sizes.move_to_end(place)

    def leave(self, place: Place) -> None:
        """Note that an answer waits no more; calling it again changes nothing."""
        size = self._sizes.pop(place, 0)
        self._bytes -= size
        self._of_peer[place.peer] -= size
        if not self._of_peer[place.peer]:
            del self._of_peer[place.peer]
        self._of_group[place.group] -= size
        if not self._of_group[place.group]:
            del self._of_group[place.group]
