"""Reads of the store off the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from unchained.node.base.runner import Runner
from unchained.storage.kv import KeyValueStore, Snapshot

T = TypeVar("T")


class StoreReader:
    """Runs reads in worker threads, each against the store as it is at one moment."""

    def __init__(self, store: KeyValueStore, runner: Runner) -> None:
        self._store = store
        self._runner = runner

    async def run(self, work: Callable[[Snapshot], T]) -> T:
        """Return ``work(snapshot)``. Raises a `StoreError`."""

        def read() -> T:
            with self._store.snapshot() as snapshot:
                return work(snapshot)

        return await self._runner.run(read)
