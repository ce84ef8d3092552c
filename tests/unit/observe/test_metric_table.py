"""The table of metrics: names, units, and where their values come from."""

from __future__ import annotations

import re
from typing import ClassVar

from tests.framework.observed import observer_of
from tests.framework.simulation.simnet import simulate
from unchained.node.base.latency import LatencyStatistics
from unchained.node.base.loop_monitor import OTHERS
from unchained.node.observe.metric import LABEL_VALUES_MAX, Metric, samples_of, value_at
from unchained.node.observe.metric_table import METRICS

BASE_UNITS = ("seconds", "bytes", "grains", "hashes", "anchors", "coins", "transfers", "")


def test_names_follow_the_rules_of_prometheus() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"unchained_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.unit in BASE_UNITS, metric.name
        assert not re.search(r"_(ms|minutes|mib|kib|percent)(_|$)", metric.name)
        assert metric.help.endswith("."), metric.name
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds")


def test_no_label_says_who_or_which() -> None:
    labels = {label for metric in METRICS for label in metric.labels}
    assert labels.isdisjoint({"peer", "coin", "address", "anchor", "txid", "wallet", "ip", "id"})


async def test_every_path_leads_to_something_of_a_node_in_a_network() -> None:
    """What a simulated node lacks (processes that mine, a server, the process itself) is seen on
    a real one, in tests/functional/test_metrics.py."""
    async with simulate(11) as net:
        nodes = await net.grow(2)
        await net.mingle(nodes, 1)
        statistics = observer_of(nodes[0]).statistics()
        parts = ("status", "chain", "network", "tip", "epoch_s", "side", "difficulty", "sync_lag")
        shown = [m for m in METRICS if m.path.startswith(parts)]
        assert len(shown) > 40
        for metric in shown:
            found = samples_of(metric, statistics)
            if metric.kind == "histogram":
                assert isinstance(found, LatencyStatistics), metric.name
            else:
                assert not isinstance(found, LatencyStatistics), metric.name
                values = metric.name not in (
                    "unchained_peers_penalties_total",
                    "unchained_relay_rules_broken_total",
                )
                assert bool(found) or not values, metric.name
                assert all(len(labels) == len(metric.labels) for labels in found), metric.name


def test_labels_that_grow_without_end_are_summed_up_and_what_is_shown_stays() -> None:
    metric = Metric("unchained_x_total", "counter", "", "x", "X.", label="rule")

    class Statistics:
        x: ClassVar = {f"rule {number}": number for number in range(100)}

    found = samples_of(metric, Statistics())  # type: ignore[arg-type]
    assert not isinstance(found, LatencyStatistics)
    assert len(found) == LABEL_VALUES_MAX
    assert sum(found.values()) == sum(range(100))
    assert found[("rule 3",)] == 3
    assert found[(OTHERS,)] == sum(range(LABEL_VALUES_MAX - 1, 100))


def test_true_is_one_and_units_are_base_units() -> None:
    class Statistics:
        flag = True
        took_ms = 1500

    flag = Metric("unchained_x", "gauge", "", "flag", "X.")
    took = Metric("unchained_y_seconds", "gauge", "seconds", "took_ms", "Y.", scale=0.001)
    assert samples_of(flag, Statistics()) == {(): 1}  # type: ignore[arg-type]
    assert samples_of(took, Statistics()) == {(): 1.5}  # type: ignore[arg-type]
    assert value_at(Statistics(), "flag") is True  # type: ignore[arg-type]
