"""The terminal while a panel is shown on it: drawn on, listened to, and always given back.

It is an output of the log as well: lines that come while the panel is up are kept for it, and
printed when it is gone. Closing the log, which happens however a node ends, gives the terminal
back.
"""

from __future__ import annotations

import contextlib
import os
import termios
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from unchained.node.base.log_lines import Terminal, event_line
from unchained.node.base.logs import Event

LINES_KEPT: Final = 200
"""Log lines kept while the panel is up."""

LINES_LEFT: Final = 20
"""Log lines printed when the panel goes."""

LEAST_ROWS: Final = 10
LEAST_COLUMNS: Final = 40
"""A terminal smaller than this gets log lines."""

LOCK_WAIT_S: Final = 1.0
"""How long giving back waits for a drawing that a stalled terminal holds up."""


def panel_possible(stdin: TextIO, stdout: TextIO, env: Mapping[str, str]) -> bool:
    """Return whether the panel can be shown: a terminal that is ours, large enough, not dumb."""
    try:
        if not (stdin.isatty() and stdout.isatty()) or env.get("TERM", "dumb") == "dumb":
            return False
        # A process in the background is stopped for touching the terminal's modes.
        if os.tcgetpgrp(stdin.fileno()) != os.getpgrp():
            return False
        size = os.get_terminal_size(stdout.fileno())
    except (OSError, ValueError):
        return False
    return size.lines >= LEAST_ROWS and size.columns >= LEAST_COLUMNS


class Screen:
    """A terminal that shows log lines, or a panel between `enter` and `leave`.

    `keys` is the descriptor that keys are read from. Any thread may call any method.
    """

    def __init__(self, console: Console, keys: int) -> None:
        self.keys = keys
        self.console = console
        self._plain = Terminal(console)
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._modes: list[Any] | None = None
        self._lines: deque[Text] = deque(maxlen=LINES_KEPT)

    def write(self, event: Event) -> None:
        """Print one line, or keep it for the panel."""
        with self._lock:
            if self._live is None:
                self._plain.write(event)
            else:
                self._lines.append(event_line(event, live=True))

    def lines(self, count: int) -> list[Text]:
        """Return the newest lines that came while the panel was up, oldest first."""
        return list(self._lines)[-count:] if count > 0 else []

    @property
    def shown(self) -> bool:
        """Whether the panel is up."""
        return self._live is not None

    def enter(self, first: RenderableType) -> None:
        """Take the terminal and show a first picture. Raises OSError where it is gone."""
        with self._lock:
            if self._live is not None:
                return
            try:
                self._modes = termios.tcgetattr(self.keys)
                off = bytes([os.fpathconf(self.keys, "PC_VDISABLE")])
                termios.tcsetattr(self.keys, termios.TCSADRAIN, _quiet(self._modes, off))
            except termios.error as error:
                raise OSError(*error.args) from None
            self._live = Live(
                first,
                console=self.console,
                screen=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)

    def draw(self, picture: RenderableType) -> None:
        """Show another picture if the panel is up; blocks while the terminal takes it."""
        with self._lock:
            if self._live is not None:
                self._live.update(picture, refresh=True)

    def leave(self) -> None:
        """Give the terminal back as it was, and print the newest lines that came meanwhile."""
        with self._held():
            live, self._live = self._live, None
            modes, self._modes = self._modes, None
            lines = self.lines(LINES_LEFT)
            self._lines.clear()
            if modes is not None:
                with contextlib.suppress(termios.error):
                    # What was typed and not read is for the panel, not for the shell.
                    termios.tcsetattr(self.keys, termios.TCSAFLUSH, modes)
            if live is not None:
                with contextlib.suppress(OSError, ValueError):
                    live.stop()
                    for line in lines:
                        self.console.print(line, soft_wrap=True, highlight=False)

    def close(self) -> None:
        """Give the terminal back."""
        self.leave()

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the lock if it can be had in time: a stalled drawing must not keep it for ever."""
        held = self._lock.acquire(timeout=LOCK_WAIT_S)
        try:
            yield
        finally:
            if held:
                self._lock.release()


def _quiet(modes: list[Any], off: bytes) -> list[Any]:
    """Return modes in which keys come at once and unseen; Ctrl-C stays a signal.

    No suspending, which would leave the panel on the shell's screen, and no stopping of output.
    `off` is the character that stands for none.
    """
    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = modes
    chars = list(cc)
    chars[termios.VMIN], chars[termios.VTIME] = 1, 0
    chars[termios.VSUSP] = off
    return [
        iflag & ~termios.IXON,
        oflag,
        cflag,
        lflag & ~(termios.ICANON | termios.ECHO),
        ispeed,
        ospeed,
        chars,
    ]
