"""Bounds of numbers, durations and counts, as people are told them."""

from __future__ import annotations


def between(low: float | None, high: float | None) -> str:
    """Return bounds as they stand behind what they are of, nothing where there are none."""
    if high is None:
        return "" if low is None else f"at least {low:.12g}"
    return f"at most {high:.12g}" if low is None else f"{low:.12g} to {high:.12g}"


def duration(ms: int) -> str:
    """Return a duration in its two largest units."""
    if ms < 1000:
        return f"{ms} ms"
    seconds = ms // 1000
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def number_of(count: int, one: str, many: str = "") -> str:
    """Return how many there are of something: `1 coin`, `1,234 coins`; `many` where that is not
    `one` with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
