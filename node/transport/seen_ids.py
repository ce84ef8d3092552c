"""The ids of gossiped messages (Protocol §11): what they are, and those that were seen, as compact
as they can be kept."""

from __future__ import annotations

from itertools import islice, takewhile
from math import ceil
from typing import Final

from blake3 import blake3

from unchained.node.transport.contract import MessageId

SEEN_KEPT_S: Final = 300
SEEN_MAX: Final = 1 << 16
_FORGOTTEN_AT_ONCE: Final = 1 << 10
"""Ids that make room together: to find the oldest of a dict takes a walk past all that are gone."""


def message_id(topic: str, data: bytes) -> MessageId:
    """Return the hash of topic and data, the same whichever peer sends or signs the message."""
    name = topic.encode()
    hasher = blake3(derive_key_context="unchained v1 gossip")
    hasher.update(len(name).to_bytes(2, "big"))
    hasher.update(name)
    hasher.update(data)
    return MessageId(hasher.digest())


class SeenIds:
    """At most `SEEN_MAX` ids, each for `SEEN_KEPT_S`, oldest first; and of those whose messages
    wait for their verdict, that they were not sent on yet.

    An id takes its own bytes and its place in a dict, 120 bytes altogether: all that are seen in
    one second share the number that says until when.
    """

    __slots__ = ("_until", "_untils", "_waiting")

    def __init__(self) -> None:
        self._untils: dict[MessageId, int] = {}
        self._waiting: set[MessageId] = set()
        self._until = 0

    def __contains__(self, mid: object) -> bool:
        return mid in self._untils

    def __len__(self) -> int:
        return len(self._untils)

    def add(self, mid: MessageId, now: float) -> None:
        """Note an id whose message was not sent on yet, as the youngest."""
        until = ceil(now) + SEEN_KEPT_S
        if until != self._until:
            self._until = until
        self._untils.pop(mid, None)
        self._untils[mid] = self._until
        self._waiting.add(mid)
        if len(self._untils) > SEEN_MAX:
            self._forget_all(list(islice(self._untils, _FORGOTTEN_AT_ONCE)))

    def was_sent_on(self, mid: MessageId) -> bool:
        """Return whether a message is known to have been sent on."""
        return mid in self._untils and mid not in self._waiting

    def sent_on(self, mid: MessageId) -> None:
        """Note that a message is sent on."""
        self._waiting.discard(mid)

    def forget(self, mid: MessageId) -> None:
        """Let an id be seen again."""
        self._untils.pop(mid, None)
        self._waiting.discard(mid)

    def forget_old(self, now: float) -> None:
        """Forget those whose time is over."""
        old = takewhile(lambda item: item[1] <= now, self._untils.items())
        self._forget_all([mid for mid, _ in old])

    def _forget_all(self, mids: list[MessageId]) -> None:
        for mid in mids:
            self.forget(mid)
