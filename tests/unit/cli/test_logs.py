"""``unchained-node logs``: what is shown of a log, and how it is followed."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import pytest

from unchained.node.cli import main
from unchained.node.cli.logs import Wanted, lines_of, show

Capture = pytest.CaptureFixture[str]
ID = "ab" * 32


def line(event: str, level: str = "info", **fields: object) -> str:
    return json.dumps(
        {"time": "2026-11-21T12:00:00.000Z", "level": level, "event": event, **fields}
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    old = [line("anchor.counted", "debug", id=ID), line("chain.opened")]
    (tmp_path / "node.log.2.gz").write_bytes(gzip.compress((old[0] + "\n").encode()))
    (tmp_path / "node.log.1.gz").write_bytes(gzip.compress((old[1] + "\n").encode()))
    new = [
        line("sync.scan_failed", "debug", peer="12D3Koo", anchor=ID),
        line("anchor.connected", id="cd" * 32),
        line("peer.banned", "warning", peer="12D3Kxx"),
        '{"cut of',
    ]
    (tmp_path / "node.log").write_text("\n".join(new))
    return tmp_path


def shown(capsys: Capture, directory: Path, *arguments: str) -> list[str]:
    assert main.run(["logs", "--data-dir", str(directory), "--json", *arguments]) == 0
    return [json.loads(row)["event"] for row in capsys.readouterr().out.splitlines()]


def test_all_of_it_oldest_first(directory: Path, capsys: Capture) -> None:
    assert shown(capsys, directory) == [
        "anchor.counted", "chain.opened", "sync.scan_failed", "anchor.connected", "peer.banned",
    ]  # fmt: skip


def test_the_story_of_one_anchor(directory: Path, capsys: Capture) -> None:
    assert shown(capsys, directory, "--anchor", ID[:12]) == ["anchor.counted", "sync.scan_failed"]


def test_by_peer_level_and_subsystem(directory: Path, capsys: Capture) -> None:
    assert shown(capsys, directory, "--peer", "12D3Koo") == ["sync.scan_failed"]
    assert shown(capsys, directory, "--coin", "cd" * 6) == ["anchor.connected"]
    assert shown(capsys, directory, "--level", "warning") == ["peer.banned"]
    assert shown(capsys, directory, "--subsystem", "chain") == ["chain.opened"]


def test_the_last_of_what_is_wanted(directory: Path, capsys: Capture) -> None:
    assert shown(capsys, directory, "-n", "2") == ["anchor.connected", "peer.banned"]
    assert shown(capsys, directory, "--lines", "9") == shown(capsys, directory)
    found = shown(capsys, directory, "--subsystem", "anchor", "-n", "1")
    assert found == ["anchor.connected"]


def test_the_last_lines_come_first_and_then_what_follows(
    directory: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory / "node.log"
    path.write_text("".join(line(f"a.{number}") + "\n" for number in range(5)))

    def sleep(_: float) -> None:
        if "a.5" in path.read_text():
            raise KeyboardInterrupt
        with path.open("a") as log:
            log.write(line("a.5") + "\n" + line("a.6") + "\n")

    monkeypatch.setattr("time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        show(path, Wanted(0, "", ()), follow=True, json=True, last=2)
    events = [json.loads(row)["event"] for row in capsys.readouterr().out.splitlines()]
    assert events == ["a.3", "a.4", "a.5", "a.6"]


def test_what_is_wrong_is_said_in_one_line(directory: Path, capsys: Capture) -> None:
    assert main.run(["logs", "--data-dir", str(directory), "--anchor", "ab"]) == main.WRONG_USE
    assert "first 6 characters" in capsys.readouterr().err
    assert main.run(["logs", "--data-dir", str(directory), "--level", "x"]) == main.WRONG_USE
    assert "expected one of debug" in capsys.readouterr().err
    (directory / "node.log").unlink()
    assert main.run(["logs", "--data-dir", str(directory)]) == main.FAILED
    assert "there is no log here" in capsys.readouterr().err


def test_what_no_node_wrote_is_passed_over(directory: Path, capsys: Capture) -> None:
    wanted = shown(capsys, directory)
    with (directory / "node.log").open("a") as log:
        log.write('{"event": "a.b", "level": "info"}\n[1]\n{}\nno JSON\n')
    with (directory / "node.log").open("ab") as log:
        # Two nodes' lines in one, the first of them broken off inside a letter.
        log.write(b'{"event": "M\xc3{"event"\n')
    assert shown(capsys, directory) == wanted
    assert main.run(["logs", "--data-dir", str(directory)]) == 0


def test_it_is_followed_through_a_rotation(directory: Path) -> None:
    path = directory / "node.log"
    path.write_text(line("a.1") + "\n")
    seen: list[bytes] = []
    first, second = threading.Event(), threading.Event()

    def read() -> None:
        for row in lines_of(path, follow=True):
            seen.append(row)
            if b"a.1" in row:
                first.set()
            if b"a.2" in row:
                second.set()
                return

    reader = threading.Thread(target=read)
    reader.start()
    assert first.wait(30)
    path.replace(directory / "node.log.old")
    path.write_text(line("a.2") + "\n")
    assert second.wait(30)
    reader.join()
    events = [json.loads(row)["event"] for row in seen if row]
    assert events[-2:] == ["a.1", "a.2"]
