"""docs/metrics.md says what the tables say."""

from __future__ import annotations

from pathlib import Path

from unchained.node.observe.document import document
from unchained.node.observe.metric_table import METRICS

ROOT = Path(__file__).parents[3]


def test_the_document_is_up_to_date() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == document()


def test_every_metric_says_its_kind_its_unit_and_when_it_is_sampled() -> None:
    rows = [line.split("|") for line in document().splitlines() if line.startswith("| `unchained")]
    assert len(rows) == len(METRICS) + 1
    for row in rows:
        assert row[2].strip() in ("Counter", "Gauge", "Histogram")
        assert row[5].strip()
