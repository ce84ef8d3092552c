"""What the soak takes for flat, and what for a leak."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.framework.torture.soak import GROWTH_MAX, SAMPLE_S, Sample, growths, what_grew

MINUTES = 60
LEVEL = {"own memory MiB": 170.0, "threads": 6.0, "descriptors": 24.0, "tasks": 62.0}


def soaked(grow: Callable[[str, float], float], minutes: int = MINUTES) -> list[Sample]:
    """Return samples of a run in which each thing lies at its level, a little above it now and
    then, and `grow` of its name and the minute comes to it."""
    rng = random.Random(3)
    samples = []
    for number in range(int(minutes * 60 / SAMPLE_S)):
        minute = number * SAMPLE_S / 60
        sample = {"s": number * SAMPLE_S, "height": 3_000 + 86 * minute}
        for name, level in LEVEL.items():
            about = rng.gauss(0, 1.5) if name == "own memory MiB" else rng.choice((0, 0, 0, 1, 3))
            sample[name] = level + about + grow(name, minute)
        samples.append(sample)
    return samples


def wrong_of(samples: list[Sample]) -> list[str]:
    return what_grew(samples, growths(samples))


def test_what_lies_about_a_level_is_flat() -> None:
    assert wrong_of(soaked(lambda name, minute: 0.0)) == []


def test_what_fills_in_the_first_half_is_flat() -> None:
    assert wrong_of(soaked(lambda name, minute: min(minute, 25.0))) == []


def test_what_jumps_for_a_fifth_of_the_time_is_flat() -> None:
    assert wrong_of(soaked(lambda name, minute: 40.0 * (50 < minute < 56))) == []


@pytest.mark.parametrize(
    ("name", "by_minute"),
    [
        ("own memory MiB", 0.17),  # 2 KiB with each of 86 anchors a minute
        ("threads", 1 / 10),
        ("descriptors", 1 / 10),
        ("tasks", 1 / 10),
    ],
)
def test_a_slow_leak_is_found(name: str, by_minute: float) -> None:
    def grow(of: str, minute: float) -> float:
        leaked = minute * by_minute * (of == name)
        return leaked if name == "own memory MiB" else float(int(leaked))

    (wrong,) = wrong_of(soaked(grow))
    assert wrong.startswith(f"{name} grew by ")


def test_a_leak_is_no_less_one_for_what_is_there_already() -> None:
    grown = wrong_of(soaked(lambda name, minute: 1_000 + minute * 0.17))
    assert any(wrong.startswith("own memory MiB grew by ") for wrong in grown)


def test_a_run_too_short_to_tell_does_not_hold() -> None:
    (wrong,) = wrong_of(soaked(lambda name, minute: 0.0, minutes=9))
    assert "too short to judge" in wrong
    assert wrong_of(soaked(lambda name, minute: 0.0, minutes=10)) == []


def test_all_that_is_judged_has_a_level_here() -> None:
    assert set(GROWTH_MAX) == set(LEVEL)
