"""Looks for the thresholds that pay most, by the cross-entropy method (Rubinstein 1999)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from statistics import fmean, pstdev
from typing import Final, NamedTuple

POPULATION: Final = 12
ELITE: Final = 4
FORGETS: Final = 0.7
"""By how much a generation's best replace what was believed before."""


class Around(NamedTuple):
    """What is thought of a threshold before anything is known, and which values it can have."""

    mean: float
    spread: float
    least: float
    step: float = 1.0

    def nearest(self, value: float) -> float:
        """Return the value that it can have next to another."""
        return max(self.least, self.step * round(value / self.step))


class Space(NamedTuple):
    """What is looked for: thresholds, what else there is to choose, and how the figure's name
    begins that is to be great."""

    numbers: Mapping[str, Around]
    choices: Mapping[str, tuple[str | bool, ...]]
    figure: str
    unit: str


SPACES: Final = {
    "withholding": Space(
        {
            "alone": Around(-4.0, 3.0, -100.0),
            "show": Around(3.0, 1.0, 1.0),
            "give_up": Around(3.0, 2.0, 0.0),
            "stakes": Around(0.375, 0.25, 0.0, 0.125),
            "worth": Around(1.0, 1.0, 0.0),
            "rival": Around(10.0, 4.0, -8.0),
        },
        {"lists": ("own", "first", "fresh"), "hoards": (False, True)},
        "share of all grains",
        "%",
    ),
    "snipe": Space(
        {"patience": Around(1.0, 4.0, -8.0), "give_up": Around(3.0, 4.0, 0.0)},
        {"hoards": (False, True)},
        "nets of a pool of ",
        "subsidies",
    ),
}
"""By experiment."""

LEAST_CHANCE: Final = 0.1
"""A choice is never given up altogether."""

Thresholds = dict[str, float | str | bool]


class Found(NamedTuple):
    """Thresholds that were tried, and what they paid."""

    paid: float
    thresholds: Thresholds


def search(
    space: Space, pays: Callable[[Thresholds, int], float], generations: int, seed: int
) -> Iterator[Found]:
    """Yield the best of each generation. `pays` is told thresholds and a seed, the same for a
    whole generation: what differs is the thresholds alone."""
    rng = Random(seed)
    numbers = {name: (one.mean, one.spread) for name, one in space.numbers.items()}
    chances = {name: dict.fromkeys(values, 1.0) for name, values in space.choices.items()}
    for generation in range(generations):
        tried = []
        for _ in range(POPULATION):
            drawn: Thresholds = {
                name: space.numbers[name].nearest(rng.gauss(*around))
                for name, around in numbers.items()
            }
            for name, weights in chances.items():
                drawn[name] = rng.choices(list(weights), list(weights.values()))[0]
            tried.append(Found(pays(drawn, seed + generation), drawn))
        tried.sort(key=lambda one: -one.paid)
        elite = [one.thresholds for one in tried[:ELITE]]
        for name, (mean, spread) in numbers.items():
            values = [float(one[name]) for one in elite]
            numbers[name] = (
                mean + FORGETS * (fmean(values) - mean),
                max(space.numbers[name].step / 2, spread + FORGETS * (pstdev(values) - spread)),
            )
        for name, weights in chances.items():
            for one in weights:
                share = sum(of[name] == one for of in elite) / ELITE
                weights[one] = max(LEAST_CHANCE, (1 - FORGETS) * weights[one] + FORGETS * share)
        yield tried[0]
