"""The log: events with fixed dotted names, to a rotating file and to the terminal.

A task that logs never waits: an event is made plain where it happens, put into the bounded queue of
each sink and written by that sink's own thread. A full queue drops and counts. Several nodes in
one process have a `Logs` each; nothing here is global but structlog's context variables, which
follow tasks and worker threads.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import queue
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO, cast

import msgspec
import structlog
import trio
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from unchained.node.base.clock import Clock
from unchained.node.base.line_limits import LineLimits
from unchained.node.base.log_file import FileLimits, RotatingFile
from unchained.node.base.terminal_text import json_line

Level = Literal["debug", "info", "warning", "error", "critical"]
LEVELS: dict[str, int] = {
    "debug": 10,
    "info": 20,
    "warning": 30,
    "error": 40,
    "critical": 50,
}
QUEUE_EVENTS = 10_000
"""Events that may wait for one sink; at some 500 bytes each."""
FLUSH_S = 2.0
"""How long closing waits for each sink: a stalled terminal must not keep the node from ending."""
SECRET = re.compile(r"mnemonic|passphrase|password|secret|seed|private|cookie|token", re.IGNORECASE)
"""Names of fields that are never written, wherever they come from: a last line of defence."""
MASK = "***"

Event = Mapping[str, object]


class LogOutput(Protocol):
    """Where a sink writes; called in the sink's thread only."""

    def write(self, event: Event) -> None:
        """Write one event; raises OSError or ValueError where it cannot."""

    def close(self) -> None:
        """Flush and close."""


class SinkStatistics(msgspec.Struct, frozen=True, gc=False):
    """What one sink did so far."""

    name: str
    written: int
    dropped: int
    """Events for which the queue had no room."""
    failed: int
    """Events that could not be written, as on a full disk."""
    waiting: int
    capacity: int
    """Events that wait, and that may."""


class Sink:
    """A bounded queue and the thread that empties it into an output."""

    def __init__(self, name: str, output: LogOutput, capacity: int = QUEUE_EVENTS) -> None:
        self._name = name
        self._output = output
        self._queue: queue.Queue[Event | None] = queue.Queue(capacity)
        self._written = self._dropped = self._failed = 0
        self._reported = 0
        self._thread = threading.Thread(target=self._work, name=f"log {name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queue the event, or count it as dropped; never waits."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is queued, waiting at most `FLUSH_S` seconds."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=FLUSH_S)
            self._thread.join(FLUSH_S)

    def statistics(self) -> SinkStatistics:
        """Return a snapshot of the counters."""
        return SinkStatistics(
            self._name,
            self._written,
            self._dropped,
            self._failed,
            self._queue.qsize(),
            self._queue.maxsize,
        )

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            self._write(event)
            if self._dropped > self._reported:
                lost, self._reported = self._dropped - self._reported, self._dropped
                self._write(
                    {
                        "time": event["time"],
                        "level": "warning",
                        "event": "log.dropped",
                        "count": lost,
                        "sink": self._name,
                    }
                )
        with contextlib.suppress(OSError, ValueError):
            self._output.close()

    def _write(self, event: Event) -> None:
        try:
            self._output.write(event)
            self._written += 1
        except (OSError, ValueError):
            self._failed += 1


class JsonLines:
    """JSON lines on a stream, without tracebacks: those go to the file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, event: Event) -> None:
        """Write and flush one line."""
        shown = {name: value for name, value in event.items() if name != "traceback"}
        self._stream.write(json_line(shown) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Flush the stream, which stays open."""
        self._stream.flush()


class LogStatistics(msgspec.Struct, frozen=True):
    """What the sinks did so far."""

    sinks: tuple[SinkStatistics, ...]
    events: Mapping[str, int]
    """Events by level, those for which a queue had no room among them."""

    @property
    def dropped(self) -> int:
        """Events that a full queue had no room for."""
        return sum(sink.dropped for sink in self.sinks)

    @property
    def failed(self) -> int:
        """Events that could not be written."""
        return sum(sink.failed for sink in self.sinks)


class _LevelledLogger(structlog.make_filtering_bound_logger(0)):  # type: ignore[misc]
    """A logger that leaves lines of level `debug` before anything is done for them."""

    def debug(self, event: str, *args: Any, **fields: Any) -> Any:
        if self._logger.hides_debug:
            return None
        return super().debug(event, *args, **fields)


class Logs:
    """The log of one node: `log` is what its components are given."""

    def __init__(self, sinks: Sequence[Sink], clock: Clock, level: Level = "info") -> None:
        self._sinks = tuple(sinks)
        self._clock = clock
        self._threshold = LEVELS[level]
        self._of_subsystem: dict[str, int] = {}
        self.hides_debug = LEVELS[level] > LEVELS["debug"]
        """Whether nothing of level `debug` is wanted, of no subsystem."""
        self._limits = LineLimits()
        self._events: Counter[str] = Counter(dict.fromkeys(LEVELS, 0))
        self.log: FilteringBoundLogger = structlog.wrap_logger(
            self,
            processors=[self._admit, structlog.contextvars.merge_contextvars, self._emit],
            wrapper_class=_LevelledLogger,
            context_class=dict,
            cache_logger_on_first_use=False,
        ).bind()

    def set_level(self, level: Level, subsystem: str | None = None) -> None:
        """Leave out events below the level from here on: all, or those whose name begins with
        the subsystem's. The level of all holds for each that has none of its own; setting it takes
        those away."""
        if subsystem is None:
            self._threshold = LEVELS[level]
            self._of_subsystem.clear()
        else:
            self._of_subsystem[subsystem] = LEVELS[level]
        least = min(self._threshold, *self._of_subsystem.values(), LEVELS["critical"])
        self.hides_debug = least > LEVELS["debug"]

    def levels(self) -> Mapping[str, Level]:
        """Return the levels of the subsystems that have one of their own."""
        names = {number: name for name, number in LEVELS.items()}
        return {
            subsystem: cast(Level, names[number])
            for subsystem, number in self._of_subsystem.items()
        }

    def statistics(self) -> LogStatistics:
        """Return a snapshot of the sinks' counters."""
        return LogStatistics(tuple(sink.statistics() for sink in self._sinks), dict(self._events))

    def close(self) -> None:
        """Write what is queued and end the sinks' threads."""
        for sink in self._sinks:
            sink.close()

    def _admit(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        subsystem = str(event["event"]).partition(".")[0]
        threshold = self._of_subsystem.get(subsystem, self._threshold)
        if LEVELS.get("error" if method == "exception" else method, 0) < threshold:
            raise structlog.DropEvent
        if not self._limits.admits(event["event"], self._clock.now_ms() / 1000):
            raise structlog.DropEvent
        untold = self._limits.take_untold(event["event"])
        if untold:
            event["untold"] = untold
        return event

    def _emit(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        plain: dict[str, object] = {
            "time": iso_time(self._clock.now_ms()),
            "level": "error" if method == "exception" else method,
            "event": event.pop("event"),
        }
        if trio.lowlevel.in_trio_task():
            plain["task"] = trio.lowlevel.current_task().name
        self._events[str(plain["level"])] += 1
        error = event.pop("exc_info", None)
        if error is True:
            error = sys.exception()
        for name, value in event.items():
            plain[name] = MASK if SECRET.search(name) else make_plain(value)
        if isinstance(error, BaseException):
            plain["traceback"] = "".join(traceback.format_exception(error))
        for sink in self._sinks:
            sink.put(plain)
        raise structlog.DropEvent


def iso_time(now_ms: int) -> str:
    """Return a time in ms since the Unix epoch as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(now_ms // 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03d}Z"


def make_plain(value: object) -> object:
    """Return the value as JSON can hold it: bytes in hex, sequences as lists, the rest as text.

    Done where the event happens, so that a sink's thread never reads a value that is changing. What
    can be called is called for its value: so a field that is expensive costs only where its line
    is written.
    """
    if callable(value):
        value = value()
    match value:
        case None | bool() | int() | float() | str():
            # Integers beyond 64 bits are targets and sums of work.
            wide = isinstance(value, int) and not -(2**63) <= value < 2**64
            return str(value) if wide else value
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case list() | tuple() | set() | frozenset():
            return [make_plain(item) for item in value]
        case Mapping():
            return {str(name): make_plain(item) for name, item in value.items()}
        case _:
            return str(value)


@contextlib.contextmanager
def open_logs(
    *,
    clock: Clock,
    level: Level = "info",
    file: Path | None = None,
    file_limits: FileLimits | None = None,
    stream: TextIO | None = None,
    json: bool = False,
    screen: LogOutput | None = None,
) -> Iterator[Logs]:
    """Log to the file and the stream while the context lasts, then flush and close.

    The stream gets coloured lines if it is a terminal and `json` is false, else JSON lines; what
    is given as `screen` stands in its place.
    Raises OSError if the file cannot be opened.
    """
    sinks = []
    if file is not None:
        sinks.append(Sink("file", RotatingFile(file, file_limits)))
    if screen is not None:
        sinks.append(Sink("terminal", screen))
    elif stream is not None:
        terminal = stream.isatty() and not json
        sinks.append(Sink("terminal", _on_terminal(stream) if terminal else JsonLines(stream)))
    logs = Logs(sinks, clock, level)
    try:
        yield logs
    finally:
        logs.close()


def _on_terminal(stream: TextIO) -> LogOutput:
    # Only here: who draws nothing does without what draws.
    from rich.console import Console

    from unchained.node.base.log_lines import Terminal

    return Terminal(Console(file=stream))


class _Forward(logging.Handler):
    """Hands records of the standard library's logging to a log of ours."""

    def __init__(self, say: Callable[[str, str, str, BaseException | None], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        self._say(level, record.name, record.getMessage(), error)


@contextlib.contextmanager
def forward_libraries(log: FilteringBoundLogger) -> Iterator[None]:
    """Turn warnings and errors of libraries into `library.*` events while the context lasts.

    It hooks the root of the standard library's logging, which a process has only one of: for the
    command line, not for components.
    """

    def say(level: str, library: str, message: str, error: BaseException | None) -> None:
        if level == "error":
            log.error("library.error", library=library, message=message, exc_info=error)
        else:
            log.warning("library.warning", library=library, message=message, exc_info=error)

    root = logging.getLogger()
    handler = _Forward(say)
    before = list(root.handlers)
    root.handlers = [handler]
    try:
        yield
    finally:
        root.handlers = before
