from __future__ import annotations

import os
from pathlib import Path

import pytest

from unchained.node.transport.contract import BadIdentityError
from unchained.node.transport.identity import IDENTITY_FILE_HEADER, Identity


def test_is_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "data" / "identity"
    first = Identity.load_or_create(path)
    assert Identity.load_or_create(path).peer == first.peer
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["identity"]
    assert first.peer.startswith("12D3KooW")
    assert path.read_text().splitlines()[1] not in repr(first)


def test_another_file_is_another_peer(tmp_path: Path) -> None:
    one, other = (Identity.load_or_create(tmp_path / name) for name in ("one", "other"))
    assert one.peer != other.peer


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", IDENTITY_FILE_HEADER.encode() + b"\nabc\n", b"x" * 100]
)
def test_a_corrupt_file_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity"
    path.write_bytes(content)
    with pytest.raises(BadIdentityError) as caught:
        Identity.load_or_create(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadIdentityError, match=r"Not a directory|File exists"):
        Identity.load_or_create(tmp_path / "file" / "identity")
    with pytest.raises(BadIdentityError, match="Is a directory"):
        Identity.load_or_create(tmp_path)


def test_a_readable_file_is_protected(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    Identity.load_or_create(path)
    path.chmod(0o644)
    Identity.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
