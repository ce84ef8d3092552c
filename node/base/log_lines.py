"""The log for people: one coloured line for an event."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from unchained.node.base.logs import Event
from unchained.node.base.terminal_text import harmless

_STYLES: Mapping[str, str] = {
    "debug": "dim",
    "info": "green",
    "warning": "yellow",
    "error": "bold red",
    "critical": "bold white on red",
}
_HIDDEN = frozenset({"time", "level", "event", "task", "service", "traceback"})


def event_line(event: Event, *, live: bool = False) -> Text:
    """Return one coloured line for an event, for people; `live`: on the terminal of the process
    that it is of."""
    level = str(event["level"])
    # A failure that ends the node is its process's last line on stderr: there it would stand twice.
    is_said = live and event["event"] == "node.stopped" and "traceback" in event
    hidden = _HIDDEN | {"error"} if is_said else _HIDDEN
    line = Text()
    line.append(f"{event['time']!s:.19} ".replace("T", " "), "dim")
    line.append(f"{level:8}", _STYLES.get(level, ""))
    line.append(f" {event['event']!s:20}", "bold")
    for name, value in event.items():
        if name not in hidden:
            line.append(f" {name}=", "cyan")
            # Control characters of others, such as a peer's version string, stay harmless.
            line.append(harmless(str(value)))
    return line


class Terminal:
    """One coloured line for an event, for people, without tracebacks: those go to the file."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, event: Event) -> None:
        """Print one line, wrapped where the terminal ends."""
        self._console.print(event_line(event, live=True), soft_wrap=True, highlight=False)

    def close(self) -> None:
        """Leave the terminal as it is."""
