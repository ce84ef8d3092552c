"""A command that is watched while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.framework.watched import run_watched

WAITS = "print('begun', flush=True); open('go').read(); print('ended'); raise SystemExit(3)"


@pytest.fixture(autouse=True)
def go(tmp_path: Path) -> Path:
    """What the command waits for."""
    path = tmp_path / "go"
    os.mkfifo(path)
    return path


def test_it_is_told_what_was_said_so_far(tmp_path: Path, go: Path) -> None:
    shown: list[str] = []

    def show(taken: float, said: str) -> None:
        assert taken > 0
        shown.append(said)
        if said and "begun\n" not in shown[:-1]:
            go.write_text("on")

    code, said = run_watched([sys.executable, "-c", WAITS], show, cwd=tmp_path, every_s=0.05)
    assert (code, said) == (3, "begun\nended\n")
    assert "begun\n" in shown


def test_nothing_is_left_of_what_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_watched(
            [sys.executable, "-c", WAITS], lambda *_: None, cwd=tmp_path, limit_s=0.2, every_s=0.05
        )


def test_nothing_is_left_where_whoever_waits_gives_up(tmp_path: Path) -> None:
    """Also not of what it has started, which holds its output open."""
    started = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}])"

    def give_up(_taken: float, _said: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_watched([sys.executable, "-c", started], give_up, cwd=tmp_path, every_s=0.05)


def test_what_comes_at_once_is_not_shown() -> None:
    def show(_taken: float, _said: str) -> None:
        raise AssertionError

    assert run_watched([sys.executable, "-c", "print(1)"], show) == (0, "1\n")
