"""Draws what was measured, with its interval, beside the model's figure: an SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, ROW, LEFT, RIGHT, TOP, BOTTOM = 1110, 30, 650, 30, 64, 44
MEASURED, MODEL = "#0b62a4", "#c4501b"


class Bar(NamedTuple):
    """A measured value with its interval, and the model's."""

    value: float
    low: float
    high: float
    model: float
    text: str


class Group(NamedTuple):
    """One line of the plot."""

    name: str
    figure: str
    bars: list[Bar]


def svg(title: str, groups: Sequence[Group]) -> str:
    """Return the picture; the axis is logarithmic where values differ by more than twentyfold."""
    bars = [bar for group in groups for bar in group.bars]
    values = [one for bar in bars for one in (bar.value, bar.model, bar.high)]
    positive = [one for bar in bars for one in (bar.value, bar.model, bar.low) if one > 0]
    high, low = max(values), min(positive)
    logarithmic = high > 20 * low
    first = 10 ** math.floor(math.log10(low)) if logarithmic else 0.0
    last = 10 ** math.ceil(math.log10(high)) if logarithmic else high * 1.1

    def x(value: float) -> float:
        room = WIDTH - LEFT - RIGHT
        if not logarithmic:
            return LEFT + room * value / last
        at = math.log(max(value, first) / first) / math.log(last / first)
        return LEFT + room * at

    height = TOP + ROW * len(groups) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="20" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<circle cx="26" cy="42" r="4" fill="{MEASURED}"/>'
        '<text x="36" y="46">measured, 95 %</text>'
        f'<path d="M150 36V48" stroke="{MODEL}" stroke-width="3"/>'
        '<text x="158" y="46">model</text>',
        *_axis(first, last, logarithmic, height, x),
    ]
    for row, group in enumerate(groups):
        at = TOP + ROW * row + ROW / 2
        label = escape(f"{group.name}: {group.figure}")
        parts.append(f'<text x="{LEFT - 10}" y="{at + 4}" text-anchor="end">{label}</text>')
        parts += [
            f'<path d="M{x(bar.low):.1f} {at}H{x(bar.high):.1f}" stroke="{MEASURED}" '
            f'stroke-width="3" opacity=".5"/>'
            f'<path d="M{x(bar.model):.1f} {at - 8}v16" stroke="{MODEL}" stroke-width="3"/>'
            f'<circle cx="{x(bar.value):.1f}" cy="{at}" r="4" fill="{MEASURED}">'
            f"<title>{escape(bar.text)}</title></circle>"
            for bar in group.bars
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axis(
    first: float, last: float, logarithmic: bool, height: int, x: Callable[[float], float]
) -> Iterator[str]:
    if logarithmic:
        powers = range(round(math.log10(first)), round(math.log10(last)) + 1)
        ticks = [10.0**power for power in powers]
    else:
        step = 10 ** math.floor(math.log10(last))
        step = step if last > 3 * step else step / 5
        ticks = [step * count for count in range(int(last / step) + 1)]
    for tick in ticks:
        yield f'<path d="M{x(tick):.1f} {TOP}V{height - BOTTOM}" stroke="#ddd"/>'
        text = f"{tick:.0e}" if tick and tick < 0.0001 else f"{100 * tick:g} %"
        yield (
            f'<text x="{x(tick):.1f}" y="{height - BOTTOM + 18}" text-anchor="middle">{text}</text>'
        )
