"""What an experiment has measured: sums that several runs can be added up from, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

Z: Final = 1.96
"""Standard deviations of a normal interval of 95 %."""

T_FEW: Final = (
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23,
    2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09,
)  # fmt: skip
"""The same of Student's t with 1 to 19 degrees of freedom."""

PARTS: Final = 20
"""Parts of a long run whose shares are compared to know how sure their mean is."""

FEWEST_EVENTS: Final = 20.0
"""Events, weighted ones counted for what they say, below which a rare figure is not resolved."""

DEPTHS_TOLD: Final = {"1": (1, 1), "2": (2, 2), "3 to 5": (3, 5), "6 or more": (6, math.inf)}
"""Anchors undone at once, by the words for them."""


class Sums(msgspec.Struct):
    """So many values, their sum and that of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.squares += value * value

    def add_cases(self, hits: int, count: int) -> None:
        """Add so many cases, some of which were what is counted."""
        self.count += count
        self.total += hits
        self.squares += hits

    def merge(self, other: Sums) -> None:
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def are_cases(self) -> bool:
        """Whether all values were 0 or 1."""
        return self.total == self.squares and 0 <= self.mean <= 1

    @property
    def events(self) -> float:
        """How many equal values, the rest 0, would say as much as these weighted ones (Kish's
        effective sample size); 0 where all are 0."""
        return self.total * self.total / self.squares if self.squares else 0.0

    def interval(self) -> tuple[float, float]:
        """Return the interval of 95 %: Wilson's for cases, else by the values' own deviation."""
        n, mean = self.count, self.mean
        if self.are_cases:
            centre = (mean + Z * Z / (2 * n)) / (1 + Z * Z / n)
            half = Z / (1 + Z * Z / n) * math.sqrt(mean * (1 - mean) / n + (Z / (2 * n)) ** 2)
            return max(0.0, centre - half), min(1.0, centre + half)
        if n == 1:
            return mean, mean
        spread = math.sqrt(max(0.0, (self.squares - n * mean * mean) / (n - 1)) / n)
        half = (T_FEW[n - 2] if n - 2 < len(T_FEW) else Z) * spread
        return mean - half, mean + half


class Figure(msgspec.Struct):
    """One measured quantity. `unit`: "%" for parts of one, else what it counts."""

    name: str
    sums: Sums
    unit: str = "%"
    model: float | None = None
    """What the model says of which the protocol's authors speak, None where it says nothing."""

    def text(self) -> str:
        """Return the mean and its interval."""
        if self.sums.count == 0:
            return "never"
        low, high = self.interval()
        mean, first, last = (shown(value, self.unit) for value in (self.sums.mean, low, high))
        if self.is_weighted:
            events = f"{self.sums.events:.0f} events"
            if not self.is_resolved:
                return f"not resolved: {mean} by {events}"
            return f"{mean} ({first} to {last}; {events})"
        return mean if self.sums.count == 1 else f"{mean} ({first} to {last})"

    def interval(self) -> tuple[float, float]:
        """Return the interval, which does not go below 0 where the figure cannot."""
        low, high = self.sums.interval()
        return (max(0.0, low) if self.never_negative else low), high

    @property
    def is_weighted(self) -> bool:
        """Whether it is a probability seen by leaning luck."""
        return self.unit == "p" and not self.sums.are_cases

    @property
    def is_resolved(self) -> bool:
        """Whether the interval says anything: a few heavy weights make it too narrow, as the
        heavier ones that would widen it have not come."""
        return not self.is_weighted or self.sums.events >= FEWEST_EVENTS

    @property
    def never_negative(self) -> bool:
        return self.unit in {"p", "T", ""}

    def model_text(self) -> str:
        return "" if self.model is None else shown(self.model, self.unit)


class Outcome(msgspec.Struct):
    """What one experiment with its parameters has given, and which counts lie below it."""

    name: str
    parameters: dict[str, float | int | str | bool]
    figures: list[Figure]
    counts: dict[str, int]
    cpu_s: float = 0.0
    """Differs from run to run, the rest does not."""
    commit: str = ""
    """Of a recorded one: the commit by which it was run, and whether with changes."""
    seed: int = 1
    runs: int = 1
    """Of `size` each, the first from `seed` and each other from the next one: added up."""

    def merge(self, other: Outcome) -> None:
        """Add another run of the same."""
        self.runs += other.runs
        for mine, theirs in zip(self.figures, other.figures, strict=True):
            mine.sums.merge(theirs.sums)
        for key, count in other.counts.items():
            deepest = key.startswith("most ")
            before = self.counts.get(key, 0)
            self.counts[key] = max(before, count) if deepest else before + count
        self.cpu_s += other.cpu_s


def count_depths(depths: Sequence[int]) -> dict[str, int]:
    """Return how many reorganisations undid so many anchors, by the name of the count."""
    return {
        f"reorganisations of {words}": sum(least <= depth <= most for depth in depths)
        for words, (least, most) in DEPTHS_TOLD.items()
    }


def depth_figures(outcome: Outcome) -> list[Figure]:
    """Return which shares of the reorganisations undid so many anchors: none where an outcome has
    none, or was recorded without."""
    every = outcome.counts.get("reorganisations", 0)
    figures = []
    for name in count_depths(()):
        if every and name in outcome.counts:
            figures.append(Figure(name, Sums()))
            figures[-1].sums.add_cases(outcome.counts[name], every)
    return figures


def shown(value: float, unit: str) -> str:
    """Return a number as people read it."""
    if unit == "p":
        return f"{value:.1e}" if abs(value) < 0.01 else f"{value:.3f}"
    if unit == "%":
        per_cent = 100 * value
        return f"{per_cent:.3f} %" if abs(per_cent) < 0.1 else f"{per_cent:.2f} %"
    return f"{value:.2f} {unit}".strip()
