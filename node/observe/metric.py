"""A metric: a row of the table, and how its values are found.

A row names what it shows by its path in `NodeStatistics`: nothing is counted or computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from unchained.node.base.latency import LatencyStatistics
from unchained.node.base.loop_monitor import OTHERS
from unchained.node.observe.node_statistics import NodeStatistics

LABEL_VALUES_MAX: Final = 16
"""Values of a label that one metric shows apart, the first; all others are summed up."""

Kind = Literal["counter", "gauge", "histogram"]

AT_SCRAPE: Final = "at each scrape"
ON_ANCHOR: Final = "when an anchor is connected"


class Metric(msgspec.Struct, frozen=True):
    """One metric. `path` names a member of `NodeStatistics`, member by member; in braces at its
    end stand several of them, whose names become the values of `label`. `scale` makes base units
    of what is counted."""

    name: str
    kind: Kind
    unit: str
    path: str
    help: str
    label: str = ""
    sampled: str = AT_SCRAPE
    scale: float = 1.0
    has_exemplar: bool = False
    """Each sample names the height and the short id of the tip that it belongs to."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels."""
        return tuple(self.label.split(",")) if self.label else ()


def counter(name: str, path: str, text: str, unit: str = "", **more: str | float) -> Metric:
    """Return the row of a counter, `unchained_NAME_total`."""
    return Metric(f"unchained_{name}_total", "counter", unit, path, text, **more)  # type: ignore[arg-type]


def gauge(name: str, path: str, text: str, unit: str = "", **more: str | float) -> Metric:
    """Return the row of a gauge, `unchained_NAME`."""
    return Metric(f"unchained_{name}", "gauge", unit, path, text, **more)  # type: ignore[arg-type]


def histogram(name: str, path: str, text: str, **more: str | float) -> Metric:
    """Return the row of a histogram, `unchained_NAME_seconds`."""
    return Metric(f"unchained_{name}_seconds", "histogram", "seconds", path, text, **more)  # type: ignore[arg-type]


Labelled = Mapping[tuple[str, ...], float]


def value_at(statistics: NodeStatistics, path: str) -> object:
    """Return what a path leads to, None where the node does not have it. A mapping on the way is
    followed for each of its keys."""
    value: object = statistics
    steps = path.split(".")
    for number, step in enumerate(steps):
        if value is None:
            return None
        if isinstance(value, Mapping):
            return {key: getattr(item, ".".join(steps[number:])) for key, item in value.items()}
        value = getattr(value, step)
    return value


def samples_of(metric: Metric, statistics: NodeStatistics) -> Labelled | LatencyStatistics:
    """Return a metric's values by the values of its labels, or the classes of a histogram; nothing
    where the node does not have what it shows."""
    path, _, inner = metric.path.partition("{")
    value = value_at(statistics, path)
    if value is None:
        return {}
    if isinstance(value, LatencyStatistics):
        return value
    if inner:
        names = inner.rstrip("}").split(",")
        return {(name,): _number(getattr(value, name), metric) for name in names}
    if isinstance(value, Mapping):
        pairs = {
            key if isinstance(key, tuple) else (str(key),): _number(number, metric)
            for key, number in value.items()
        }
        return _bounded(pairs, len(metric.labels))
    return {(): _number(value, metric)}


def _number(value: object, metric: Metric) -> float:
    assert isinstance(value, int | float), metric.name
    # What is true is 1. Integers stay what they are: a float does not hold them all.
    plain = int(value) if isinstance(value, bool) else value
    return plain if metric.scale == 1.0 else plain * metric.scale


def _bounded(pairs: dict[tuple[str, ...], float], width: int) -> Labelled:
    if len(pairs) <= LABEL_VALUES_MAX:
        return pairs
    # The first ones, whatever they have become: so what is shown apart stays so, and grows.
    in_order = list(pairs.items())
    kept = dict(in_order[: LABEL_VALUES_MAX - 1])
    rest = (OTHERS,) * width
    kept[rest] = kept.get(rest, 0) + sum(value for _, value in in_order[LABEL_VALUES_MAX - 1 :])
    return kept
