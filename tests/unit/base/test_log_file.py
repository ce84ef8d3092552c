"""The log's file: set aside by size and age, compressed, kept for a time, and never silent."""

from __future__ import annotations

import gzip
import json
import os
import stat
import time
from pathlib import Path

import pytest

from unchained.node.base.log_file import DAY_S, HOUR_S, FileLimits, RotatingFile


def events(path: Path) -> list[str]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line)["event"] for line in raw.splitlines()]


def fill(output: RotatingFile, first: int, last: int) -> None:
    for n in range(first, last):
        output.write({"event": f"a.{n}", "text": "x" * 30})


def test_it_is_private_holds_json_lines_and_rotates_by_size(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    output = RotatingFile(path, FileLimits(max_bytes=130, count=3))
    fill(output, 0, 20)
    output.close()
    names = ["node.log", "node.log.1.gz", "node.log.2.gz"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in tmp_path.iterdir())
    kept = [event for name in reversed(names) for event in events(tmp_path / name)]
    assert kept == [f"a.{n}" for n in range(14, 20)]


def test_it_rotates_by_age_also_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.log"
    output = RotatingFile(path, FileLimits(hours=24))
    fill(output, 0, 2)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 23 * HOUR_S)
    fill(output, 2, 3)
    assert not (tmp_path / "node.log.1.gz").exists()
    output.close()
    monkeypatch.setattr(time, "time", lambda: now + 25 * HOUR_S)
    output = RotatingFile(path, FileLimits(hours=24))
    fill(output, 3, 4)
    output.close()
    assert events(tmp_path / "node.log.1.gz") == ["a.0", "a.1", "a.2"]
    assert events(path) == ["a.3"]


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    old = tmp_path / "node.log.3.gz"
    old.write_bytes(gzip.compress(b"{}\n"))
    before = time.time() - 20 * DAY_S
    os.utime(old, (before, before))
    output = RotatingFile(path, FileLimits(max_bytes=130, count=9, days=14))
    fill(output, 0, 4)
    output.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["node.log", "node.log.1.gz"]


def test_a_rotation_that_fails_does_not_silence_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.log"
    output = RotatingFile(path, FileLimits(max_bytes=130))

    def refuse(*_: object) -> None:
        raise OSError("Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        fill(output, 0, 6)
    assert events(path) == [f"a.{n}" for n in range(6)]
    # Tried once, not with each line.
    assert output.rotations_failed == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    fill(output, 6, 7)
    output.close()
    assert events(tmp_path / "node.log.1.gz") == [f"a.{n}" for n in range(6)]
    assert events(path) == ["a.6"]


def test_a_new_file_that_cannot_be_made_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.log"
    output = RotatingFile(path, FileLimits(max_bytes=130))
    fill(output, 0, 2)

    def refuse() -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr(output, "_open", refuse)
    fill(output, 2, 4)
    output.close()
    assert events(path) == [f"a.{n}" for n in range(4)]


def test_a_full_disk_leaves_what_was_set_aside_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.log"
    output = RotatingFile(path, FileLimits(max_bytes=130))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(gzip.GzipFile, "write", refuse)
    fill(output, 0, 3)
    output.close()
    assert events(tmp_path / "node.log.1") == ["a.0", "a.1"]
    assert events(path) == ["a.2"]
    assert not (tmp_path / "node.log.1.gz").exists()
