"""A store that counts what is read of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unchained.storage.memory import MemoryStore


class CountingStore(MemoryStore):
    """A memory store; `reads` counts the rows asked for, by the prefix of their table."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[bytes] = Counter()

    def get(self, key: bytes) -> bytes | None:
        self.reads[key[:1]] += 1
        return super().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.reads.update(key[:1] for key in keys)
        return super().get_many(keys)
