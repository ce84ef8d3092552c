"""``unchained-node logs``: the log of a node, running or not, or the story of one thing in it."""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from unchained.node.base.log_lines import event_line
from unchained.node.base.logs import LEVELS
from unchained.node.base.settings import LOG_NAME
from unchained.node.base.terminal_text import json_line
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.options import (
    ConfigFileOption,
    DataDirOption,
    JsonOption,
    NetworkOption,
    settings_from,
)

ID_CHARACTERS_MIN: Final = 6
"""Of an id that is looked for: fewer would find too much."""

LOGS_LOOK_S: Final = 0.5
"""Seconds between two looks of ``logs --follow``."""


def add_to(root: typer.Typer) -> None:
    """Add the command."""
    root.command("logs")(logs)


class Wanted(msgspec.Struct, frozen=True):
    """Which events are shown. `ids` begin the value of any field, or of the field that is named."""

    level: int
    subsystem: str
    ids: tuple[tuple[str, str], ...]

    def admits(self, event: dict[str, Any]) -> bool:
        """Return whether an event is to be shown."""
        if LEVELS.get(str(event.get("level")), 0) < self.level:
            return False
        name = str(event.get("event", ""))
        if self.subsystem and name.partition(".")[0] != self.subsystem:
            return False
        return all(self._tells_of(event, field, start) for field, start in self.ids)

    def _tells_of(self, event: dict[str, Any], field: str, start: str) -> bool:
        # An anchor's own events have it as `id`, `tip` or `winner`.
        told = str(event.get(field, ""))
        return told.startswith(start) or (
            field != "peer"
            and any(isinstance(value, str) and value.startswith(start) for value in event.values())
        )


@user_text(
    "Print the log in the data directory, the oldest file first. With --anchor, --coin, "
    "--transfer or --peer only what it tells of one of these."
)
def logs(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as events come, until Ctrl-C.")
    ] = False,
    anchor: Annotated[
        str | None,
        typer.Option(
            "--anchor",
            metavar="ID",
            help="Lines about this anchor; the first digits of its id will do.",
        ),
    ] = None,
    coin: Annotated[
        str | None, typer.Option("--coin", metavar="ID", help="Lines about this coin.")
    ] = None,
    transfer: Annotated[
        str | None, typer.Option("--transfer", metavar="ID", help="Lines about this transfer.")
    ] = None,
    peer: Annotated[
        str | None, typer.Option("--peer", metavar="ID", help="Lines about this peer.")
    ] = None,
    subsystem: Annotated[
        str, typer.Option("--subsystem", metavar="NAME", help="Only events NAME.*, such as net.")
    ] = "",
    level: Annotated[
        str, typer.Option("--level", metavar="LEVEL", help="Lines of this level and above.")
    ] = "debug",
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", metavar="N", min=1, help="The last N of these alone."),
    ] = None,
    json: JsonOption = False,
) -> None:
    flags = {"node.network": ("--network", network), "node.data_dir": ("--data-dir", data_dir)}
    path = settings_from(flags, config=config).data_dir / LOG_NAME
    if level not in LEVELS:
        raise typer.BadParameter(
            f'"{level}" given, expected one of {", ".join(LEVELS)}', param_hint="--level"
        )
    ids = []
    wanted = {"anchor": anchor, "coin": coin, "transfer": transfer, "peer": peer}
    for field, given in wanted.items():
        if given is not None and len(given) < ID_CHARACTERS_MIN:
            raise typer.BadParameter(
                f'"{given}" given, expected an id or its first {ID_CHARACTERS_MIN} characters',
                param_hint=f"--{field}",
            )
        if given is not None:
            ids.append((field, given))
    if not path.exists():
        raise CommandFailedError(f"{path}: there is no log here")
    show(path, Wanted(LEVELS[level], subsystem, tuple(ids)), follow=follow, json=json, last=lines)


def show(path: Path, wanted: Wanted, *, follow: bool, json: bool, last: int | None = None) -> None:
    """Print what is wanted of a log and of those set aside before it: all, or the `last` events so
    far, and what comes after."""
    console = None
    if not json and sys.stdout.isatty():
        from rich.console import Console

        console = Console()
    kept: deque[dict[str, Any]] | None = None if last is None else deque(maxlen=last)

    def put(event: dict[str, Any]) -> None:
        if console is not None:
            console.print(event_line(event), soft_wrap=True, highlight=False)
        else:
            typer.echo(json_line(event) if json else event_line(event).plain)

    for line in chain(lines_of(path, follow=follow), [b""]):
        if not line and kept is not None:
            for event in kept:
                put(event)
            kept = None
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a line that a crash cut off
        # What a node did not write is no event.
        if not isinstance(event, dict) or not event.keys() >= {"time", "level", "event"}:
            continue
        if not wanted.admits(event):
            continue
        if kept is None:
            put(event)
        else:
            kept.append(event)


def lines_of(path: Path, *, follow: bool) -> Iterator[bytes]:
    """Return the lines of a log, oldest first; to `follow` goes on through rotations, and gives an
    empty line wherever it has read all that there is."""
    for packed in sorted(path.parent.glob(f"{path.name}.*.gz"), key=_number, reverse=True):
        with gzip.open(packed, "rb") as old:
            yield from old
    aside = Path(f"{path}.1")
    if aside.exists():
        with aside.open("rb") as old:
            yield from old
    file = path.open("rb")
    try:
        pending, has_moved = b"", False
        while True:
            chunk = file.readline()
            pending += chunk
            if pending.endswith(b"\n"):
                yield pending
                pending = b""
            elif not follow:
                return
            elif not chunk:
                yield b""
                sys.stdout.flush()
                time.sleep(LOGS_LOOK_S)
                if has_moved:
                    file.close()
                    file = path.open("rb")
                    pending, has_moved = b"", False
                # Once another file has the name, this one gets no more lines; those that it got
                # before are still to be read.
                elif path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                    has_moved = True
    finally:
        file.close()


def _number(path: Path) -> int:
    digits = path.name.removesuffix(".gz").rpartition(".")[2]
    return int(digits) if digits.isdigit() else 0
