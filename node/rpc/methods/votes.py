"""Confirmations of what a wallet shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from unchained.node.primitives.types import CoinId


class Confirmations(Protocol):
    """Tells how many votes confirm anchors (Protocol §6)."""

    async def confirmations(self, last: CoinId, heights: Collection[int]) -> dict[int, int]:
        """Return, for each of some heights at which the chain that ends in the anchor `last` has
        the main chain's anchor, the votes of that."""


async def votes_at(
    queries: Confirmations, last: tuple[int, bytes] | None, heights: Sequence[int | None]
) -> list[int]:
    """Return the confirmations of each height, in votes (Protocol §6); 0 for what waits, and for
    what has been undone since a wallet read it: `last` are height and id of the last anchor that it
    had read by then."""
    wanted = {height for height in heights if height is not None}
    found = {} if last is None else await queries.confirmations(CoinId(last[1]), wanted)
    return [0 if height is None else found.get(height, 0) for height in heights]


def anchors_at(last: tuple[int, bytes] | None, height: int | None) -> int:
    """Return how many anchors a chain has from a height on, as far as a wallet has read it."""
    return 0 if last is None or height is None else max(0, last[0] - height + 1)
