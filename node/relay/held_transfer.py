"""A transfer on its way through the stem of this node (Protocol §11)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from unchained.node.primitives.types import Txid, Wid
from unchained.node.transport.contract import PeerId


class HeldTransfer:
    """A transfer under way. `source` is None for one that was made here."""

    def __init__(self, wid: Wid, raw: bytes, source: PeerId | None) -> None:
        self.wid = wid
        self.raw = raw
        self.source = source
        self.txid: Txid | None = None
        self.handed_by = {source}
        """Who had it from elsewhere: what they send may build on it."""
        self.parents: list[HeldTransfer] = []
        """Those under way that it builds on."""
        self.taken_by: PeerId | None = None
        self.handed_to: set[PeerId] = set()
        self.is_in = False
        """Whether the mempool has it."""
        self.public = trio.Event()
        self._turns: set[trio.CancelScope] = set()

    @contextmanager
    def turn(self) -> Iterator[trio.CancelScope]:
        """Wait in here for a turn to hand it on: the scope is cancelled once that is in vain."""
        with trio.CancelScope() as scope:
            self._turns.add(scope)
            if self.public.is_set():
                scope.cancel()
            try:
                yield scope
            finally:
                self._turns.discard(scope)

    def become_public(self) -> None:
        """Note that all know it, and wait for no turn with it any more."""
        self.public.set()
        self.parents = []  # else each keeps the bytes of all that it builds on
        for scope in self._turns:
            scope.cancel()
