"""What is printed for people and for programs holds nothing that a terminal would obey."""

from __future__ import annotations

import io

import msgspec

from unchained.node.base.logs import JsonLines
from unchained.node.base.terminal_text import ends, harmless, json_line


def test_what_a_terminal_would_obey_is_never_printed() -> None:
    said = "a\x1b[2Jb\x07\x9b\u202e\u2066\U000e0001\nc"
    assert harmless(said).isprintable()
    line = json_line({"memo": said, "é": "✓"})
    assert line.isprintable()
    assert msgspec.json.decode(line) == {"memo": said, "é": "✓"}


def test_a_log_of_json_lines_holds_none_of_it_either() -> None:
    stream = io.StringIO()
    event = {"event": "peer.connected", "version": "a\x9b\u202e\x1b[2J"}
    JsonLines(stream).write(event)
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert msgspec.json.decode(line) == event


def test_a_long_text_is_shown_by_its_ends() -> None:
    assert ends("twelve signs", 12, 6, 5) == "twelve signs"
    assert ends("thirteen sign", 12, 6, 5) == "thirte… sign"
