"""The forms of table: how a key is made of a prefix and its fields, and how values are read.

Keys are big-endian, so that the order of bytes is the order of numbers. What tables there are,
and what their values mean, stands in `storage.schema`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from unchained.node.primitives.errors import NonCanonicalError
from unchained.storage.errors import StoreCorruptError
from unchained.storage.kv import Getter, Reader, prefix_end

V = TypeVar("V")


class Table(Generic[V]):
    """One table: a prefix byte, keys of one shape, values of one layout.

    `encode` gives a value's bytes. `key_size` counts the key's bytes after the prefix; None
    where they vary.
    """

    __slots__ = ("_decode", "encode", "key_size", "name", "prefix", "start", "stop")

    def __init__(
        self,
        name: str,
        prefix: bytes,
        key_size: int | None,
        encode: Callable[[V], bytes],
        decode: Callable[[bytes], V],
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.key_size = key_size
        self.encode = encode
        self._decode = decode
        self.start = prefix
        self.stop = _end(prefix)

    def decode(self, key: bytes, raw: bytes) -> V:
        """Return the value of a whole key.

        Raises `StoreCorruptError` with the table and the key.
        """
        try:
            return self._decode(raw)
        except (NonCanonicalError, ValueError, struct.error) as error:
            raise self.corrupt(key, f"its value of {len(raw)} bytes is damaged: {error}") from None

    def read(self, reader: Getter, key: bytes) -> V | None:
        """Return the value that a whole key has, or None."""
        raw = reader.get(key)
        return None if raw is None else self.decode(key, raw)

    def check_key(self, key: bytes) -> None:
        """Raise `StoreCorruptError` if the table can have no such key."""
        if self.key_size is not None and len(key) != 1 + self.key_size:
            raise self.corrupt(key, f"a key of {len(key)} bytes, expected {1 + self.key_size}")

    def corrupt(self, key: bytes, what: str) -> StoreCorruptError:
        """Return the error that says what is wrong with a whole key or its value."""
        return StoreCorruptError(
            f"table {self.name}, key {key.hex()}: {what}: "
            "restore a backup, or run `unchained-node db check --repair`"
        )


class IdTable(Table[V]):
    """Keyed by one id of 32 bytes."""

    __slots__ = ()

    def key(self, id_: bytes) -> bytes:
        """Return the key of an id."""
        return self.prefix + id_

    def get(self, reader: Getter, id_: bytes) -> V | None:
        """Return the id's value, or None."""
        return self.read(reader, self.prefix + id_)

    def get_many(self, reader: Getter, ids: Sequence[bytes]) -> list[V | None]:
        """Return the value or None of each id, in the order of `ids`."""
        keys = [self.prefix + id_ for id_ in ids]
        return [
            None if raw is None else self.decode(key, raw)
            for key, raw in zip(keys, reader.get_many(keys), strict=True)
        ]

    def scan(self, reader: Reader) -> Iterator[tuple[bytes, V]]:
        """Return all ids and values, by id."""
        for key, raw in reader.items(self.start, self.stop):
            self.check_key(key)
            yield key[1:], self.decode(key, raw)

    def ids(self, reader: Reader, digits: str) -> Iterator[bytes]:
        """Return the ids that begin with some hex digits, at least one, in order."""
        low, high = (bytes.fromhex(digits.ljust(2 * 32, fill)) for fill in "0f")
        for key in reader.keys(self.key(low), prefix_end(self.key(high))):
            self.check_key(key)
            yield key[1:]


class NumberTable(Table[V]):
    """Keyed by one height or sequence number."""

    __slots__ = ()

    def key(self, number: int) -> bytes:
        """Return the key of a number."""
        return self.prefix + number.to_bytes(8, "big")

    def get(self, reader: Getter, number: int) -> V | None:
        """Return the number's value, or None."""
        return self.read(reader, self.key(number))

    def scan(
        self,
        reader: Reader,
        first: int = 0,
        last: int | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[int, V]]:
        """Return numbers and values from `first` to `last`, both included, in order."""
        stop = self.stop if last is None else self.key(last) + b"\x00"
        for key, raw in reader.items(self.key(first), stop, reverse=reverse):
            self.check_key(key)
            yield int.from_bytes(key[1:], "big"), self.decode(key, raw)


class PairTable(Table[V]):
    """Keyed by two ids of 32 bytes; what shares the first lies together."""

    __slots__ = ()

    def key(self, first: bytes, second: bytes) -> bytes:
        """Return the key of a pair."""
        return self.prefix + first + second

    def get(self, reader: Getter, first: bytes, second: bytes) -> V | None:
        """Return the pair's value, or None."""
        return self.read(reader, self.prefix + first + second)

    def scan(self, reader: Reader, first: bytes, after: bytes = b"") -> Iterator[tuple[bytes, V]]:
        """Return the second ids and values that go with `first`, by id, those up to and with
        the id `after` left out."""
        stem = self.prefix + first
        start = stem + after + b"\x00" if after else stem
        for key, raw in reader.items(start, _end(stem)):
            self.check_key(key)
            yield key[33:], self.decode(key, raw)

    def pairs(self, reader: Reader) -> Iterator[tuple[bytes, bytes]]:
        """Return all pairs of ids, in order."""
        for key in reader.keys(self.start, self.stop):
            self.check_key(key)
            yield key[1:33], key[33:]

    def scan_keys(self, reader: Reader, first: bytes) -> Iterator[bytes]:
        """Return the second ids that go with `first`, by id."""
        stem = self.prefix + first
        for key in reader.keys(stem, _end(stem)):
            self.check_key(key)
            yield key[33:]


class NameTable(Table[V]):
    """Keyed by a name of any bytes."""

    __slots__ = ()

    def key(self, name: bytes) -> bytes:
        """Return the key of a name."""
        return self.prefix + name

    def get(self, reader: Getter, name: bytes) -> V | None:
        """Return the name's value, or None."""
        return self.read(reader, self.prefix + name)

    def scan(self, reader: Reader) -> Iterator[tuple[bytes, V]]:
        """Return all names and values, by name."""
        for key, raw in reader.items(self.start, self.stop):
            yield key[1:], self.decode(key, raw)


class PageTable(Table[bytes]):
    """The pages of a range, keyed by level (u8) and index (u64)."""

    __slots__ = ()

    def key(self, level: int, index: int) -> bytes:
        """Return the key of a page."""
        return self.prefix + level.to_bytes(1, "big") + index.to_bytes(8, "big")

    def get(self, reader: Getter, level: int, index: int) -> bytes | None:
        """Return a page, or None."""
        return self.read(reader, self.key(level, index))

    def scan(self, reader: Reader, level: int) -> Iterator[tuple[int, int, bytes]]:
        """Return level, index and bytes of all pages of a level and above it, by level."""
        for key, raw in reader.items(self.key(level, 0), self.stop):
            self.check_key(key)
            yield key[1], int.from_bytes(key[2:], "big"), self.decode(key, raw)

    def scan_keys(self, reader: Reader) -> Iterator[tuple[int, int]]:
        """Return level and index of all pages, by level."""
        for key in reader.keys(self.start, self.stop):
            self.check_key(key)
            yield key[1], int.from_bytes(key[2:], "big")


def _end(prefix: bytes) -> bytes:
    end = prefix_end(prefix)
    assert end is not None, "no table's prefix is the last byte"
    return end
