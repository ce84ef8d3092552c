"""What the torture leaves of a round that fails, and how it says so."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.framework.torture import report as reports
from tests.framework.torture.command import PARTS, run, summary
from tests.framework.torture.report import PartReport


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reports, "KEPT", tmp_path / "out")
    return tmp_path / "out"


def test_the_files_of_a_failure_are_left_when_those_of_the_nodes_are_gone(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = PartReport("kill", 7)
    for what in ("first", "second"):
        data_dir = tmp_path / what
        (data_dir / "chain").mkdir(parents=True)
        (data_dir / "chain/CURRENT").write_text(what)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(data_dir / "s"))
            report.fail("kill 1", what, report.keep(data_dir))
    left = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert left == {"kill-7-1/chain/CURRENT", "kill-7-2/chain/CURRENT"}
    assert (kept / "kill-7-2/chain/CURRENT").read_text() == "second"
    assert f"FAILED kill: kill 1: second (files: {kept}/kill-7-2)\n" in capsys.readouterr().err
    assert f"FAILED kill 1: first (files: {kept}/kill-7-1)" in summary(report)


def test_the_same_round_again_leaves_its_own_files(kept: Path, tmp_path: Path) -> None:
    for text in ("before", "again"):
        copy = PartReport("disk", 7).keep(_only(tmp_path / "data", text))
    assert [path.read_text() for path in copy.iterdir()] == ["again"]


def _only(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("fails", "facts", "code"),
    [(False, {}, 0), (True, {}, 1), (False, {"not run": "there is no such tool here"}, 1)],
)
def test_the_exit_code_says_whether_all_holds(
    fails: bool,
    facts: dict[str, str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(report: PartReport, times: int) -> None:
        assert times == 1
        report.facts.update(facts)
        if fails:
            report.fail("case", "it does not hold")

    monkeypatch.setitem(PARTS, "kill", (9, work, "kills"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert run(["kill", "--times", "1", "--seed", "3"]) == code
    said = capsys.readouterr().out
    assert said.startswith("kill: kills; 1 time, --seed 3\n")
    assert ("there is no such tool here" in said) is bool(facts)
