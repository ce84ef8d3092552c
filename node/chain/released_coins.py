"""Held coins that can be validated now: each sender's in a queue of its own, all served in turn."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import trio

from unchained.node.chain.held_coins import MAX_ORPHANS, HeldCoin
from unchained.node.chain.proof_places import PROOFS_PER_PEER


class Resubmitter(Protocol):
    """Takes held coins in: the intake."""

    async def submit_again(self, held: HeldCoin) -> None:
        """Submit a coin that was held."""


class ReleasedCoins:
    """Queues of coins by sender; as many of each are in hand as of any peer's coins."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[HeldCoin]] = {}
        self._served: set[str] = set()
        self._has_more = trio.Event()
        self._count = 0

    def add(self, held: HeldCoin) -> None:
        """Queue a coin. Where too many wait already, votes are asked for when tips are compared."""
        if self._count < MAX_ORPHANS:
            self._queues.setdefault(held.peer, deque()).append(held)
            self._count += 1
            self._has_more.set()

    def forget(self, peer: str) -> None:
        """Let go of all that a peer has sent."""
        self._count -= len(self._queues.pop(peer, ()))

    async def serve(self, resubmitter: Resubmitter) -> None:
        """Submit again what is queued, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._has_more.wait()
                self._has_more = trio.Event()
                for peer in [peer for peer in self._queues if peer not in self._served]:
                    self._served.add(peer)
                    nursery.start_soon(self._serve_peer, peer, resubmitter)

    async def _serve_peer(self, peer: str, resubmitter: Resubmitter) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(PROOFS_PER_PEER):
                nursery.start_soon(self._work, peer, resubmitter)
        self._served.discard(peer)
        if peer in self._queues:
            self._has_more.set()

    async def _work(self, peer: str, resubmitter: Resubmitter) -> None:
        while queue := self._queues.get(peer):
            held = queue.popleft()
            self._count -= 1
            if not queue:
                del self._queues[peer]
            await resubmitter.submit_again(held)
