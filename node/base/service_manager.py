"""Telling the service manager that started this process, such as systemd, how it stands.

The protocol of sd_notify(3): datagrams of lines to the socket that `NOTIFY_SOCKET` names. Without
one nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

import trio

WATCHDOG_SHARE: Final = 0.4
"""Part of the time within which a sign of life is expected, after which one is given."""


class ServiceManager:
    """Says that a process is ready, alive and stopping.

    What it says comes from the event loop: one that is blocked for good gives no sign of life,
    and is started anew.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._path = env.get("NOTIFY_SOCKET", "")
        watched = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        micros = env.get("WATCHDOG_USEC", "")
        self._every_s = int(micros) / 1e6 * WATCHDOG_SHARE if watched and micros.isdigit() else 0.0

    def ready(self, status: str) -> None:
        """Say that all has started; `status` is one line for people."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the process has begun to stop."""
        self._send("STOPPING=1")

    async def watch(self) -> None:
        """Give signs of life until cancelled, if any are expected."""
        while self._every_s and self._path:
            self._send("WATCHDOG=1")
            await trio.sleep(self._every_s)

    def _send(self, text: str) -> None:
        if not self._path:
            return
        # A name that begins with @ is in the abstract namespace.
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            try:
                out.setblocking(False)
                out.sendto(text.encode(), address)
            except OSError:
                # A manager that is gone, or does not read, must not take the node with it.
                return
