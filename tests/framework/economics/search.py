"""Looks for the thresholds that pay most, by the cross-entropy method (Rubinstein 1999)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from statistics import fmean, pstdev
from typing import Final, NamedTuple

POPULATION: Final = 12
ELITE: Final = 4
FORGETS: Final = 0.7
"""By how much a generation's best replace what was believed before."""

NUMBERS: Final = {"alone": (-4.0, 6.0), "show": (4.0, 3.0), "give_up": (3.0, 4.0)}
"""Mean and deviation of each threshold before anything is known."""

CHOICES: Final[dict[str, tuple[str | bool, ...]]] = {
    "lists": ("own", "first", "all"),
    "hoards": (False, True),
}
LEAST_CHANCE: Final = 0.1
"""A choice is never given up altogether."""

Thresholds = dict[str, float | str | bool]


class Found(NamedTuple):
    """Thresholds that were tried, and what they paid."""

    paid: float
    thresholds: Thresholds


def search(pays: Callable[[Thresholds, int], float], generations: int, seed: int) -> list[Found]:
    """Return the best of each generation. `pays` is told thresholds and a seed, the same for a
    whole generation: what differs is the thresholds alone."""
    rng = Random(seed)
    numbers = dict(NUMBERS)
    chances = {name: dict.fromkeys(values, 1.0) for name, values in CHOICES.items()}
    best = []
    for generation in range(generations):
        tried = []
        for _ in range(POPULATION):
            drawn: Thresholds = {
                name: float(round(rng.gauss(*around))) for name, around in numbers.items()
            }
            drawn["show"] = max(1.0, float(drawn["show"]))
            drawn["give_up"] = max(0.0, float(drawn["give_up"]))
            for name, weights in chances.items():
                drawn[name] = rng.choices(list(weights), list(weights.values()))[0]
            tried.append(Found(pays(drawn, seed + generation), drawn))
        tried.sort(key=lambda one: -one.paid)
        elite = [one.thresholds for one in tried[:ELITE]]
        for name, (mean, spread) in numbers.items():
            values = [float(one[name]) for one in elite]
            numbers[name] = (
                mean + FORGETS * (fmean(values) - mean),
                max(0.5, spread + FORGETS * (pstdev(values) - spread)),
            )
        for name, weights in chances.items():
            for one in weights:
                share = sum(of[name] == one for of in elite) / ELITE
                weights[one] = max(LEAST_CHANCE, (1 - FORGETS) * weights[one] + FORGETS * share)
        best.append(tried[0])
    return best
