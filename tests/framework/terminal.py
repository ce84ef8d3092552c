"""A program on a terminal of its own: what it shows, what is typed, what it leaves behind."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

PATIENCE_S = 60.0

# Makes the terminal on standard input that of its session, then becomes the program.
_SHIM = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

ENTERS, LEAVES = "\x1b[?1049h", "\x1b[?1049l"
"""What switches to the terminal's other screen, and back."""


class TerminalProgram:
    """A running program on a pseudo-terminal of `rows` and `columns`."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        rows: int = 40,
        columns: int = 120,
        stdout: IO[bytes] | None = None,
    ) -> None:
        """Start it, with its standard output to a file if one is given."""
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._before = self._modes()
        self._shown = ""
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SHIM, *command],
            stdin=self._slave,
            stdout=self._slave if stdout is None else stdout,
            stderr=self._slave,
            env=dict(env),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    @property
    def raw(self) -> str:
        """Everything written so far, escape sequences included."""
        return self._shown

    @property
    def text(self) -> str:
        """Everything written so far, without escape sequences."""
        return _ESCAPE.sub("", self._shown)

    @property
    def restored(self) -> bool:
        """Whether modes, screen and cursor are as they were before the program."""
        own_screen = self._shown.rfind(LEAVES) >= self._shown.rfind(ENTERS)
        cursor = self._shown.rfind("\x1b[?25h") >= self._shown.rfind("\x1b[?25l")
        return own_screen and cursor and self._modes() == self._before

    @property
    def quiet(self) -> bool:
        """Whether what is typed is not shown."""
        return not self._modes()[3] & termios.ECHO

    def type(self, keys: str) -> int:
        """Type keys; return how much had been shown before."""
        os.write(self._master, keys.encode())
        return len(self._shown)

    def send(self, number: int) -> None:
        """Send a signal to the program alone."""
        self._process.send_signal(number)

    def wait_text(self, pattern: str, after: int = 0, patience_s: float = PATIENCE_S) -> str:
        """Return what a pattern matched in what was shown from `after` on, once it does."""
        return self._wait_for(
            lambda: re.search(pattern, _ESCAPE.sub("", self._shown[after:])), patience_s
        )

    def wait_raw(self, piece: str) -> None:
        """Return once a piece was written, escape sequences included."""
        self._wait_for(lambda: re.search(re.escape(piece), self._shown))

    def _wait_for(
        self, find: Callable[[], re.Match[str] | None], patience: float = PATIENCE_S
    ) -> str:
        with self._news:
            while (found := find()) is None and patience > 0:
                ended = self._process.poll() is not None
                self._news.wait(0.5)
                # What it wrote last may still be on its way here.
                patience = 0 if ended else patience - 0.5
            found = found or find()
        if found is None:
            raise AssertionError(f"not shown; the end was:\n{self.text[-3000:]}")
        return found[0]

    def wait(self) -> int:
        """Return the exit code, once all that was written is read."""
        code = self._process.wait(PATIENCE_S)
        # The terminal outlives the program: a mark of ours shows that all before it was read.
        os.write(self._slave, b"\x1b[0m<end>")
        self.wait_raw("<end>")
        return code

    def end(self) -> None:
        """Leave nothing of it behind."""
        if self._process.poll() is None:
            os.killpg(self.pid, 9)
            self._process.wait()
        os.close(self._slave)
        self._reader.join(PATIENCE_S)
        os.close(self._master)

    def _modes(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 65536)
            except OSError:
                return
            if not piece:
                return
            with self._news:
                self._shown += piece.decode(errors="replace")
                self._news.notify_all()


@contextmanager
def on_terminal(
    command: Sequence[str],
    env: Mapping[str, str],
    rows: int = 40,
    columns: int = 120,
    stdout: IO[bytes] | None = None,
) -> Iterator[TerminalProgram]:
    """Run a program on a terminal while the context lasts, its standard output to a file if one is
    given."""
    program = TerminalProgram(command, env, rows, columns, stdout)
    try:
        yield program
    finally:
        program.end()
