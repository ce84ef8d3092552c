"""The shape of a benchmark's result (tests.framework.benchmarks)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def result(
    name: str,
    unit: str,
    values: Sequence[float],
    *,
    reference: str,
    reference_values: Sequence[float],
    goal: float | None,
    at_least: bool,
) -> dict[str, object]:
    """Return a result whose goal, if it has one, is a bound on the median: from below or from
    above."""
    median = statistics.median(values)
    base = statistics.median(reference_values)
    return {
        "name": name,
        "unit": unit,
        "median": median,
        "min": min(values),
        "max": max(values),
        "runs": len(values),
        "reference": reference,
        "reference_median": base,
        "ratio": median / base if base else None,
        "goal": goal,
        "met": None if goal is None else median >= goal if at_least else median <= goal,
    }
