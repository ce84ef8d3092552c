"""Bounds of numbers, as people are told them."""

from __future__ import annotations


def between(low: float | None, high: float | None) -> str:
    """Return bounds as they stand behind what they are of, nothing where there are none."""
    if high is None:
        return "" if low is None else f"at least {low:.12g}"
    return f"at most {high:.12g}" if low is None else f"{low:.12g} to {high:.12g}"
