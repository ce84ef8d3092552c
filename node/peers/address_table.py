"""One table of the address book: buckets of places, each address in one place.

However many addresses somebody has, they get few places: one for each host (IPv4 address, or IPv6
/64), and four for each network (IPv4 /16, or IPv6 /32), whatever ports and identities they name.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterator
from typing import Final, TypeVar

import msgspec

from unchained.node.primitives.types import UInt64
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import address_group, is_public, network_group

T = TypeVar("T")

BUCKET_SIZE: Final = 64
PLACES_OF_NETWORK_MAX: Final = 4
"""Places that the addresses of one IPv4 /16 or IPv6 /32 get in a table."""

OWN: Final = "own"
"""The source of what the operator gave: bootstrap addresses and seeds."""
OWN_BUCKET: Final = -1
"""The bucket of what the operator gave and nobody has reached yet: it has as many places as it
needs, and there are no limits on hosts and networks."""

FIRST_BACKOFF_MS: Final = 30_000
"""After a failure an address is left alone for so long, twice as long after each further one."""
LONGEST_BACKOFF_MS: Final = 24 * 3_600_000
LONGEST_BACKOFF_OF_OWN_MS: Final = 60_000
"""What the operator named may be the only way in: it is never left alone for long."""
JITTER_MAX: Final = 256
"""Parts by which a wait is shortened at random, twice as many being the whole of it: who failed at
one address at one moment, as newcomers do at a full bootstrap node, comes back at others."""


class AddressRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is kept of an address, whose text is the key. Times in ms, 0 for never."""

    source: bytes
    seen: UInt64
    attempted: UInt64
    succeeded: UInt64
    failures: UInt64
    tried: UInt64


class BookEntry:
    """One address in memory. `host` and `network` are what a table limits it by, the latter empty
    where nothing is limited."""

    __slots__ = (
        "attempted", "bucket", "failures", "host", "jitter", "network", "position", "seen",
        "source", "succeeded", "text", "tried",
    )  # fmt: skip

    def __init__(self, text: str, address: Address, source: str, seen: int) -> None:
        self.text = text
        self.source = sys.intern(source)
        self.seen = seen
        self.attempted = self.succeeded = self.failures = self.jitter = 0
        self.tried = False
        self.bucket = OWN_BUCKET
        self.position = 0
        # A home, or a testnet in containers, is one network by nature; it may be one host, too.
        if address.is_name or not is_public(address.ip):
            self.host, self.network = f"{address.host}:{address.port}", ""
        else:
            self.host = address_group(address.ip)
            self.network = sys.intern(network_group(address.ip))

    @property
    def address(self) -> Address:
        """The address, parsed: of many it is never asked."""
        return Address.parse(self.text)

    @property
    def is_name(self) -> bool:
        """Whether the host is a name."""
        return self.text.startswith("/dns")

    @property
    def is_own(self) -> bool:
        """Whether the operator gave it."""
        return self.source == OWN

    def due_ms(self) -> int:
        """Return when the address may be dialled again."""
        if not self.failures:
            return 0
        longest = LONGEST_BACKOFF_OF_OWN_MS if self.is_own else LONGEST_BACKOFF_MS
        wait = min(FIRST_BACKOFF_MS << min(self.failures - 1, 20), longest)
        return self.attempted + wait - wait * self.jitter // (2 * JITTER_MAX)

    def record(self) -> AddressRecord:
        """Return what is kept on disk."""
        return AddressRecord(
            self.source.encode(),
            self.seen,
            self.attempted,
            self.succeeded,
            self.failures,
            int(self.tried),
        )


class AddressTable:
    """Who has which place."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, BookEntry]] = {}
        """Each bucket's entries by position."""
        self._hosts: dict[str, BookEntry] = {}
        self._networks: dict[str, list[BookEntry]] = {}
        self._count = 0
        self._own_count = 0

    def __len__(self) -> int:
        return self._count

    def at(self, bucket: int, position: int) -> BookEntry | None:
        """Return who has a place."""
        return self._buckets.get(bucket, {}).get(position)

    def of_host(self, host: str) -> BookEntry | None:
        """Return the entry of a host."""
        return self._hosts.get(host)

    def crowd_of(self, network: str) -> list[BookEntry]:
        """Return the entries of a network if it may have no more of them, else none."""
        members = self._networks.get(network, ())
        return list(members) if len(members) >= PLACES_OF_NETWORK_MAX else []

    def put(self, entry: BookEntry, bucket: int, position: int) -> None:
        """Give an entry a place that is free."""
        entry.bucket = bucket
        if bucket == OWN_BUCKET:
            self._own_count += 1
            position = self._own_count
        else:
            self._hosts[entry.host] = entry
            if entry.network:
                self._networks.setdefault(entry.network, []).append(entry)
        entry.position = position
        self._buckets.setdefault(bucket, {})[position] = entry
        self._count += 1

    def remove(self, entry: BookEntry) -> None:
        """Take an entry's place back."""
        places = self._buckets[entry.bucket]
        del places[entry.position]
        if not places:
            del self._buckets[entry.bucket]
        if entry.bucket != OWN_BUCKET:
            del self._hosts[entry.host]
            if entry.network:
                members = self._networks[entry.network]
                members.remove(entry)
                if not members:
                    del self._networks[entry.network]
        self._count -= 1

    def shuffled(self, rng: random.Random) -> Iterator[BookEntry]:
        """Yield the entries in random order, one of each bucket before a second of any.

        So who has filled a few buckets to the brim is not met more often than others.
        """
        # A bucket is listed once it is come to: of a full table few are, as a rule.
        buckets: list[Collection[BookEntry]] = [it.values() for it in self._buckets.values()]
        while buckets:
            left: list[Collection[BookEntry]] = []
            while buckets:
                places = _pop_random(buckets, rng)
                bucket = list(places)
                yield _pop_random(bucket, rng)
                if bucket:
                    left.append(bucket)
            buckets = left


def _pop_random(items: list[T], rng: random.Random) -> T:
    at = int(rng.random() * len(items))
    items[at], items[-1] = items[-1], items[at]
    return items.pop()
