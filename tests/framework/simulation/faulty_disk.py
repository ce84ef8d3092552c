"""A disk that outlives the nodes that run on it, and what befalls it.

As LevelDB has it: a batch is there as a whole or not at all; what was synced stays; of what was
not, a power cut leaves some of the first batches; what a compaction writes is as good as synced
once it is done, and not before; a checksum finds what has rotted when it is read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from unchained.storage.errors import StoreCorruptError, StoreError, StoreFullError
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryDisk, MemorySnapshot, MemoryStore

COMPACTION_BYTES: Final = 1 << 14
"""Bytes of batches after which a compaction begins."""
COMPACTION_WRITES: Final = 8
"""Writes that a compaction goes on for."""

Undo = dict[bytes, bytes | None]
"""What the keys of a batch held before it was written."""


class FaultyDisk:
    """What stays when a node is gone. One store is open on it at a time."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.unsynced: list[Undo] = []
        """Of each batch since the last synced one, what it replaced."""
        self.delay_s = 0.0
        """Seconds that each piece of work on the store waits first."""
        self.delays = 0
        """Pieces of work that have waited so."""
        self.damaged: dict[bytes, Callable[[], None]] = {}
        """Keys whose values do not match their checksums any more, and what is called when one is
        read."""
        self.writes = 0
        """Batches written since there is this disk."""
        self._loose_bytes = 0
        """Of batches since the last compaction began."""
        self._compacted_at: int | None = None
        """At which write the compaction under way is done."""
        self._compacting = 0
        """How many of the unsynced batches it writes."""
        self._due: tuple[int, Callable[[], StoreError | None]] | None = None

    def at_write(self, number: int, strike: Callable[[], StoreError | None]) -> None:
        """Call `strike` instead of the `number`th write from now on, 1 for the next; that fails
        with what it returns, as all later ones do, or never took place."""
        self._due = (self.writes + number, strike)

    def strike(self) -> tuple[bool, StoreError | None]:
        """Count a write; return whether it is struck, and how it fails."""
        self.writes += 1
        if self._due is None or self.writes < self._due[0]:
            return False, None
        _, strike = self._due
        self._due = None
        return True, strike()

    def note_written(self, undo: Undo, size: int, *, sync: bool) -> None:
        """Note a batch of so many bytes that has been written."""
        if sync:
            self.unsynced.clear()
            self._compacting = 0
        else:
            self.unsynced.append(undo)
        self._loose_bytes += size
        if self._compacted_at is not None:
            if self.writes >= self._compacted_at:
                del self.unsynced[: self._compacting]
                self.give_up_compaction()
        elif self._loose_bytes >= COMPACTION_BYTES:
            self._compacted_at = self.writes + COMPACTION_WRITES
            self._compacting, self._loose_bytes = len(self.unsynced), 0

    def give_up_compaction(self) -> bool:
        """End a compaction, as a process does that is gone; return whether there was one."""
        was_compacting, self._compacted_at = self._compacted_at is not None, None
        self._compacting = 0
        return was_compacting

    def lose_power(self, rng: random.Random) -> int:
        """Lose some of what was not synced, the last batches; return how many."""
        lost = rng.randint(0, len(self.unsynced))
        for _ in range(lost):
            for key, value in self.unsynced.pop().items():
                if value is None:
                    self.disk.values.pop(key, None)
                else:
                    self.disk.values[key] = value
        self.unsynced.clear()
        return lost

    def rot(self, rng: random.Random, found: Callable[[], None], *, entries: int) -> int:
        """Damage so many entries in a row, anywhere; return how many there were. `found` is called
        when one is read."""
        keys = self.disk.values.keys()
        if not keys:
            return 0
        first = rng.randrange(len(keys))
        hit = [bytes(key) for key in keys[first : first + entries]]
        self.damaged.update(dict.fromkeys(hit, found))
        return len(hit)

    def mend(self) -> None:
        """Let nothing befall it from here on. What has rotted stays so."""
        self.delay_s = 0.0
        self._due = None


class FaultyStore(MemoryStore):
    """A store of one node's life on a disk of that kind."""

    def __init__(self, disk: FaultyDisk) -> None:
        super().__init__(disk.disk)
        self._faulty = disk
        self._failure: StoreError | None = None
        self.is_dead = False
        """Whether the process is gone: what is left of its tasks writes nothing any more."""

    @property
    def has_failed(self) -> bool:
        """Whether a write has failed, as all do that follow."""
        return self._failure is not None

    def admit(self) -> bool:
        """Count a write that is about to be, here or beside the store on the same disk; return
        whether it takes place. Raises what it fails with."""
        if self.is_dead:
            return False
        if self._failure is not None:
            raise self._failure
        struck, failure = self._faulty.strike()
        if struck and failure is not None:
            self._failure = failure
            raise failure
        return not self.is_dead

    def write(self, batch: Batch, *, sync: bool) -> None:
        if self.admit():
            self._write(batch, sync=sync)

    def _write(self, batch: Batch, *, sync: bool) -> None:
        values = self._faulty.disk.values
        undo = {key: values.get(key) for key in batch.changes}
        super().write(batch, sync=sync)
        for key in undo.keys() & self._faulty.damaged.keys():
            del self._faulty.damaged[key]
        self._faulty.note_written(undo, batch.size, sync=sync)

    def _get(self, key: bytes) -> bytes | None:
        check(self._faulty.damaged, key)
        return super()._get(key)

    def _walk(self, *arguments: object) -> Iterator[tuple[bytes, bytes]]:
        return checked(self._faulty.damaged, super()._walk(*arguments))  # type: ignore[arg-type]

    def snapshot(self) -> MemorySnapshot:
        plain = super().snapshot()
        view = plain._view
        assert view is not None
        return FaultySnapshot(self, self._faulty, view)


class FaultySnapshot(MemorySnapshot):
    """A faulty store as it was at one moment."""

    def __init__(self, store: FaultyStore, disk: FaultyDisk, view: object) -> None:
        super().__init__(store, disk.disk, view)  # type: ignore[arg-type]
        self._faulty = disk

    def _get(self, key: bytes) -> bytes | None:
        check(self._faulty.damaged, key)
        return super()._get(key)

    def _walk(self, *arguments: object) -> Iterator[tuple[bytes, bytes]]:
        return checked(self._faulty.damaged, super()._walk(*arguments))  # type: ignore[arg-type]


def check(damaged: Mapping[bytes, Callable[[], None]], key: bytes) -> None:
    """Raise what a store raises for an entry that is damaged."""
    if damaged and key in damaged:
        damaged[key]()
        raise StoreCorruptError(f"entry {key.hex()[:16]} is damaged", path=Path("simulated"))


def checked(
    damaged: Mapping[bytes, Callable[[], None]], entries: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield entries up to the first that is damaged."""
    for key, value in entries:
        check(damaged, key)
        yield key, value


def full() -> StoreFullError:
    """Return what a write raises when there is no room."""
    return StoreFullError("the disk is full: make room and start again", path=Path("simulated"))
