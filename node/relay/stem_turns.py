"""Transfers of others that wait for their turn to be handed on (Protocol §11, the stem)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class StemTurns:
    """At most so many wait at a time. Where all places are taken, who has most of them gives up its
    newest: whoever hands on more than goes out keeps nobody else's from going."""

    def __init__(self, most: int, rng: random.Random) -> None:
        self._most = most
        self._rng = rng
        self._waiting: dict[str, list[trio.CancelScope]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def place(self, group: str) -> Iterator[trio.CancelScope]:
        """Hold a place among those of who sent a transfer; the scope, in which it waits, is
        cancelled where it has to give way, or has to at once."""
        with trio.CancelScope() as scope:
            line = self._waiting.setdefault(group, [])
            line.append(scope)
            if len(self) > self._most:
                most = max(map(len, self._waiting.values()))
                # Of those who have as many by chance: no company of them keeps another's out.
                longest = self._rng.choice([it for it in self._waiting.values() if len(it) == most])
                longest[-1].cancel()
                self._leave(longest[-1])
            try:
                yield scope
            finally:
                self._leave(scope)

    def _leave(self, scope: trio.CancelScope) -> None:
        for group, line in self._waiting.items():
            if scope in line:
                line.remove(scope)
                if not line:
                    del self._waiting[group]
                return
