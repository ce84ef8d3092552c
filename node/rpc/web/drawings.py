"""The geometry of what pages draw, as attributes of SVG: no styles, so that a strict policy holds.

All return plain strings and numbers; colours are those of the style sheet's classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

RING_RADIUS: Final = 84.0
RING_LAPS_MAX: Final = 3
LAP_STEP: Final = 15.0
GAP: Final = 0.16
"""The share of a place on the ring that stays empty beside its coin."""


BARS_MIN: Final = 8
"""For how many bars there is room at least: a few are not drawn as wide as the box."""


class RingPiece(msgspec.Struct, frozen=True):
    """A coin on the ring of its epoch: a path, how wide it is drawn, and what it is."""

    id: str
    path: str
    width: float
    kind: str


class Plot(msgspec.Struct, frozen=True):
    """A curve in a box: the line, the area under it, and marks on both axes."""

    width: int
    height: int
    line: str
    area: str
    low: float
    high: float
    first: float
    last: float


class Bar(msgspec.Struct, frozen=True):
    """A bar of a histogram, and what it should be."""

    x: float
    y: float
    width: float
    height: float
    count: int
    label: str


class Histogram(msgspec.Struct, frozen=True):
    """Bars, and the curve that they should follow."""

    width: int
    height: int
    bars: list[Bar]
    expected: str


def points(entries: Sequence[Mapping[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    """Return two members of each entry as a point."""
    return [(float(entry[x]), float(entry[y])) for entry in entries]


def over_time(times: Sequence[int], values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return the values that there are as points, by time in minutes from the first."""
    return [
        ((time - times[0]) / 60_000, value)
        for time, value in zip(times, values, strict=True)
        if value is not None
    ]


def ring(coins: Sequence[Mapping[str, Any]], places: int) -> list[RingPiece]:
    """Return a piece for each coin of an epoch that has `places` coins on average; the ring goes
    round again, further out, where there are more."""
    pieces = []
    for number, coin in enumerate(coins[: places * RING_LAPS_MAX]):
        lap, place = divmod(number, places)
        radius = RING_RADIUS - lap * LAP_STEP
        begin = (place + GAP / 2) / places * 2 * math.pi
        end = (place + 1 - GAP / 2) / places * 2 * math.pi
        width = 4 + min(8.0, 2.2 * math.log2(max(1.0, coin["luck"])))
        pieces.append(
            RingPiece(coin["id"], _arc(radius, begin, end), round(width, 1), coin["kind"])
        )
    return pieces


def _arc(radius: float, begin: float, end: float) -> str:
    x1, y1 = 100 + radius * math.sin(begin), 100 - radius * math.cos(begin)
    x2, y2 = 100 + radius * math.sin(end), 100 - radius * math.cos(end)
    large = int(end - begin > math.pi)
    return f"M{x1:.2f} {y1:.2f}A{radius:g} {radius:g} 0 {large} 1 {x2:.2f} {y2:.2f}"


def plot(
    places: Sequence[tuple[float, float]], width: int = 640, height: int = 160, *, zero: bool = True
) -> Plot | None:
    """Return the curve through (x, y) places, None of fewer than two. zero: y begins at 0."""
    if len(places) < 2:
        return None
    xs, ys = [x for x, _ in places], [y for _, y in places]
    left, right = min(xs), max(xs)
    bottom, top = (0.0 if zero else min(ys)), max(ys)
    across, up = (right - left) or 1.0, (top - bottom) or 1.0
    placed = [
        (
            round((x - left) / across * width, 1),
            round(height - 4 - (y - bottom) / up * (height - 12), 1),
        )
        for x, y in places
    ]
    line = "M" + "L".join(f"{x:g} {y:g}" for x, y in placed)
    area = f"{line}L{placed[-1][0]:g} {height}L{placed[0][0]:g} {height}Z"
    return Plot(width, height, line, area, bottom, top, left, right)


def steps(sizes: Sequence[tuple[float, float]], width: int = 640, height: int = 160) -> Plot | None:
    """Return an area of steps: each is so wide and so high; None of none."""
    corners: list[tuple[float, float]] = []
    x = 0.0
    for wide, high in sizes:
        corners += [(x, high), (x + wide, high)]
        x += wide
    return plot(corners, width, height)


def bars(counts: Sequence[Sequence[int]], width: int = 640, height: int = 160) -> list[Bar]:
    """Return a bar for each (number, how often it came), side by side."""
    step = width / max(BARS_MIN, len(counts))
    top = max((count for _, count in counts), default=0) or 1
    return [
        _bar(place, step, count / top * (height - 12), height, count, str(number))
        for place, (number, count) in enumerate(counts)
    ]


def _bar(place: int, step: float, tall: float, height: int, count: int, label: str) -> Bar:
    return Bar(
        round(place * step + 2, 1),
        round(height - tall, 1),
        round(step - 4, 1),
        round(tall, 1),
        count,
        label,
    )


def intervals(
    lengths_ms: Sequence[float], mean_ms: float, width: int = 640, height: int = 180, bins: int = 16
) -> Histogram | None:
    """Return how often intervals of a length came, and how often an exponential distribution of
    that mean has them; the last bar holds all that are longer. None of none."""
    if not lengths_ms:
        return None
    wide = 4 * mean_ms / bins
    counts = [0] * bins
    for length in lengths_ms:
        counts[min(bins - 1, max(0, int(length / wide)))] += 1
    shares = [math.exp(-i * wide / mean_ms) for i in range(bins)] + [0.0]
    wanted = [len(lengths_ms) * (shares[i] - shares[i + 1]) for i in range(bins)]
    top = max(*counts, *wanted)
    step = width / bins
    found = [
        _bar(i, step, count / top * (height - 12), height, count, f"{i * wide / 1000:.0f} s")
        for i, count in enumerate(counts)
    ]
    curve = "M" + "L".join(
        f"{(i + 0.5) * step:.1f} {height - value / top * (height - 12):.1f}"
        for i, value in enumerate(wanted)
    )
    return Histogram(width, height, found, curve)
