"""How members of answers are shown to a person."""

from __future__ import annotations

import pytest

from unchained.node.cli.asker import shown


@pytest.mark.parametrize("name", ["time", "tip_time", "tip_time_ms", "time_ms", "anchor.time_ms"])
def test_a_moment_is_a_date(name: str) -> None:
    assert shown(name, 1_795_219_200_000) == "2026-11-21 00:00:00Z"


def test_a_duration_has_a_unit() -> None:
    assert shown("uptime_ms", 65_000) == "1 min 5 s"
