"""Nodes that are forked from one process which has all of the program's modules: what a kill does
to them is the same, and a start takes a tenth of the processor's time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.reduction import DupFd
from typing import IO, Any

SERVER = multiprocessing.get_context("forkserver")
"""A process without threads and without files of a node's: it has modules, and forks."""
SERVER.set_forkserver_preload(["tests.framework.torture.preload"])


class Forked:
    """A running `unchained-node`, as `subprocess.Popen` shows one with pipes for its output."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Run a command of it, whose first word is the program, in this environment."""
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        self.stdout: IO[str] | None = os.fdopen(out, encoding="utf-8", errors="replace")
        self.stderr: IO[str] | None = os.fdopen(err, encoding="utf-8", errors="replace")
        ends = _Ends((out_end, err_end))
        self._process = SERVER.Process(target=_run, args=(tuple(command), dict(env), ends))
        self._process.start()
        for end in (out_end, err_end):
            os.close(end)
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended; raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("unchained-node", timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, sig)


class _Ends:
    """Open files of which the new process is given its own; there a list of their numbers."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers

    def __reduce__(self) -> tuple[Any, ...]:
        return _detached, ([DupFd(number) for number in self._numbers],)


def _detached(given: Sequence[Any]) -> list[int]:
    return [one.detach() for one in given]


def _run(command: Sequence[str], env: Mapping[str, str], ends: Any) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    for number, end in enumerate(ends, 1):
        os.dup2(end, number)
        os.close(end)
    # Those that there are were made for other files.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    sys.argv = list(command)
    sys.exit(import_module("unchained.node.cli.main").main())
