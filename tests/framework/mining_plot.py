"""Draws rates by memory size and number of workers: ``python -m tests.framework.mining_plot``.

Reads what ``unchained-node bench pow --json`` printed, a report on each line, and writes an SVG.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 80, 190, 56, 60
COLOURS = ("#0b62a4", "#c4501b", "#2e7d32", "#7b3fa0", "#8d6e00", "#00838f", "#ad1457", "#455a64")
NETWORKS = {1024: "local", 16384: "main, test"}
"""Sizes that networks use (Protocol §10)."""


class Series(NamedTuple):
    """One line of the plot: `points` are memory in KiB and hashes per second."""

    name: str
    colour: str
    dashed: bool
    points: list[tuple[int, float]]


def read(text: str) -> tuple[str, str, list[dict[str, float]]]:
    """Return processor, backend and all results of reports. Raises ValueError."""
    reports = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not reports:
        raise ValueError("there is no report, expected one on each line")
    kinds = {(report["cpu"], report["backend"]) for report in reports}
    if len(kinds) > 1:
        raise ValueError(f"reports of {len(kinds)} processors or backends, expected one")
    ((cpu, backend),) = kinds
    return cpu, backend, [result for report in reports for result in report["results"]]


def series(backend: str, results: Sequence[dict[str, float]]) -> list[Series]:
    """Return the lines: for each number of workers the backend's and the reference's."""
    counts = sorted({int(result["workers"]) for result in results})
    shown = []
    for key, name, dashed in (("rate", backend, False), ("reference_rate", "cryptography", True)):
        for count, colour in zip(counts, COLOURS * (1 + len(counts) // 8), strict=False):
            points = sorted(
                (int(result["mem_kib"]), float(result[key]))
                for result in results
                if result["workers"] == count
            )
            plural = "s" if count > 1 else ""
            shown.append(Series(f"{name}, {count} worker{plural}", colour, dashed, points))
    return shown


def size_name(kib: int) -> str:
    """Return how people call so much memory."""
    return f"{kib // 1024} MiB" if kib >= 1024 else f"{kib} KiB"


def svg(title: str, lines: Sequence[Series]) -> str:
    """Return the picture: both axes logarithmic, since rates fall as memory grows."""
    sizes = sorted({kib for line in lines for kib, _ in line.points})
    rates = [rate for line in lines for _, rate in line.points]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    first, last = math.log2(sizes[0]), math.log2(sizes[-1])

    def x(kib: float) -> float:
        share = (math.log2(kib) - first) / (last - first) if last > first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(rate: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(rate) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="{LEFT}" y="42" fill="#555">hashes per second of all workers together</text>',
        *_grid(sizes, low, high, x, y),
    ]
    for line in lines:
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        path = " ".join(f"{x(kib):.1f},{y(rate):.1f}" for kib, rate in line.points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}/>'
        )
        parts += [
            f'<circle cx="{x(kib):.1f}" cy="{y(rate):.1f}" r="3" fill="{line.colour}">'
            f"<title>{escape(line.name)}, {size_name(kib)}: {rate:,.1f} H/s</title></circle>"
            for kib, rate in line.points
        ]
    for row, line in enumerate(lines):
        at, right = TOP + 10 + 20 * row, WIDTH - RIGHT + 16
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(
            f'<line x1="{right}" y1="{at}" x2="{right + 24}" y2="{at}" stroke="{line.colour}" '
            f'stroke-width="2"{dash}/><text x="{right + 30}" y="{at + 4}">'
            f"{escape(line.name)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(
    sizes: Sequence[int],
    low: int,
    high: int,
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> Iterator[str]:
    for power in range(low, high + 1):
        for digit in range(1, 10 if power < high else 2):
            at = y(digit * 10**power)
            shade = "#bbb" if digit == 1 else "#eee"
            yield f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{shade}"/>'
            if digit == 1:
                label = f"{10**power:,}"
                yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
    for kib in sizes:
        yield f'<path d="M{x(kib):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>'
        below = HEIGHT - BOTTOM + 18
        yield f'<text x="{x(kib):.1f}" y="{below}" text-anchor="middle">{size_name(kib)}</text>'
        if kib in NETWORKS:
            yield (
                f'<text x="{x(kib):.1f}" y="{below + 16}" text-anchor="middle" fill="#555">'
                f"{NETWORKS[kib]}</text>"
            )
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">memory of one hash</text>'


def main(arguments: Sequence[str]) -> int:
    """Run ``REPORTS SVG``; return the exit code."""
    if len(arguments) != 2:
        print("plot-mining: expected REPORTS SVG: what to read, what to write", file=sys.stderr)
        return 2
    source, target = map(Path, arguments)
    try:
        cpu, backend, results = read(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        print(f"plot-mining: {source}: {error}", file=sys.stderr)
        return 1
    title = f"{cpu}: {backend} and cryptography"
    target.write_text(svg(title, series(backend, results)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
