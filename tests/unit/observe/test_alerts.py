"""The rules, their pages, and what they name."""

from __future__ import annotations

import re
from pathlib import Path

from tests.framework.alert_recorder import names_in
from unchained.node.base.config import declared_keys
from unchained.node.cli.main import COMMANDS
from unchained.node.observe.alerts import ALERTS, RULES_FILE, RUNBOOKS, rules, runbook
from unchained.node.observe.metric_table import METRICS

ROOT = Path(__file__).parents[3]


def test_rules_and_pages_are_up_to_date() -> None:
    assert (ROOT / RULES_FILE).read_text() == rules()
    for alert in ALERTS:
        assert (ROOT / alert.page).read_text() == runbook(alert)
    pages = {path.stem for path in (ROOT / RUNBOOKS).glob("*.md")}
    assert pages == {alert.name for alert in ALERTS}


def test_there_are_enough_and_none_twice() -> None:
    names = [alert.name for alert in ALERTS]
    assert len(names) == len(set(names)) >= 20


def test_every_rule_asks_for_metrics_that_there_are() -> None:
    known = {metric.name for metric in METRICS}
    for alert in ALERTS:
        assert names_in(alert.expr), alert.name
        assert names_in(alert.expr) <= known, alert.name


def test_the_pages_name_commands_that_there_are() -> None:
    for alert in ALERTS:
        for command in re.findall(r"unchained-node (\S+?)[` ]", alert.look + alert.do):
            assert command in COMMANDS, (alert.name, command)


def test_the_pages_name_events_and_settings_that_there_are() -> None:
    logged = re.findall(
        r"^\| `([a-z_.]+)` \|", (ROOT / "docs/logging.md").read_text(), re.MULTILINE
    )
    for alert in ALERTS:
        for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", alert.look + alert.do):
            assert name in {*logged, *declared_keys()}, (alert.name, name)
