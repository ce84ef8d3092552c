"""Latencies are counted in classes, from any thread, and none is lost."""

from __future__ import annotations

import threading

import pytest

from unchained.node.base.latency import BOUNDS_S, Latency


def test_a_bound_belongs_to_its_class_and_what_is_longer_has_one_too() -> None:
    latency = Latency((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 1.0, 7.0):
        latency.note(seconds)
    found = latency.statistics()
    assert found.counts == (2, 2, 1)
    assert found.seconds == pytest.approx(8.65)
    assert found.count == 5


def test_the_mean_is_of_what_came_since() -> None:
    latency = Latency((0.1, 1.0))
    latency.note(100.0)
    before = latency.statistics()
    assert latency.statistics().mean_since(before) is None
    for seconds in (0.05, 0.05, 0.5, 3.4):
        latency.note(seconds)
    now = latency.statistics()
    assert now.mean_since(before) == pytest.approx(1.0)


def test_what_fails_is_counted_too() -> None:
    latency = Latency()
    with pytest.raises(KeyError), latency.measured():
        raise KeyError
    assert latency.statistics().count == 1


def test_threads_lose_nothing() -> None:
    latency = Latency()

    def work() -> None:
        for _ in range(5_000):
            latency.note(BOUNDS_S[3])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert latency.statistics().counts[3] == latency.statistics().count == 20_000
