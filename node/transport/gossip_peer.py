"""What gossip keeps of one peer: bounded in number, or gone with the heartbeat."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable

from unchained.node.transport.contract import MessageId
from unchained.node.transport.gossip_limits import (
    ASKED_OF_PEER_MAX,
    IDS_PER_HEARTBEAT_MAX,
    UNWANTED_HEARTBEATS,
    UNWANTED_OF_PEER_MAX,
    WASTE_FORGIVEN_PER_HEARTBEAT,
    WASTE_PER_FAULT,
)


class GossipPeer:
    """The ids that a peer sent, was asked for and does not want, and what of it was of no use."""

    def __init__(self, *, outbound: bool) -> None:
        self.outbound = outbound
        self.missed = False
        """Something for it was dropped, so it must be sent ids even if it is in the mesh."""
        self.sends: dict[MessageId, int] = {}
        """How often it was sent a message that is in the cache, on request."""
        self.asked = 0
        """Ids that it was asked for and that have not come."""
        self._unwanted: OrderedDict[MessageId, int] = OrderedDict()
        self._beats = 0
        self._ids_taken = 0
        self._waste = 0

    def take(self, ids: Iterable[MessageId]) -> list[MessageId]:
        """Return as many of some ids as may still be looked at in this heartbeat, each once; the
        rest is waste."""
        sent = tuple(ids)
        room = max(0, IDS_PER_HEARTBEAT_MAX - self._ids_taken)
        taken = list(dict.fromkeys(sent[:room]))
        self._ids_taken += len(sent)
        self._waste += len(sent) - len(taken)
        return taken

    def wastes(self, units: int) -> None:
        """Note what was of no use."""
        self._waste += units

    def take_faults(self) -> int:
        """Return how many times the waste since then makes a fault, and begin anew."""
        faults, self._waste = divmod(self._waste, WASTE_PER_FAULT)
        return faults

    def does_not_want(self, ids: Iterable[MessageId], seen: Container[MessageId]) -> None:
        """Note ids of messages not to be sent to it; `seen` holds the messages known here."""
        for mid in ids:
            self._unwanted.pop(mid, None)
            self._unwanted[mid] = self._beats
            if len(self._unwanted) > UNWANTED_OF_PEER_MAX:
                self._forget_oldest(seen)

    def wants(self, mid: MessageId) -> bool:
        """Return whether a message may be sent to it."""
        return mid not in self._unwanted

    def asks_left(self) -> int:
        """Return how many more ids it may be asked for."""
        return ASKED_OF_PEER_MAX - self.asked

    def heartbeat(self, seen: Container[MessageId]) -> None:
        """Forget what is old; what it did not want and never came is waste."""
        self._beats += 1
        self._ids_taken = 0
        self._waste = max(0, self._waste - WASTE_FORGIVEN_PER_HEARTBEAT)
        while (
            self._unwanted
            and next(iter(self._unwanted.values())) <= self._beats - UNWANTED_HEARTBEATS
        ):
            self._forget_oldest(seen)

    def _forget_oldest(self, seen: Container[MessageId]) -> None:
        mid, _ = self._unwanted.popitem(last=False)
        self._waste += mid not in seen
