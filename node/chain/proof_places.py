"""Places for the unproven coins of peers: so many of each, however they came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

PROOFS_PER_PEER: Final = 2
"""Unproven coins of one peer in verification at a time (Protocol §11): of those that it gossiped,
gave as votes or with bodies together."""


class ProofPlaces:
    """Who has an unproven coin of a peer in hand holds one of the peer's places."""

    def __init__(self) -> None:
        self._places: dict[str, trio.Semaphore] = {}
        """How many places are free, of those peers that have some taken."""

    @asynccontextmanager
    async def place(self, peer: str) -> AsyncIterator[None]:
        """Hold a place of a peer while the context lasts; who came first has the next."""
        places = self._places.setdefault(peer, trio.Semaphore(PROOFS_PER_PEER))
        try:
            async with places:
                yield
        finally:
            if places.value == PROOFS_PER_PEER and not places.statistics().tasks_waiting:
                self._places.pop(peer, None)
