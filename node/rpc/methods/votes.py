"""Confirmations of what a wallet shows."""

from __future__ import annotations

from collections.abc import Sequence

from unchained.node.chain.queries import ChainQueries


async def votes_at(queries: ChainQueries, heights: Sequence[int | None]) -> list[int]:
    """Return the confirmations of each height, in votes (Protocol §6); 0 for what waits."""
    wanted = {height for height in heights if height is not None}
    found = await queries.confirmations(wanted)
    return [0 if height is None else found.get(height, 0) for height in heights]
