"""A pytest process that the tester has started, and what it says."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[3]


class Ended(Exception):
    """The process has closed its channel."""


class TestProcess:
    """The runner over some test files, in a copy of the tree and a process group of its own."""

    __test__ = False

    def __init__(
        self, tree: Path, mode: str, test_files: Sequence[str], *, watched: Sequence[str] = ()
    ) -> None:
        self._answers, answers = os.pipe()
        requests, self._requests = os.pipe()
        environment = environment_for(tree) | {
            "MUTATION_ANSWERS": str(answers),
            "MUTATION_REQUESTS": str(requests),
            "MUTATION_FILES": json.dumps(list(watched)),
            # No plugin of pytest is needed, and each takes time to import.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        self._log_path = tree / f".runner-{mode}.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.framework.mutation.runner", mode, *test_files],
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(answers, requests),
                start_new_session=True,
            )
        os.close(answers)
        os.close(requests)
        self._buffer = b""

    def ask(self, request: dict[str, Any]) -> None:
        """Hand the process something to run."""
        data = (json.dumps(request) + "\n").encode()
        while data:
            data = data[os.write(self._requests, data) :]

    def answer(self, within: float) -> dict[str, Any] | None:
        """Return the next thing that the process says, or None if it says nothing for so long.

        Raises `Ended` if it will say nothing any more.
        """
        until = time.monotonic() + within
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                return None
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise Ended
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def kill(self) -> None:
        """Kill the process with all of its group."""
        kill_group(self._process.pid)

    def close(self) -> None:
        """Kill the process with all of its group, and give its channels back."""
        self.kill()
        self._process.wait()
        for descriptor in (self._answers, self._requests):
            os.close(descriptor)

    @property
    def output(self) -> str:
        """What it has printed, at most the last lines."""
        lines = self._log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])


def environment_for(tree: Path) -> dict[str, str]:
    """Return an environment in which Python finds the product in a copy of the tree."""
    # The project itself comes second, for the tester: a copy may have no tests/framework.
    return os.environ | {
        "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}",
        "PYTHONHASHSEED": "0",
        # What finds a fault by chance does not find it again.
        "UNCHAINED_FRESH_SIMULATION_S": "0",
    }


def kill_group(pid: int) -> None:
    """Kill a process that leads a group, and its group."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
