"""Addresses of other nodes: bounded, spread over buckets so that nobody can fill them (Bitcoin's
addrman, after Heilman et al., "Eclipse attacks on Bitcoin's peer-to-peer network", 2015).

An address that a peer sent us is *new*; one that we have connected to is *tried*. Which bucket
and which place in it an address may have follows from a secret of the node, the network that the
address is in and, for new ones, the network of the peer that sent it: one source reaches few
buckets, whatever it sends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec
from blake3 import blake3

from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.types import UInt64
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import network_group
from unchained.node.transport.contract import BadAddressError, PeerId
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore

BUCKET_SIZE: Final = 32
NEW_BUCKETS: Final = 256
NEW_BUCKETS_OF_SOURCE: Final = 16
"""New buckets that the addresses sent by one network can get into: 512 addresses."""
TRIED_BUCKETS: Final = 64
TRIED_BUCKETS_OF_NETWORK: Final = 4
"""Tried buckets that the addresses of one network can get into."""
ADDRESSES_MAX: Final = BUCKET_SIZE * (NEW_BUCKETS + TRIED_BUCKETS)

FIRST_BACKOFF_MS: Final = 30_000
"""After a failure an address is left alone for so long, twice as long after each further one."""
LONGEST_BACKOFF_MS: Final = 24 * 3_600_000
LONGEST_BACKOFF_OF_OWN_MS: Final = 60_000
"""What the operator named may be the only way in: it is never left alone for long."""
STALE_AFTER_MS: Final = 30 * 86_400_000
"""An address that nobody saw for so long gives its place up."""
FAILURES_OF_NEW_MAX: Final = 4
"""Failures after which an address that never worked gives its place up."""
FAILURES_OF_TRIED_MAX: Final = 10
ADDRESSES_LOOKED_AT_MAX: Final = 256
"""Addresses of each kind that are considered when one is picked."""

OWN: Final = "own"
"""The source of what the operator gave: bootstrap addresses and seeds."""

_SECRET: Final = b"secret"
_ANCHORS: Final = b"anchors"
_ROW: Final = b"a:"
_MAX_ANCHORS: Final = 8


class AddressRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is kept of an address, whose text is the key. Times in ms, 0 for never."""

    source: bytes
    seen: UInt64
    attempted: UInt64
    succeeded: UInt64
    failures: UInt64
    tried: UInt64


class BookEntry:
    """One address in memory."""

    __slots__ = (
        "address", "attempted", "failures", "place", "seen", "source", "succeeded", "text", "tried"
    )  # fmt: skip

    def __init__(self, text: str, address: Address, source: str, seen: int) -> None:
        self.text = text
        self.address = address
        self.source = source
        self.seen = seen
        self.attempted = self.succeeded = self.failures = 0
        self.tried = False
        self.place: tuple[bool, int, int] = (False, 0, 0)

    def due_ms(self) -> int:
        """Return when the address may be dialled again."""
        if not self.failures:
            return 0
        longest = LONGEST_BACKOFF_OF_OWN_MS if self.source == OWN else LONGEST_BACKOFF_MS
        wait = min(FIRST_BACKOFF_MS << min(self.failures - 1, 20), longest)
        return self.attempted + wait

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


class BookStatistics(msgspec.Struct, frozen=True, gc=False):
    """Addresses held."""

    new: int
    tried: int


class AddressBook:
    """The addresses that a node knows. One owner; changes go to disk through `pending`."""

    def __init__(self, store: KeyValueStore, rng: random.Random) -> None:
        self._rng = rng
        self._entries: dict[str, BookEntry] = {}
        self._places: dict[tuple[bool, int, int], BookEntry] = {}
        self._changed: set[str] = set()
        secret = schema.ADDRESS.get(store, _SECRET)
        self._secret_is_new = secret is None
        self._secret = rng.randbytes(32) if secret is None else secret
        self._tried = 0
        self.anchors: tuple[str, ...] = ()
        """Addresses of the last outbound peers, to be dialled first after a restart."""
        self._anchors_changed = False
        self._load(store)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, text: str) -> bool:
        return text in self._entries

    def add(self, text: str, source: str, now_ms: int) -> bool:
        """Take in an address that `source` (a network group, or `OWN`) sent us.

        Return whether it is held afterwards. Names, and addresses without a peer's id or a port,
        are taken from the operator only or not at all.
        """
        try:
            address = Address.parse(text)
        except BadAddressError:
            return False
        if address.peer is None or address.port == 0 or (address.is_name and source != OWN):
            return False
        text = str(address)
        known = self._entries.get(text)
        if known is not None:
            known.seen = now_ms
            return True
        entry = BookEntry(text, address, source, now_ms)
        place = self._new_place(entry)
        holder = self._places.get(place)
        if holder is not None and not self._gives_way(holder, now_ms):
            return False
        if holder is not None:
            self._drop(holder)
        self._put(entry, place)
        return True

    def attempted(self, text: str, now_ms: int) -> None:
        """Note that an address is being dialled."""
        entry = self._entries.get(text)
        if entry is not None:
            entry.attempted = now_ms
            self._changed.add(text)

    def failed(self, text: str, now_ms: int) -> None:
        """Note that nobody, or somebody else, answered at an address."""
        entry = self._entries.get(text)
        if entry is None:
            return
        entry.attempted = now_ms
        entry.failures += 1
        self._changed.add(text)
        if not entry.tried and entry.source != OWN and entry.failures >= FAILURES_OF_NEW_MAX:
            self._drop(entry)

    def good(self, text: str, now_ms: int) -> None:
        """Note that a node of this network answered at an address: it counts as tried."""
        entry = self._entries.get(text)
        if entry is None:
            return
        entry.seen = entry.attempted = entry.succeeded = now_ms
        entry.failures = 0
        self._changed.add(text)
        if entry.tried:
            return
        place = self._tried_place(entry)
        holder = self._places.get(place)
        if holder is not None:
            if not self._gives_way(holder, now_ms):
                return
            self._drop(holder)
        del self._places[entry.place]
        entry.tried = True
        self._tried += 1
        entry.place = place
        self._places[place] = entry

    def pick(
        self, now_ms: int, acceptable: Callable[[BookEntry], bool], *, only_new: bool = False
    ) -> BookEntry | None:
        """Return a random address to dial, tried and new ones with equal chances, or None.

        Of each kind at most `ADDRESSES_LOOKED_AT_MAX` are looked at: a book full of unfit ones
        costs little.
        """
        kinds: tuple[list[BookEntry], list[BookEntry]] = ([], [])
        for entry in self._entries.values():
            if entry.due_ms() <= now_ms and not (entry.tried and only_new):
                kinds[entry.tried].append(entry)
        for kind in self._rng.sample(kinds, len(kinds)):
            for entry in self._rng.sample(kind, min(len(kind), ADDRESSES_LOOKED_AT_MAX)):
                if acceptable(entry):
                    return entry
        return None

    def get(self, text: str) -> BookEntry | None:
        """Return what is known of an address."""
        return self._entries.get(text)

    def sample(self, most: int, now_ms: int) -> list[str]:
        """Return some addresses to send to others: at most a quarter of those that are any good."""
        good = [
            entry.text
            for entry in self._entries.values()
            if not entry.address.is_name
            and entry.failures < FAILURES_OF_NEW_MAX
            and now_ms - entry.seen < STALE_AFTER_MS
        ]
        count = min(most, max(min(len(good), 16), len(good) // 4))
        return self._rng.sample(good, count)

    def set_anchors(self, texts: Iterable[str]) -> None:
        """Remember the outbound peers of the moment for the next start."""
        anchors = tuple(texts)[:_MAX_ANCHORS]
        if anchors != self.anchors:
            self.anchors = anchors
            self._anchors_changed = True

    def peers(self) -> Collection[PeerId]:
        """Return the ids in the book."""
        return {entry.address.peer for entry in self._entries.values() if entry.address.peer}

    def pending(self, batch: Batch) -> None:
        """Put what changed since the last time into a batch."""
        if self._secret_is_new:
            batch.put(schema.ADDRESS.key(_SECRET), self._secret)
            self._secret_is_new = False
        if self._anchors_changed:
            value = encode([text.encode() for text in self.anchors])
            batch.put(schema.ADDRESS.key(_ANCHORS), value)
            self._anchors_changed = False
        for text in self._changed:
            entry = self._entries.get(text)
            key = schema.ADDRESS.key(_ROW + text.encode())
            if entry is None:
                batch.delete(key)
            else:
                batch.put(key, encode(entry.record()))
        self._changed.clear()

    def statistics(self) -> BookStatistics:
        """Return how many addresses there are."""
        return BookStatistics(len(self._entries) - self._tried, self._tried)

    # Places

    def _new_place(self, entry: BookEntry) -> tuple[bool, int, int]:
        if entry.source == OWN:
            return False, NEW_BUCKETS, self._hash("own", entry.text)
        group = _network_of(entry.address)
        within = self._hash("new", entry.source, group) % NEW_BUCKETS_OF_SOURCE
        bucket = self._hash("new bucket", entry.source, str(within)) % NEW_BUCKETS
        return False, bucket, self._hash("place", str(bucket), entry.text) % BUCKET_SIZE

    def _tried_place(self, entry: BookEntry) -> tuple[bool, int, int]:
        group = _network_of(entry.address)
        within = self._hash("tried", entry.text) % TRIED_BUCKETS_OF_NETWORK
        bucket = self._hash("tried bucket", group, str(within)) % TRIED_BUCKETS
        return True, bucket, self._hash("place", str(bucket), entry.text) % BUCKET_SIZE

    def _hash(self, *parts: str) -> int:
        hasher = blake3(self._secret)
        for part in parts:
            hasher.update(len(part).to_bytes(2, "big") + part.encode())
        return int.from_bytes(hasher.digest()[:8], "big")

    def _gives_way(self, entry: BookEntry, now_ms: int) -> bool:
        if entry.source == OWN:
            return False
        most = FAILURES_OF_TRIED_MAX if entry.tried else FAILURES_OF_NEW_MAX
        return entry.failures >= most or now_ms - entry.seen > STALE_AFTER_MS

    def _put(self, entry: BookEntry, place: tuple[bool, int, int]) -> None:
        entry.place = place
        self._places[place] = entry
        self._entries[entry.text] = entry
        self._changed.add(entry.text)

    def _drop(self, entry: BookEntry) -> None:
        del self._places[entry.place]
        del self._entries[entry.text]
        self._tried -= entry.tried
        self._changed.add(entry.text)

    def _load(self, store: KeyValueStore) -> None:
        for name, raw in schema.ADDRESS.scan(store):
            if name == _ANCHORS:
                self.anchors = tuple(text.decode() for text in _TEXTS.decode(raw))
            if not name.startswith(_ROW):
                continue
            record = _RECORD.decode(raw)
            text = name.removeprefix(_ROW).decode()
            entry = BookEntry(text, Address.parse(text), record.source.decode(), record.seen)
            entry.attempted, entry.succeeded = record.attempted, record.succeeded
            entry.failures, entry.tried = record.failures, bool(record.tried)
            place = self._tried_place(entry) if entry.tried else self._new_place(entry)
            if place not in self._places:
                self._put(entry, place)
                self._tried += entry.tried
        self._changed.clear()


def _network_of(address: Address) -> str:
    return address.host if address.is_name else network_group(address.host)


_RECORD: Final = CanonicalDecoder(AddressRecord, max_size=512)
_TEXTS: Final[CanonicalDecoder[tuple[bytes, ...]]] = CanonicalDecoder(
    tuple[bytes, ...], max_size=4096
)
