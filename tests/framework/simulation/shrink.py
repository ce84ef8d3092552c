"""Cuts a list down to what still fails: delta debugging (Zeller and Hildebrandt, 2002)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(
    items: Sequence[T],
    fails: Callable[[Sequence[T]], bool],
    tries: int,
    first: int | None = None,
) -> list[T]:
    """Return some of the items, in order, with which `fails` still holds, asked at most so many
    times: where that suffices, none of those that are left can be left out.

    `first`: how many of the items, from the first on, are likely to suffice.
    """
    left = list(items)
    parts = 2
    # What needs no items at all is found at once.
    for guess in ([], left[:first]):
        if tries > 0 and len(guess) < len(left):
            tries -= 1
            if fails(guess):
                left = guess
                break
    while len(left) > 1 and tries > 0:
        size = -(-len(left) // parts)
        for start in range(0, len(left), size):
            rest = left[:start] + left[start + size :]
            tries -= 1
            if fails(rest):
                left, parts = rest, max(parts - 1, 2)
                break
            if tries <= 0:
                return left
        else:
            if size == 1:
                return left
            parts = min(2 * parts, len(left))
    return left
