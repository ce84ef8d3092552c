"""Addresses of other nodes: bounded, and spread so that nobody can fill them (Bitcoin's addrman,
after Heilman et al., "Eclipse attacks on Bitcoin's peer-to-peer network", 2015).

An address that a peer sent us is *new*; one that we have connected to is *tried*. Which bucket
and which place in it an address may have follows from a secret of the node, the network group that
the address is in and, for new ones, that of the peer that sent it: one source reaches few buckets,
whatever it sends. In each table a host has one place and a network four (`address_table`), and a
host that is among the tried has none among the new.

A tried place is given away only when who has it was tested and did not answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

import msgspec
from blake3 import blake3

from unchained.node.peers.address_table import (
    BUCKET_SIZE,
    JITTER_MAX,
    OWN,
    OWN_BUCKET,
    AddressRecord,
    AddressTable,
    BookEntry,
)
from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.transport.address import Address
from unchained.node.transport.contract import BadAddressError
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore

NEW_BUCKETS: Final = 1024
NEW_BUCKETS_OF_SOURCE: Final = 64
"""New buckets that the addresses sent by one network can get into: 4,096 addresses."""
TRIED_BUCKETS: Final = 256
TRIED_BUCKETS_OF_NETWORK: Final = 8
"""Tried buckets that the addresses of one network can get into."""
ADDRESSES_MAX: Final = BUCKET_SIZE * (NEW_BUCKETS + TRIED_BUCKETS)

STALE_AFTER_MS: Final = 30 * 86_400_000
"""A new address that nobody told of for so long gives its place up; none is told to others."""
FAILURES_OF_NEW_MAX: Final = 4
"""Failures after which an address that never worked gives its place up."""
FAILURES_OF_TRIED_MAX: Final = 10
ADDRESSES_LOOKED_AT_MAX: Final = 256
"""Addresses of each kind that are considered when one is picked."""
YIELDS_TO_RIVAL: Final = 0.5
"""Chance that a new address that was never dialled yields its host's or its network's place to
another. So who was first to name false addresses keeps nobody out for good: each gets in as often
as it is named."""
RIVALS_MAX: Final = 10
"""Tried addresses whose places others wait for."""
TRUSTED_AFTER_SUCCESS_MS: Final = 4 * 3_600_000
"""A tried address that answered since then needs no test."""
RIVALRY_MS: Final = 40 * 60_000
"""Time after which a place that could not be tested stays with who has it."""
ANCHORS_MAX: Final = 8

_SECRET: Final = b"secret"
_ANCHORS: Final = b"anchors"
_ROW: Final = b"a:"


class BookStatistics(msgspec.Struct, frozen=True, gc=False):
    """Addresses held."""

    new: int
    tried: int


class AddressBook:
    """The addresses that a node knows. One owner; changes go to disk through `pending`."""

    def __init__(
        self, store: KeyValueStore, rng: random.Random, groups: NetworkGroups | None = None
    ) -> None:
        self._rng = rng
        self._groups = groups or NetworkGroups()
        self._entries: dict[str, BookEntry] = {}
        self._new, self._tried = AddressTable(), AddressTable()
        self._waiting: dict[str, tuple[str, int]] = {}
        """Addresses that answered but whose tried places others have: whose, and since when."""
        self._changed: set[str] = set()
        secret = schema.ADDRESS.get(store, _SECRET)
        self._secret_is_new = secret is None
        self._secret = rng.randbytes(32) if secret is None else secret
        self.anchors: tuple[str, ...] = ()
        """Addresses of the last good outbound peers, to be dialled first after a restart."""
        self._last_anchors: tuple[str, ...] = ()
        """Those of the last time when there were enough."""
        self._anchors_changed = False
        self.added = 0
        """Addresses that have become known since the start."""
        self.left_out = 0
        """Addresses of the store for which there was no place any more."""
        self._unreadable: list[bytes] = []
        """Rows of the store to be deleted."""
        self.unreadable = 0
        """Rows of the store that could not be read: they are dropped."""
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
            if source == OWN and not known.is_own:
                self._adopt(known)
            return True
        entry = BookEntry(text, address, source, now_ms)
        if not self._find_new_place(entry, now_ms):
            return False
        self._entries[text] = entry
        self._changed.add(text)
        self.added += 1
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
        entry.jitter = self._rng.randrange(JITTER_MAX)
        self._changed.add(text)
        if entry.tried:
            heirs = self._end_waiting_for(entry)
            if heirs:
                self._replace(entry, heirs, now_ms)
        elif not entry.is_own and entry.failures >= FAILURES_OF_NEW_MAX:
            self._drop(entry)

    def good(self, text: str, now_ms: int) -> None:
        """Note that a node of this network answered at an address: it counts as tried, unless
        another has its place and is to be tested first."""
        entry = self._entries.get(text)
        if entry is None:
            return
        entry.seen = entry.attempted = entry.succeeded = now_ms
        entry.failures = 0
        self._changed.add(text)
        if entry.tried:
            self._end_waiting_for(entry)
        else:
            self._promote(entry, now_ms)

    def to_test(self, now_ms: int, acceptable: Callable[[BookEntry], bool]) -> BookEntry | None:
        """Return a tried address to dial because another one waits for its place, or None."""
        for heir, (text, since_ms) in tuple(self._waiting.items()):
            rival = self._entries[text]
            is_sure = now_ms - rival.succeeded < TRUSTED_AFTER_SUCCESS_MS
            if is_sure or now_ms - since_ms > RIVALRY_MS:
                del self._waiting[heir]
            elif acceptable(rival):
                return rival
        return None

    def pick(
        self,
        now_ms: int,
        acceptable: Callable[[BookEntry], bool],
        *,
        only_new: bool = False,
        only_tried: bool = False,
    ) -> BookEntry | None:
        """Return a random address to dial, tried and new ones with equal chances, or None.

        Of each kind at most `ADDRESSES_LOOKED_AT_MAX` are looked at: a book full of unfit ones
        costs little.
        """
        tables = [self._tried] * (not only_new) + [self._new] * (not only_tried)
        for table in self._rng.sample(tables, len(tables)):
            for entry in islice(table.shuffled(self._rng), ADDRESSES_LOOKED_AT_MAX):
                if entry.due_ms() <= now_ms and acceptable(entry):
                    return entry
        return None

    def get(self, text: str) -> BookEntry | None:
        """Return what is known of an address."""
        return self._entries.get(text)

    def sample(self, most: int, now_ms: int) -> list[str]:
        """Return some addresses to send to others, of those that are any good: at most a quarter
        of what is known."""
        count = min(most, max(min(len(self), 16), len(self) // 4))
        entries = list(self._entries.values())
        found: list[str] = []
        for entry in self._rng.sample(entries, min(len(entries), 64 + 4 * count)):
            is_good = entry.failures < FAILURES_OF_NEW_MAX
            is_fresh = now_ms - entry.seen < STALE_AFTER_MS
            if is_good and is_fresh and not entry.is_name and len(found) < count:
                found.append(entry.text)
        return found

    def note_outbound(self, texts: Iterable[str], enough: int) -> None:
        """Remember the addresses of the outbound peers of the moment for the next start.

        Until there are `enough` of them, those of the last time when there were stay behind them.
        """
        present = tuple(texts)[:ANCHORS_MAX]
        if len(present) >= min(enough, ANCHORS_MAX):
            self._last_anchors = present
        anchors = tuple(dict.fromkeys((*present, *self._last_anchors)))[:ANCHORS_MAX]
        if anchors != self.anchors:
            self.anchors = anchors
            self._anchors_changed = True

    def pending(self, batch: Batch) -> None:
        """Put what changed since the last time into a batch."""
        for name in self._unreadable:
            batch.delete(schema.ADDRESS.key(name))
        self._unreadable.clear()
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
        return BookStatistics(len(self._new), len(self._tried))

    # Places

    def _find_new_place(self, entry: BookEntry, now_ms: int) -> bool:
        """Give an address a place among the new if it may have one; return whether it may."""
        if entry.is_own:
            self._new.put(entry, OWN_BUCKET, 0)
            return True
        tried = self._tried.of_host(entry.host)
        if tried is not None and not tried.failures:
            return False
        bucket, position = self._new_place(entry)
        leaving: list[BookEntry] = []
        holder = self._new.at(bucket, position)
        if holder is not None:
            if not _gives_way(holder, now_ms):
                return False
            leaving.append(holder)
        twin = self._new.of_host(entry.host)
        if twin is not None and twin not in leaving:
            if not self._yields(twin):
                return False
            leaving.append(twin)
        crowd = self._new.crowd_of(entry.network)
        if crowd and not any(one in leaving for one in crowd):
            most = max(one.failures for one in crowd)
            rival = self._rng.choice([one for one in crowd if one.failures == most])
            if not self._yields(rival):
                return False
            leaving.append(rival)
        for one in leaving:
            self._drop(one)
        self._new.put(entry, bucket, position)
        return True

    def _yields(self, rival: BookEntry) -> bool:
        return bool(rival.failures) or self._rng.random() < YIELDS_TO_RIVAL

    def _promote(self, entry: BookEntry, now_ms: int) -> None:
        """Give an address that answered its tried place, or let it wait for that."""
        bucket, position = self._tried_place(entry)
        crowd = self._tried.crowd_of(entry.network)
        while rival := (
            self._tried.at(bucket, position)
            or self._tried.of_host(entry.host)
            or min(crowd, key=lambda it: it.succeeded, default=None)
        ):
            if not _gives_way(rival, now_ms):
                if len(self._waiting) < RIVALS_MAX:
                    self._waiting.setdefault(entry.text, (rival.text, now_ms))
                return
            self._drop(rival)
            crowd = self._tried.crowd_of(entry.network)
        self._new.remove(entry)
        self._waiting.pop(entry.text, None)
        self._tried.put(entry, bucket, position)
        entry.tried = True

    def _replace(self, entry: BookEntry, heirs: list[BookEntry], now_ms: int) -> None:
        """Let others have a tried place that was tested in vain: who had it is new again, or gone
        if there is no place for it."""
        self._tried.remove(entry)
        entry.tried = False
        for heir in heirs:
            self._promote(heir, now_ms)
        if not self._find_new_place(entry, now_ms):
            del self._entries[entry.text]

    def _end_waiting_for(self, rival: BookEntry) -> list[BookEntry]:
        """Let nobody wait for a place any more; return who did."""
        heirs = [heir for heir, (text, _) in self._waiting.items() if text == rival.text]
        for heir in heirs:
            del self._waiting[heir]
        return [self._entries[heir] for heir in heirs]

    def _adopt(self, entry: BookEntry) -> None:
        """Note that the operator has given an address that was known."""
        entry.source = OWN
        self._changed.add(entry.text)
        if not entry.tried:
            self._new.remove(entry)
            self._new.put(entry, OWN_BUCKET, 0)

    def _new_place(self, entry: BookEntry) -> tuple[int, int]:
        within = self._hash("new", entry.source, self._group_of(entry)) % NEW_BUCKETS_OF_SOURCE
        bucket = self._hash("new bucket", entry.source, str(within)) % NEW_BUCKETS
        return bucket, self._hash("place", str(bucket), entry.text) % BUCKET_SIZE

    def _tried_place(self, entry: BookEntry) -> tuple[int, int]:
        within = self._hash("tried", entry.text) % TRIED_BUCKETS_OF_NETWORK
        bucket = self._hash("tried bucket", self._group_of(entry), str(within)) % TRIED_BUCKETS
        return bucket, self._hash("tried place", str(bucket), entry.text) % BUCKET_SIZE

    def _group_of(self, entry: BookEntry) -> str:
        address = entry.address
        return address.host if entry.is_name else self._groups.of(address.ip)

    def _hash(self, *parts: str) -> int:
        hasher = blake3(self._secret)
        for part in parts:
            hasher.update(len(part).to_bytes(2, "big") + part.encode())
        return int.from_bytes(hasher.digest()[:8], "big")

    def _drop(self, entry: BookEntry) -> None:
        if entry.tried:
            self._tried.remove(entry)
            self._end_waiting_for(entry)
        else:
            self._new.remove(entry)
            self._waiting.pop(entry.text, None)
        del self._entries[entry.text]
        self._changed.add(entry.text)

    def _load(self, store: KeyValueStore) -> None:
        for name, raw in schema.ADDRESS.scan(store):
            try:
                if name == _ANCHORS:
                    texts = _TEXTS.decode(raw)
                    self.anchors = tuple(str(_whole_address(text)) for text in texts)
                    self._last_anchors = self.anchors
                if not name.startswith(_ROW):
                    continue
                entry, is_tried = _read_row(name.removeprefix(_ROW), raw)
                if entry.failures:
                    entry.jitter = self._rng.randrange(JITTER_MAX)
            except (NonCanonicalError, BadAddressError, UnicodeDecodeError):
                self._unreadable.append(name)
                continue
            if self._load_one(entry, is_tried=is_tried):
                self._entries[entry.text] = entry
            else:
                self.left_out += 1
                self._changed.add(entry.text)
        self.unreadable = len(self._unreadable)

    def _load_one(self, entry: BookEntry, *, is_tried: bool) -> bool:
        """Give an address of the store its place, if that is free; return whether it is."""
        if entry.is_own and not is_tried:
            self._new.put(entry, OWN_BUCKET, 0)
            return True
        table = self._tried if is_tried else self._new
        bucket, position = self._tried_place(entry) if is_tried else self._new_place(entry)
        if (
            table.at(bucket, position) is not None
            or table.of_host(entry.host) is not None
            or table.crowd_of(entry.network)
        ):
            return False
        entry.tried = is_tried
        table.put(entry, bucket, position)
        return True


def _read_row(name: bytes, raw: bytes) -> tuple[BookEntry, bool]:
    """Return an address of the store, and whether it was tried. Raises `NonCanonicalError`,
    `BadAddressError` or `UnicodeDecodeError` for what the book never wrote."""
    record, address = _RECORD.decode(raw), _whole_address(name)
    entry = BookEntry(str(address), address, record.source.decode(), record.seen)
    entry.attempted, entry.succeeded = record.attempted, record.succeeded
    entry.failures = record.failures
    return entry, bool(record.tried)


def _whole_address(raw: bytes) -> Address:
    address = Address.parse(raw.decode())
    if address.peer is None or str(address).encode() != raw:
        raise NonCanonicalError(expected="a whole address in canonical form", actual=repr(raw))
    return address


def _gives_way(entry: BookEntry, now_ms: int) -> bool:
    """Return whether an address loses its place to whoever asks for it."""
    if entry.is_own:
        return False
    if entry.tried:
        # That nobody tells of it says nothing: it is tested first.
        return entry.failures >= FAILURES_OF_TRIED_MAX
    return entry.failures >= FAILURES_OF_NEW_MAX or now_ms - entry.seen > STALE_AFTER_MS


_RECORD: Final = CanonicalDecoder(AddressRecord, max_size=512)
_TEXTS: Final[CanonicalDecoder[tuple[bytes, ...]]] = CanonicalDecoder(
    tuple[bytes, ...], max_size=4096
)
