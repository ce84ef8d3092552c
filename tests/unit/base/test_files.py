"""Files of secrets: nobody else reads them, and none is left half written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unchained.node.base.files import private_file, read_private, write_private


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
