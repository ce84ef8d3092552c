"""What is told to the service manager, over a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from unchained.node.base.service_manager import WATCHDOG_SHARE, ServiceManager


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = str(tmp_path / "notify") if request.param == "file" else f"@unchained{os.getpid()}"
        listening.bind(name.replace("@", "\0", 1))
        listening.setblocking(False)
        yield listening, name


def heard(listening: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listening.recv(4096).decode())
        except BlockingIOError:
            return found


def test_ready_and_stopping_are_sent(manager: tuple[socket.socket, str]) -> None:
    listening, name = manager
    told = ServiceManager({"NOTIFY_SOCKET": name})
    told.ready("network reg")
    told.stopping()
    assert heard(listening) == ["READY=1\nSTATUS=network reg", "STOPPING=1"]


async def test_signs_of_life_come_in_time(manager: tuple[socket.socket, str]) -> None:
    listening, name = manager
    told = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10000000"})
    with trio.move_on_after(10 * WATCHDOG_SHARE * 2.5):
        await told.watch()
    assert heard(listening) == ["WATCHDOG=1"] * 3


async def test_nobody_is_told_what_he_does_not_ask_for(
    manager: tuple[socket.socket, str],
) -> None:
    listening, name = manager
    other = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10", "WATCHDOG_PID": str(os.getpid() + 1)}
    await ServiceManager(other).watch()
    await ServiceManager({"NOTIFY_SOCKET": name}).watch()
    await ServiceManager({"WATCHDOG_USEC": "10"}).watch()
    ServiceManager({}).ready("x")
    assert heard(listening) == []


def test_a_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "none")})
    told.ready("x")
    told.stopping()
