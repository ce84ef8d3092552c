"""Confirmations of what a wallet shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol


class Confirmations(Protocol):
    """Tells how many votes confirm anchors (Protocol §6)."""

    async def confirmations(self, heights: Collection[int]) -> dict[int, int]:
        """Return, for each of some heights that the main chain has, the votes of its anchor."""


async def votes_at(queries: Confirmations, heights: Sequence[int | None]) -> list[int]:
    """Return the confirmations of each height, in votes (Protocol §6); 0 for what waits."""
    wanted = {height for height in heights if height is not None}
    found = await queries.confirmations(wanted)
    return [0 if height is None else found.get(height, 0) for height in heights]
