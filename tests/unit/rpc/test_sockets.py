"""The owner's Unix socket: what is found where it is to be."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from unchained.node.rpc.http.sockets import listen_at


@pytest.mark.real_time
async def test_sockets_that_killed_processes_have_left_go_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rpc.socket"
    left = tmp_path / ".rpc.socket.01234567"
    others = [tmp_path / f".{name}" for name in ("rpc.socket.0123456", "other.socket.01234567")]
    for place in (left, *others):
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(place))
    (file := tmp_path / ".rpc.socket.89abcdef").touch()
    await listen_at(path).aclose()
    assert set(os.listdir(tmp_path)) == {it.name for it in (path, file, *others)}
