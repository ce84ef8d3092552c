"""Files of secrets: nobody else reads them, and none is left half written."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unchained.node.base.files import (
    private_file,
    read_private,
    remove_unfinished,
    unfinished,
    write_private,
)

WRITER = """
import sys
from pathlib import Path
from unchained.node.base.files import private_file
with private_file(Path(sys.argv[1])) as file:
    file.write(b"secret")
    file.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _open_to_all() -> None:
    os.umask(0o022)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_others_may_have_read_is_refused_or_closed(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"secret")
    assert mode(path) == 0o600
    assert read_private(path, 6) == b"secret"
    assert read_private(path, 3) == b"secr", "one byte more shows that it is too long"
    for others in (0o640, 0o604, 0o620, 0o601):
        path.chmod(others)
        with pytest.raises(PermissionError) as caught:
            read_private(path, 6)
        assert caught.value.strerror == "others can read it: chmod 600 it"
        assert mode(path) == others
        assert read_private(path, 6, close=True) == b"secret"
        assert mode(path) == 0o600
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "none", 6)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with private_file(path) as file:
        file.write(b"se")
        (beside,) = tmp_path.iterdir()
        assert mode(beside) == 0o600
        file.write(b"cret")
    assert (path.read_bytes(), mode(path)) == (b"secret", 0o600)

    def fail() -> None:
        with private_file(path) as file:
            file.write(b"other")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"secret"
    with pytest.raises(FileExistsError):
        write_private(path, b"other", replace=False)
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have a process that writes a file and is not done with it."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield process


def killed(path: Path) -> Path:
    """Kill a process that writes a file; return what it has left."""
    before = set(path.parent.iterdir())
    with writing(path) as process:
        process.send_signal(signal.SIGKILL)
    (left,) = set(path.parent.iterdir()) - before
    assert left.read_bytes() == b"secret"
    return left


def test_what_a_crash_has_left_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    path, other = tmp_path / "secret", tmp_path / "secret.2"
    left = {killed(path), killed(other)}
    assert set(unfinished(tmp_path, lambda _: True)) == left
    write_private(path, b"new")
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (b"new", 2)
    killed(path)
    with pytest.raises(FileExistsError):
        write_private(path, b"other", replace=False)
    assert remove_unfinished(tmp_path, ["secret.2"].__contains__) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_somebody_writes_is_left_to_him(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with writing(path) as process:
        assert unfinished(tmp_path, lambda _: True) == []
        assert remove_unfinished(tmp_path, lambda _: True) == 0
        write_private(path, b"mine")
        process.communicate("")
    assert process.returncode == 0
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"secret"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_is_locked_until_it_has_its_own_name(
    replace: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, name = tmp_path / "secret", os.replace if replace else os.link
    looked = []

    def look(beside: Path, *_: object) -> None:
        with beside.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert unfinished(tmp_path, lambda _: True) == []
        looked.append(beside.read_bytes())
        name(beside, path)

    if replace:
        monkeypatch.setattr(Path, "replace", look)
    else:
        monkeypatch.setattr(os, "link", look)
    write_private(path, b"secret", replace=replace)
    assert looked == [b"secret"]
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"secret"]


def test_who_is_taken_for_a_crash_before_he_has_locked_his_file_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = fcntl.flock, list[int]()

    def late(descriptor: int, how: int) -> None:
        if not removed:
            removed.append(0)
            removed[0] = remove_unfinished(tmp_path, lambda _: True)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_private(tmp_path / "secret", b"secret")
    assert removed == [1]
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"secret"]


def test_nothing_is_removed_but_what_is_called_so(tmp_path: Path) -> None:
    digits = "0123456789abcdef"
    names = [
        f"secret.{digits}",
        f".secret.{digits[:-1]}",
        f".secret.{digits}0",
        f".secret.{digits.upper()}",
        f".secret.{digits}.bak",
        f".other.{digits}",
        f"..{digits}",
    ]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / f".secret.{digits[::-1]}").symlink_to(tmp_path / names[0])
    (tmp_path / f".secret.{digits}").mkdir()
    os.mkfifo(tmp_path / f".secret.{digits[1:]}0")
    before = set(tmp_path.iterdir())
    assert remove_unfinished(tmp_path, "secret".__eq__) == 0
    assert set(tmp_path.iterdir()) == before
    assert unfinished(tmp_path / "none", lambda _: True) == []
