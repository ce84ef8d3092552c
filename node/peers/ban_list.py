"""Bans of growing length, kept in the store; what they cover is `address_groups.host_group`."""

from __future__ import annotations

from itertools import chain
from typing import Final

import msgspec

from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.types import UInt64
from unchained.node.transport.address_groups import network_of_host
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore

FIRST_BAN_MS: Final = 10 * 60_000
"""Length of a first ban; each further one is `BAN_GROWTH` times as long."""
BAN_GROWTH: Final = 4
LONGEST_BAN_MS: Final = 14 * 86_400_000
FORGIVEN_AFTER_MS: Final = 30 * 86_400_000
"""After a ban has been over for so long, the next one is a first one again."""
BANS_MAX: Final = 8_192
"""Bans remembered; of the network that has most, the one that ends first goes first: who has many
addresses or identities of one network, and gets them all banned, frees nobody else by that."""
BAN_REASON_MAX: Final = 200


class BanRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A ban on disk: when it began and ends, ms; how many there have been; why, in ASCII."""

    since: UInt64
    until: UInt64
    count: UInt64
    reason: bytes


class Ban(msgspec.Struct, frozen=True, gc=False):
    """A ban, for display. Times in ms since the Unix epoch."""

    group: str
    since: int
    until: int
    count: int
    reason: str


class BanList:
    """All bans. One owner; reads never touch the store after opening, writes go to `pending`."""

    def __init__(self, store: KeyValueStore) -> None:
        self._records: dict[str, BanRecord] = {}
        self._networks: dict[str, set[str]] = {}
        """The groups that are banned of each network."""
        self._changed: set[str] = set()
        self._unreadable: list[bytes] = []
        """Rows of the store to be deleted."""
        for name, raw in schema.BAN.scan(store):
            try:
                group, record = name.decode(), _RECORD.decode(raw)
                record.reason.decode()
            except (NonCanonicalError, UnicodeDecodeError):
                self._unreadable.append(name)
            else:
                self._put(group, record)
        self.unreadable = len(self._unreadable)
        """Rows of the store that could not be read: they are dropped."""

    def is_banned(self, group: str, now_ms: int) -> bool:
        """Return whether a group is banned at a time."""
        record = self._records.get(group)
        return record is not None and now_ms < record.until

    def add(self, group: str, reason: str, now_ms: int, length_ms: int | None = None) -> Ban:
        """Ban a group, for longer each time, or for `length_ms`."""
        before = self._records.get(group)
        count = 1
        if before is not None and now_ms < before.until + FORGIVEN_AFTER_MS:
            count = before.count + 1
        if length_ms is None:
            length_ms = min(FIRST_BAN_MS * BAN_GROWTH ** min(count - 1, 10), LONGEST_BAN_MS)
        text = reason.encode("ascii", "replace")[:BAN_REASON_MAX]
        shown = self._put(group, BanRecord(now_ms, now_ms + length_ms, count, text))
        self._changed.add(group)
        if len(self._records) > BANS_MAX:
            most = max(map(len, self._networks.values()))
            crowds = (names for names in self._networks.values() if len(names) == most)
            first = min(chain(*crowds), key=lambda name: (self._records[name].until, name))
            self._remove(first)
            self._changed.add(first)
        return shown

    def lift(self, group: str) -> bool:
        """End a ban and forget it; return whether there was one."""
        self._changed.add(group)
        return self._remove(group)

    def active(self, now_ms: int) -> list[Ban]:
        """Return the bans of the moment, the last to end first."""
        records = self._records.items()
        bans = [_shown(group, record) for group, record in records if now_ms < record.until]
        return sorted(bans, key=lambda ban: -ban.until)

    def pending(self, batch: Batch) -> None:
        """Put what changed since the last time into a batch."""
        for name in self._unreadable:
            batch.delete(schema.BAN.key(name))
        self._unreadable.clear()
        for group in self._changed:
            key = schema.BAN.key(group.encode())
            record = self._records.get(group)
            if record is None:
                batch.delete(key)
            else:
                batch.put(key, encode(record))
        self._changed.clear()

    def _put(self, group: str, record: BanRecord) -> Ban:
        self._records[group] = record
        self._networks.setdefault(network_of_host(group), set()).add(group)
        return _shown(group, record)

    def _remove(self, group: str) -> bool:
        if self._records.pop(group, None) is None:
            return False
        network = network_of_host(group)
        members = self._networks[network]
        members.remove(group)
        if not members:
            del self._networks[network]
        return True


def _shown(group: str, record: BanRecord) -> Ban:
    return Ban(group, record.since, record.until, record.count, record.reason.decode())


_RECORD: Final = CanonicalDecoder(BanRecord, max_size=BAN_REASON_MAX + 64)
