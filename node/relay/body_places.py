"""Places for announced bodies that are being fetched: one that does not come gives way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class BodyPlaces:
    """So many bodies are fetched at a time. Who comes when all places are taken does not wait: the
    fetch that has taken longest ends."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: OrderedDict[trio.CancelScope, None] = OrderedDict()

    @contextmanager
    def place(self) -> Iterator[trio.CancelScope]:
        """Hold a place; the scope, in which the body is fetched, is cancelled where it has to give
        way."""
        if len(self._under_way) >= self._most:
            longest, _ = self._under_way.popitem(last=False)
            longest.cancel()
        with trio.CancelScope() as scope:
            self._under_way[scope] = None
            try:
                yield scope
            finally:
                self._under_way.pop(scope, None)
