"""Real processes for functional tests: `unchained-node` with its log read as it comes.

A test waits for events of the log, never for time to pass. When a test fails, the data directories
of its `home` stay and how to look at them is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

import pytest

from tests.framework.interrupts import signals_held

Event = dict[str, object]

PATIENCE_S = 180.0
"""How long anything may take on a busy machine before a test gives up on it."""
LUCK_S = 600.0
"""How long a coin or an anchor may take that workers have to be lucky for, on a busy machine."""
TAIL = 40
"""Lines shown of each stream when a test fails."""


def node_program() -> str:
    """Return the path of `unchained-node` in the environment that runs the tests."""
    return str(Path(sys.executable).parent / "unchained-node")


class Running(Protocol):
    """A process as `subprocess.Popen` shows it."""

    pid: int
    stdout: IO[str] | None
    stderr: IO[str] | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


class NodeProcess:
    """A running process that logs JSON lines on standard output."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        run: Callable[[Sequence[str], Mapping[str, str]], Running] | None = None,
    ) -> None:
        """`run` runs the command in this environment where that is not left to `Popen`."""
        self.command = list(command)
        self.events: list[Event] = []
        """Everything logged so far, in order; append-only."""
        self.output: list[str] = []
        """Lines of standard output that are no events."""
        self.errors: list[str] = []
        """Lines of standard error."""
        self._news = threading.Condition()
        self._ended = 0
        self._process: Running = (
            run(self.command, env) if run is not None else self._popen(env, cwd)
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._take_line)),
            threading.Thread(target=self._read, args=(self._process.stderr, self.errors.append)),
        ]
        for reader in self._readers:
            reader.start()

    def _popen(self, env: Mapping[str, str], cwd: Path | None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id, which is also its process group's."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait_event(
        self,
        name: str,
        wanted: Callable[[Event], bool] = lambda event: True,
        *,
        after: int = 0,
        timeout_s: float = PATIENCE_S,
    ) -> Event:
        """Return the first event of that name that fits, from the index `after` on.

        Raises AssertionError if the output ends or the time is up before.
        """

        def find() -> Event | None:
            fitting = (e for e in self.events[after:] if e["event"] == name and wanted(e))
            return next(fitting, None)

        with self._news:
            self._news.wait_for(lambda: find() is not None or self._ended == 2, timeout_s)
            event = find()
        if event is None:
            why = "the process ended" if self._ended == 2 else f"{timeout_s:g} s passed"
            raise AssertionError(f'no fitting event "{name}": {why}')
        return event

    def wait_events(self, count: int, name: str, timeout_s: float = PATIENCE_S) -> list[Event]:
        """Return the first `count` events of that name once there are so many."""

        def found() -> list[Event]:
            return [event for event in self.events if event["event"] == name]

        with self._news:
            self._news.wait_for(lambda: len(found()) >= count or self._ended == 2, timeout_s)
            events = found()
        if len(events) < count:
            raise AssertionError(f'{len(events)} events "{name}", expected {count}')
        return events[:count]

    def wait_output(self, enough: Callable[[list[str]], bool], timeout_s: float) -> bool:
        """Wait until the lines that are no events are enough, or until it ends or the time is up;
        return whether they are."""
        with self._news:
            self._news.wait_for(lambda: enough(self.output) or self._ended == 2, timeout_s)
            return enough(self.output)

    def send(self, number: int) -> None:
        """Send a signal to the process alone, not to its workers."""
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        """Ask it to stop and return its exit code."""
        if self.running:
            self.send(number)
        return self.wait(timeout_s)

    def kill(self) -> int:
        """End it at once, as a power cut would, and return its exit code."""
        return self.stop(signal.SIGKILL)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Return the exit code once it has ended and all its output is read."""
        code = self._process.wait(timeout_s)
        for reader in self._readers:
            reader.join(timeout_s)
        return code

    def end(self) -> None:
        """Leave nothing of it behind, whatever state it is in."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has ended; or it was just forked, and leads no group yet.
            self.send(signal.SIGKILL)
        self.wait()

    def tail(self) -> str:
        """Return the ends of its streams, for people."""
        lines = [f"$ {' '.join(self.command)}"]
        lines += [json.dumps(event) for event in self.events[-TAIL:]]
        lines += [f"stdout: {line}" for line in self.output[-TAIL:]]
        lines += [f"stderr: {line}" for line in self.errors[-TAIL:]]
        return "\n".join(lines)

    def _read(self, stream: IO[str], take: Callable[[str], None]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    take(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended += 1
            self._news.notify_all()

    def _take_line(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and "event" in event:
            self.events.append(event)
        else:
            self.output.append(line)


def clean_environment(home: Path) -> dict[str, str]:
    """Return this process's environment without settings of the person who runs the tests."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("UNCHAINED_")}
    # Any free port: several nodes run on one machine, in tests that run side by side.
    own = {"HOME": str(home), "PYTHONUNBUFFERED": "1", "TERM": "dumb"}
    # A node of a test has a network only where that is asked for, and no port that others may want.
    alone = {"UNCHAINED_RPC__LISTEN": "127.0.0.1:0", "UNCHAINED_NETWORK__LISTEN": ""}
    # What a test waits for is mined as fast as the machine can, not in what others leave over.
    eager = {"UNCHAINED_MINING__NICE": "0"}
    return kept | own | alone | eager


class NodeHome:
    """A temporary home for the nodes of one test: directories, and processes that end with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.processes: list[NodeProcess] = []

    def data_dir(self, name: str = "node") -> Path:
        """Return the data directory of the node of that name."""
        return self.path / name

    def start(
        self,
        *arguments: str,
        name: str = "node",
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
        run: Callable[[Sequence[str], Mapping[str, str]], Running] | None = None,
    ) -> NodeProcess:
        """Run ``unchained-node start --json --data-dir …`` with more arguments; for another
        `program`, that with the arguments alone, by `run` if that is given."""
        if program:
            command = [*program, *arguments]
        else:
            command = [
                node_program(), "start", "--json", "--data-dir", str(self.data_dir(name)),
                *arguments,
            ]  # fmt: skip
        environment = clean_environment(self.path) | dict(env or {})
        with signals_held():
            process = NodeProcess(command, env=environment, run=run)
            self.processes.append(process)
        return process

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of ``unchained-node`` to its end."""
        return subprocess.run(
            [node_program(), *arguments],
            env=clean_environment(self.path) | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def close(self, *, keep: bool) -> None:
        """End all processes; keep the files and say where they are, or remove them."""
        for process in self.processes:
            process.end()
        if not keep:
            shutil.rmtree(self.path)
            return
        for process in self.processes:
            print(process.tail())
        print(f"the nodes' files are kept: ls -R {self.path}; tail {self.path}/*/node.log")


@contextlib.contextmanager
def node_home(request: pytest.FixtureRequest | None = None) -> Iterator[NodeHome]:
    """Give a test a home for nodes; what still runs is killed at the end.

    If the test fails the home is kept, and its place and the ends of all output are printed. A
    fixture sees no failure of the tests that use it, and gives its `request`.
    """
    home = NodeHome(Path(tempfile.mkdtemp(prefix="unchained-test-")))
    failures = 0 if request is None else request.session.testsfailed
    keep = True
    try:
        yield home
        keep = request is not None and request.session.testsfailed > failures
    except (KeyboardInterrupt, SystemExit):
        keep = False  # somebody has ended it, nothing has failed
        raise
    finally:
        home.close(keep=keep)
