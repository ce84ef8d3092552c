"""The node's memory of its last day: every series, one value a minute, in as little room."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from unchained.node.base.latency import LatencyStatistics
from unchained.node.base.runner import Runner
from unchained.node.observe.metric import value_at
from unchained.node.observe.node_observer import NodeObserver
from unchained.node.observe.node_statistics import NodeStatistics
from unchained.node.observe.series_table import SERIES, Series
from unchained.node.rpc.methods.series import SeriesFound, SeriesShown

PERIOD_S: Final = 60.0
"""Seconds from one value to the next."""

MINUTES_KEPT: Final = 24 * 60
"""Values kept of each series."""


class _Ring:
    """The newest values of a kind, oldest first."""

    __slots__ = ("_at", "_values")

    def __init__(self, code: str) -> None:
        self._values = array(code)
        self._at = 0

    def add(self, value: float) -> None:
        if len(self._values) < MINUTES_KEPT:
            self._values.append(value)  # type: ignore[arg-type]
        else:
            self._values[self._at] = value  # type: ignore[call-overload]
            self._at = (self._at + 1) % MINUTES_KEPT

    def newest(self, count: int) -> list[float]:
        kept = self._values
        return [
            kept[(self._at + place) % len(kept)] for place in range(len(kept) - count, len(kept))
        ]

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self._values.buffer_info()[1] * self._values.itemsize


class Day:
    """Remembers the series of a node. `run` has to run for values to come."""

    def __init__(self, observer: NodeObserver, runner: Runner) -> None:
        self._observer = observer
        self._runner = runner
        self._times = _Ring("q")
        self._values = {series.name: _Ring("d") for series in SERIES}
        self._before: NodeStatistics | None = None
        self._count = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take a value of each series every minute, until cancelled; the first at once."""
        task_status.started()
        while True:
            began = trio.current_time()
            await self.sample()
            await trio.sleep_until(began + PERIOD_S)

    async def sample(self) -> None:
        """Take a value of each series."""
        now = await self._runner.run(self._observer.complete, self._observer.statistics())
        before, self._before = self._before, now
        seconds = 0.0 if before is None else (now.now_ms - before.now_ms) / 1000
        self._times.add(now.now_ms)
        self._count = min(self._count + 1, MINUTES_KEPT)
        for series in SERIES:
            value = _value(series, now, before, seconds)
            self._values[series.name].add(math.nan if value is None else value * series.scale)

    @property
    def size(self) -> int:
        """Bytes that all values take."""
        return self._times.size + sum(ring.size for ring in self._values.values())

    # What may be asked

    def known(self) -> Mapping[str, SeriesShown]:
        """Return what series there are, by name."""
        return {
            series.name: SeriesShown(series.kind, series.unit, series.help) for series in SERIES
        }

    def found(self, names: Sequence[str], since_ms: int) -> SeriesFound:
        """Return series by name, from a time on. Every name has to be known."""
        times = [int(time) for time in self._times.newest(self._count)]
        count = sum(time >= since_ms for time in times)
        return SeriesFound(
            period_ms=int(PERIOD_S * 1000),
            times=times[len(times) - count :],
            values={
                name: [
                    None if math.isnan(value) else value
                    for value in self._values[name].newest(count)
                ]
                for name in names
            },
        )


def _value(
    series: Series, now: NodeStatistics, before: NodeStatistics | None, seconds: float
) -> float | None:
    value = value_at(now, series.path)
    if value is None:
        return None
    if series.kind == "level":
        return _number(value)
    earlier = None if before is None else value_at(before, series.path)
    if isinstance(value, LatencyStatistics):
        return value.mean_since(earlier) if isinstance(earlier, LatencyStatistics) else None
    if earlier is None or seconds <= 0:
        return None
    return (_number(value) - _number(earlier)) / seconds


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
