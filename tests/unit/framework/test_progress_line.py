"""How far a long run is, on standard error."""

from __future__ import annotations

import io
import sys

import pytest

from tests.framework.progress_line import LINE_S, WIDTH, ProgressLine
from tests.framework.simulation.command import Shown


class _Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_a_line_says_now_and_then_how_far_runs_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = _Clock()
    line = ProgressLine(clock)
    # Runs that a failure is cut down by may take less than the time between two lines.
    for run in (7, 8):
        shown = Shown(f"storm {run}", line)
        for second in range(1, 16):
            clock.now_s += 1
            shown.show(10.0 * second, 300, second)
    line.clear()
    assert capsys.readouterr().err.splitlines() == [
        "storm 7: 100 of about 300 virtual s, height 10",
        "storm 8: 50 of about 300 virtual s, height 5",
        "storm 8: 150 of about 300 virtual s, height 15",
    ]


def test_on_a_terminal_one_line_moves_and_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    clock = _Clock()
    line = ProgressLine(clock)
    asked = []

    def words() -> str:
        asked.append(clock.now_s)
        return "x" * 200

    for _ in range(3):
        line.show(words)
    assert asked == [0.0], "whoever shows at each step writes no more than can be read"
    clock.now_s = LINE_S
    line.show(words)
    line.clear()
    line.clear()
    shown = f"\r{'x' * WIDTH}\r"
    assert terminal.getvalue() == f"{shown}{shown}\r{' ' * WIDTH}\r"
