"""The memory page that the pool shares with one worker: orders one way, counters the other.

Two regions, in cache lines of their own. Orders are written by the pool only, under a sequence
number: odd while it writes, another even number afterwards. A worker compares that number after
every hash, which costs some 40 ns, and reads the orders only when it changed. A checksum makes
a torn read visible on processors that reorder stores, where the sequence alone would not do.
Everything is a u64 in the machine's own byte order but the target and the header.

The page has no name and belongs to one worker: whatever a broken worker writes there, it can
only spoil its own counters.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import zlib
from typing import Final, NamedTuple

from unchained.node.primitives.coin import NONCE_OFFSET

PAGE_SIZE: Final = 4096
"""Bytes of the page."""

# Words of the pool's region; the orders follow the two.
SEQUENCE: Final = 0
CHECKSUM: Final = 1
ORDERS_OFFSET: Final = 16

# Words of the worker's region.
HASHES: Final = 256
ACTIVITY: Final = 257
TAKEN_AT_NS: Final = 258
TAKEN_HASHES: Final = 259
TAKEN_NONCE: Final = 260
TAKEN_JOB: Final = 261

ACTIVITIES: Final = ("starting", "idle", "mining", "paused")
"""What a worker says that it is doing, by number."""

STARTING, IDLE, MINING, PAUSED = range(4)

_ORDERS: Final = struct.Struct(f"=QQQQQQQ32s{NONCE_OFFSET}sQ")


class Orders(NamedTuple):
    """What a worker has to do. Job number 0: nothing.

    A worker that has the job already goes on where it is, whatever the nonces are.
    """

    paused: int
    cpu_cap: int
    job_number: int
    mem_kib: int
    nonce_first: int
    nonce_count: int
    max_coins: int
    target: bytes
    header_prefix: bytes
    huge_pages: int = 1


NO_JOB: Final = Orders(0, 100, 0, 0, 0, 0, 0, bytes(32), bytes(NONCE_OFFSET))
"""The orders of an idle worker."""


def make_page_file() -> int:
    """Return a descriptor of a zeroed page that no path leads to."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("unchained-miner", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, PAGE_SIZE)
    return fd


class Page:
    """The page behind a descriptor, which may be closed afterwards. `words` are its u64."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, PAGE_SIZE)
        self._bytes = memoryview(self._map)
        self.words = self._bytes.cast("Q")

    def write(self, orders: Orders) -> None:
        """Replace the orders (the pool)."""
        raw = _ORDERS.pack(*orders)
        self.words[SEQUENCE] += 1
        self.words[CHECKSUM] = zlib.crc32(raw)
        self._bytes[ORDERS_OFFSET : ORDERS_OFFSET + _ORDERS.size] = raw
        self.words[SEQUENCE] += 1

    def read(self) -> tuple[int, Orders] | None:
        """Return the sequence number and the orders; None while they are being replaced."""
        sequence = self.words[SEQUENCE]
        checksum = self.words[CHECKSUM]
        raw = bytes(self._bytes[ORDERS_OFFSET : ORDERS_OFFSET + _ORDERS.size])
        if sequence % 2 or self.words[SEQUENCE] != sequence or zlib.crc32(raw) != checksum:
            return None
        return sequence, Orders(*_ORDERS.unpack(raw))

    def close(self) -> None:
        """Unmap the page."""
        self.words.release()
        self._bytes.release()
        self._map.close()
