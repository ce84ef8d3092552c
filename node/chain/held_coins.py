"""Coins that cannot be judged yet: their parent is unknown, or their time is ahead of the clock."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Final, Protocol

from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId


class Blame(Protocol):
    """Who answers for a held coin: whoever sent it."""

    def __call__(self, error: ProtocolError, /) -> None:
        """Hear of the rule that the coin turns out to break."""


Entry = tuple[Coin, Blame | None]
"""A held coin, and whom to tell."""

MAX_ORPHANS: Final = 4_096
"""Coins held for unknown parents, about 4 MB; the oldest goes first."""

MAX_ORPHANS_OF_PARENT: Final = 1_024
"""Coins held for one unknown parent: more than any epoch of a network has."""

MAX_EARLY: Final = 1_024
"""Coins held for the clock; the one that would have to wait longest goes first."""


class Orphans:
    """Coins by the anchor that they wait for. Nothing of them is proven but their own target."""

    def __init__(self) -> None:
        self._parent_of: OrderedDict[CoinId, CoinId] = OrderedDict()
        self._waiting: dict[CoinId, dict[CoinId, Entry]] = {}

    def __len__(self) -> int:
        return len(self._parent_of)

    def hold(self, coin: Coin, blame: Blame | None = None) -> None:
        """Hold a coin until its parent counts, or until there is no room."""
        siblings = self._waiting.setdefault(coin.parent, {})
        if coin.id in siblings or len(siblings) >= MAX_ORPHANS_OF_PARENT:
            return
        siblings[coin.id] = (coin, blame)
        self._parent_of[coin.id] = coin.parent
        while len(self._parent_of) > MAX_ORPHANS:
            oldest, parent = self._parent_of.popitem(last=False)
            del self._waiting[parent][oldest]
            if not self._waiting[parent]:
                del self._waiting[parent]

    def release(self, parent: CoinId) -> list[Entry]:
        """Return the coins that waited for a parent; they are not held any more."""
        entries = list(self._waiting.pop(parent, {}).values())
        for coin, _ in entries:
            del self._parent_of[coin.id]
        return entries

    def parents(self) -> list[CoinId]:
        """Return the ids of the anchors that are waited for."""
        return list(self._waiting)


class EarlyCoins:
    """Coins whose time is too far ahead, by the time at which they can be judged (ms)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, CoinId, Entry]] = []
        self._ids: set[CoinId] = set()

    def __len__(self) -> int:
        return len(self._heap)

    def hold(self, coin: Coin, due_ms: int, blame: Blame | None = None) -> None:
        """Hold a coin until the clock shows `due_ms`."""
        if coin.id in self._ids:
            return
        heapq.heappush(self._heap, (due_ms, coin.id, (coin, blame)))
        self._ids.add(coin.id)
        if len(self._heap) > MAX_EARLY:
            latest = max(self._heap, key=lambda held: held[:2])
            self._heap.remove(latest)
            heapq.heapify(self._heap)
            self._ids.discard(latest[1])

    def next_due_ms(self) -> int | None:
        """Return when the next coin can be judged."""
        return self._heap[0][0] if self._heap else None

    def release(self, now_ms: int) -> list[Entry]:
        """Return the coins whose time has come."""
        due = []
        while self._heap and self._heap[0][0] <= now_ms:
            _, coin_id, entry = heapq.heappop(self._heap)
            self._ids.discard(coin_id)
            due.append(entry)
        return due
