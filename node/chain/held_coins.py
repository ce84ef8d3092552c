"""Coins that cannot be validated yet: their parent is unknown, or their time is ahead of the clock.

What is held is bounded in all and for each sender. Where there is no room left, the sender of most
gives way, so that nobody fills the places of others.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from typing import Final, Protocol

import msgspec

from unchained.node.chain.results import ProvenCoin
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId


class Sender(Protocol):
    """Who sent a coin, and answers for it."""

    @property
    def peer(self) -> str:
        """The peer's id: what it has sent shares its places."""

    def blame(self, error: ProtocolError) -> None:
        """Hear of the rule that a coin turns out to break that had to be held."""


class HeldCoin(msgspec.Struct, frozen=True, gc=False):
    """A coin that is held, proven or not, and who sent it: nobody, if it is our own."""

    submitted: Coin | ProvenCoin
    sender: Sender | None

    @property
    def coin(self) -> Coin:
        """The coin itself."""
        held = self.submitted
        return held.coin if isinstance(held, ProvenCoin) else held

    @property
    def peer(self) -> str:
        """The sender's id, empty for our own."""
        return "" if self.sender is None else self.sender.peer


MAX_ORPHANS: Final = 4_096
"""Coins held for unknown parents, about 4 MB."""

MAX_ORPHANS_OF_PEER: Final = 1_024
"""Coins of one peer held for unknown parents; the oldest of them goes first."""

MAX_ORPHANS_OF_PARENT: Final = 1_024
"""Coins held for one unknown parent: more than any epoch of a network has."""

MAX_EARLY: Final = 1_024
"""Coins held for the clock."""

MAX_EARLY_OF_PEER: Final = 256
"""Coins of one peer held for the clock."""


class Orphans:
    """Coins by the anchor that they wait for. Nothing of them is proven but their own target."""

    def __init__(self) -> None:
        self._waiting: dict[CoinId, dict[CoinId, HeldCoin]] = {}
        self._of_peer: dict[str, OrderedDict[CoinId, CoinId]] = {}
        """The parent of each coin, by sender, in order of arrival."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def hold(self, held: HeldCoin) -> None:
        """Hold a coin until its parent counts, or until there is no room."""
        coin = held.coin
        siblings = self._waiting.setdefault(coin.parent, {})
        if coin.id in siblings:
            return
        siblings[coin.id] = held
        own = self._of_peer.setdefault(held.peer, OrderedDict())
        own[coin.id] = coin.parent
        self._count += 1
        if len(siblings) > MAX_ORPHANS_OF_PARENT:
            most = Counter(other.peer for other in siblings.values()).most_common(1)[0][0]
            self._drop(next(other for other in siblings.values() if other.peer == most))
        elif len(own) > MAX_ORPHANS_OF_PEER:
            self._drop_oldest(held.peer)
        elif self._count > MAX_ORPHANS:
            self._drop_oldest(max(self._of_peer, key=lambda peer: len(self._of_peer[peer])))

    def release(self, parent: CoinId) -> list[HeldCoin]:
        """Return the coins that waited for a parent; they are not held any more."""
        entries = list(self._waiting.get(parent, {}).values())
        for held in entries:
            self._drop(held)
        return entries

    def forget(self, peer: str) -> None:
        """Let go of all that a peer has sent."""
        while peer in self._of_peer:
            self._drop_oldest(peer)

    def parents(self) -> list[CoinId]:
        """Return the ids of the anchors that are waited for."""
        return list(self._waiting)

    def _drop_oldest(self, peer: str) -> None:
        coin_id, parent = next(iter(self._of_peer[peer].items()))
        self._drop(self._waiting[parent][coin_id])

    def _drop(self, held: HeldCoin) -> None:
        coin = held.coin
        siblings, own = self._waiting[coin.parent], self._of_peer[held.peer]
        del siblings[coin.id], own[coin.id]
        if not siblings:
            del self._waiting[coin.parent]
        if not own:
            del self._of_peer[held.peer]
        self._count -= 1


class EarlyCoins:
    """Proven coins whose time is too far ahead, by the time at which they can be validated (ms)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, CoinId]] = []
        self._held: dict[CoinId, HeldCoin] = {}
        self._of_peer: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, coin_id: CoinId) -> bool:
        return coin_id in self._held

    def has_room(self, peer: str) -> bool:
        """Return whether one more coin of a peer could be held."""
        return self._of_peer[peer] < MAX_EARLY_OF_PEER

    def hold(self, held: HeldCoin, due_ms: int) -> None:
        """Hold a coin until the clock shows `due_ms`, or until there is no room."""
        if held.coin.id in self._held or not self.has_room(held.peer):
            return
        self._held[held.coin.id] = held
        self._of_peer[held.peer] += 1
        heapq.heappush(self._heap, (due_ms, held.coin.id))
        if len(self._held) > MAX_EARLY:
            most = self._of_peer.most_common(1)[0][0]
            latest = max(entry for entry in self._heap if self._peer_of(entry[1]) == most)
            self._drop(latest[1])

    def next_due_ms(self) -> int | None:
        """Return when the next coin can be validated."""
        while self._heap and self._heap[0][1] not in self._held:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def release(self, now_ms: int) -> list[HeldCoin]:
        """Return the coins whose time has come; they are not held any more."""
        due = []
        while (next_ms := self.next_due_ms()) is not None and next_ms <= now_ms:
            _, coin_id = heapq.heappop(self._heap)
            due.append(self._drop(coin_id))
        return due

    def forget(self, peer: str) -> None:
        """Let go of all that a peer has sent."""
        for coin_id in [coin_id for coin_id, held in self._held.items() if held.peer == peer]:
            self._drop(coin_id)
        # Nobody fills the heap with what is held no more.
        self._heap = [entry for entry in self._heap if entry[1] in self._held]
        heapq.heapify(self._heap)

    def _peer_of(self, coin_id: CoinId) -> str | None:
        held = self._held.get(coin_id)
        return None if held is None else held.peer

    def _drop(self, coin_id: CoinId) -> HeldCoin:
        held = self._held.pop(coin_id)
        self._of_peer[held.peer] -= 1
        if not self._of_peer[held.peer]:
            del self._of_peer[held.peer]
        return held
