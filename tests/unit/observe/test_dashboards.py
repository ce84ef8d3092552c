"""The dashboards are up to date, and ask for metrics that there are."""

from __future__ import annotations

import json
from pathlib import Path

from tests.framework.alert_recorder import names_in
from unchained.node.observe.dashboards import BOARDS, DASHBOARDS, dashboard, queries
from unchained.node.observe.metric_table import METRICS

ROOT = Path(__file__).parents[3]


def test_the_files_are_as_the_tables_say() -> None:
    assert sorted(BOARDS) == ["internals", "mining", "network", "node"]
    for name in BOARDS:
        assert (ROOT / DASHBOARDS / f"{name}.json").read_bytes() == dashboard(name)
        panels = json.loads(dashboard(name))["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels) == len(BOARDS[name])
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
        assert len(places) == len(panels)


def test_every_query_asks_for_metrics_that_there_are() -> None:
    known = {metric.name for metric in METRICS}
    for query in queries():
        assert names_in(query), query
        assert names_in(query) <= known, query
