"""What gossip keeps of one peer: bounded in number, or gone with the heartbeat."""

from __future__ import annotations

from collections import OrderedDict

from unchained.node.transport.contract import MessageId
from unchained.node.transport.gossip_limits import (
    ASKED_OF_PEER_MAX,
    IDS_PER_HEARTBEAT_MAX,
    UNWANTED_HEARTBEATS,
    UNWANTED_PER_HEARTBEAT_MAX,
    UNWANTED_SAID_PER_HEARTBEAT_MAX,
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
        self._unwanted_taken = 0
        self._unwanted_said = 0
        self._waste = 0

    def take(self, ids: tuple[MessageId, ...]) -> list[MessageId]:
        """Return as many of some ids as may still be looked at in this heartbeat, each once; the
        rest is waste."""
        taken = self._within(ids, IDS_PER_HEARTBEAT_MAX - self._ids_taken)
        self._ids_taken += len(ids)
        return taken

    def _within(self, ids: tuple[MessageId, ...], room: int) -> list[MessageId]:
        taken = list(dict.fromkeys(ids[: max(0, room)]))
        self._waste += len(ids) - len(taken)
        return taken

    def wastes(self, units: int) -> None:
        """Note what was of no use."""
        self._waste += units

    def take_faults(self) -> int:
        """Return how many times the waste since then makes a fault, and begin anew."""
        faults, self._waste = divmod(self._waste, WASTE_PER_FAULT)
        return faults

    def does_not_want(self, ids: tuple[MessageId, ...]) -> None:
        """Note ids of messages not to be sent to it, as many as may be named in this heartbeat; the
        rest is waste."""
        for mid in self._within(ids, UNWANTED_PER_HEARTBEAT_MAX - self._unwanted_taken):
            self._unwanted.pop(mid, None)
            self._unwanted[mid] = self._beats
        self._unwanted_taken += len(ids)

    def may_be_told(self) -> bool:
        """Return whether it may be told in this heartbeat of one more id that we do not want, and
        count it."""
        self._unwanted_said += 1
        return self._unwanted_said <= UNWANTED_SAID_PER_HEARTBEAT_MAX

    def wants(self, mid: MessageId) -> bool:
        """Return whether a message may be sent to it."""
        return mid not in self._unwanted

    def asks_left(self) -> int:
        """Return how many more ids it may be asked for."""
        return ASKED_OF_PEER_MAX - self.asked

    def heartbeat(self) -> None:
        """Begin to count anew, and forget what is old."""
        self._beats += 1
        self._ids_taken = self._unwanted_taken = self._unwanted_said = 0
        self._waste = max(0, self._waste - WASTE_FORGIVEN_PER_HEARTBEAT)
        oldest = self._beats - UNWANTED_HEARTBEATS
        while self._unwanted and next(iter(self._unwanted.values())) <= oldest:
            self._unwanted.popitem(last=False)
