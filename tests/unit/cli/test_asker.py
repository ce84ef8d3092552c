"""How members of answers are shown to a person."""

from __future__ import annotations

import msgspec
import pytest

from unchained.node.cli.asker import shown
from unchained.node.cli.text import harmless, json_line


@pytest.mark.parametrize("name", ["time", "tip_time", "tip_time_ms", "time_ms", "anchor.time_ms"])
def test_a_moment_is_a_date(name: str) -> None:
    assert shown(name, 1_795_219_200_000) == "2026-11-21 00:00:00Z"


def test_a_duration_has_a_unit() -> None:
    assert shown("uptime_ms", 65_000) == "1 min 5 s"


def test_what_a_terminal_would_obey_is_never_printed() -> None:
    said = "a\x1b[2Jb\x07\x9b\u202e\u2066\U000e0001\nc"
    assert harmless(said).isprintable()
    line = json_line({"memo": said, "é": "✓"})
    assert line.isprintable()
    assert msgspec.json.decode(line) == {"memo": said, "é": "✓"}
