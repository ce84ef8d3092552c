"""``unchained-node status``, ``stop``, ``rpc`` and ``node``: the running node as a whole."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final

import msgspec
import typer

from unchained.node.base.number_words import duration, number_of
from unchained.node.base.terminal_text import harmless, json_line
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, asking
from unchained.node.cli.json_output import print_json
from unchained.node.cli.tables import (
    BOLD,
    GREEN,
    RED,
    YELLOW,
    field_lines,
    moment,
    print_fields,
    width,
)
from unchained.node.cli.tasks import add_to_node

WATCH_S: Final = 2.0
"""Seconds between two looks of ``status --watch``."""

STOP_S: Final = 60.0
"""Seconds that ``stop`` waits for the node to be gone."""

app = typer.Typer(no_args_is_help=True, help="Look into the running node.")


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    asking(root, "status")(status)
    asking(root, "stop")(stop)
    asking(root, "rpc")(rpc)
    add_to_node(app)
    root.add_typer(app, name="node")


@user_text("Show what the node does.")
def status(
    node: Asker,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it, until Ctrl-C.")
    ] = False,
) -> None:
    if not watch:
        found = node.call("node.status")
        node.show(found, lambda: print_status(found))
    elif node.json or not sys.stdout.isatty():
        while True:
            print_json(node.call("node.status"))
            sys.stdout.flush()
            time.sleep(WATCH_S)
    else:
        _watch(node)


def _watch(node: Asker) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def picture() -> Text:
        return Text.from_ansi("\n".join(_lines(node.call("node.status"))))

    with Live(picture(), console=Console(), auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_S)
            live.update(picture(), refresh=True)


def print_status(found: dict[str, Any]) -> None:
    """Print a node's status for a person or a shell."""
    if sys.stdout.isatty():
        typer.echo("\n".join(_lines(found)))
    else:
        print_fields(found)


def _lines(found: dict[str, Any]) -> list[str]:
    unmet = [name for name, text in found["checks"].items() if not text.startswith("ok")]
    ready = "ready" if found["ready"] else f"not ready ({', '.join(unmet)})"
    mining = f"mining at {found['hashrate']:,.1f} H/s" if found["mining"] else "not mining"
    transfers = number_of(found["mempool_transfers"], "transfer")
    waiting = f"{transfers}, {found['mempool_bytes']:,} bytes"
    rows = [
        ("network", f"{found['network']} ({found['genesis'][:8]})", ""),
        (
            "state",
            f"{ready}, up {duration(found['uptime_ms'])}, version {found['version']}",
            GREEN if found["ready"] else RED,
        ),
        ("height", f"{found['height']:,}", BOLD),
        ("tip", found["tip"], ""),
        ("tip time", f"{moment(found['tip_time'])}, {duration(found['tip_age_ms'])} ago", ""),
        ("supply", f"{found['supply']} UNC, and {found['pool']} UNC of fees in the pool", ""),
        ("mempool", waiting, ""),
        ("mining", mining, ""),
        ("peers", harmless(found["checks"]["peers"].removeprefix("ok: ")), ""),
    ]
    for name, text in found["checks"].items():
        if not text.startswith("ok") and name != "peers":
            rows.append((name, harmless(text), YELLOW))
    refused = found["refused_reorg"]
    if refused is not None:
        depth = number_of(refused["depth"], "anchor")
        text = f"a better chain forks {depth} below the tip: {refused['winner']}"
        rows.append(("attention", text, RED))
    if found["clock_behind_ms"]:
        behind = duration(found["clock_behind_ms"])
        text = f"the clock is {behind} behind the chain: set it, or see chain set-aside"
        rows.append(("attention", text, RED))
    return field_lines(rows, width())


@user_text("Stop the node in good order.")
def stop(
    node: Asker,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return once the node is gone.")
    ] = True,
) -> None:
    from unchained.node.cli.asker import CommandFailedError

    was_running = node.is_running()
    try:
        node.call("node.stop")
    except CommandFailedError as error:
        # Going, it may close the connection before its answer is through: whether it goes is seen.
        if not was_running or error.word or (not wait and node.is_running()):
            raise
    deadline = time.monotonic() + STOP_S
    while wait and node.is_running():
        if time.monotonic() > deadline:
            raise CommandFailedError(
                f"the node is still there after {STOP_S:g} s: see its node.log"
            )
        time.sleep(0.1)
    node.show({"stopped": wait}, lambda: typer.echo("stopped" if wait else "stopping"))


@user_text("Call any method; numbers, true, false, null, [...] and {...} are taken as JSON.")
def rpc(
    node: Asker,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="As in docs/rpc.md.")],
    params: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="By name, or all by position."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0.1, max=86_400, help="Seconds to wait for the answer."),
    ] = 60.0,
) -> None:
    given = params or []
    named = [param.partition("=") for param in given]
    if all(equals for _, equals, _ in named):
        result = node.call_with(
            method, {name: literal(text) for name, _, text in named}, seconds=timeout
        )
    elif any(equals for _, equals, _ in named):
        raise typer.BadParameter("give all parameters by NAME=VALUE, or all by position")
    else:
        result = node.call_with(method, [literal(text) for text in given], seconds=timeout)
    indent = 2 if sys.stdout.isatty() and not node.json else 0
    line = json_line(result)
    typer.echo(msgspec.json.format(line, indent=indent) if indent else line)


def literal(text: str) -> object:
    """Return what a word of the command line stands for: JSON where it looks like it, else text.

    Digits are a number only while they fit 64 bits: a hash of digits alone stays a text.
    """
    plain_number = text.lstrip("-").isdigit() and len(text) < 19
    if plain_number or text in ("true", "false", "null") or text[:1] in ("[", "{", '"'):
        try:
            found: object = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
        return found
    return text


@asking(app, "version")
@user_text("Show the versions of the running node.")
def version(node: Asker) -> None:
    node.show_fields(node.call("node.version"))


@asking(app, "config", table=True)
@user_text("Show the settings that the node was started with.")
def config(node: Asker) -> None:
    node.show_rows(node.call("node.config"), ["key", "value", "origin"], "no settings")


@asking(app, "log-level")
@user_text("Show the least level of logged events, or change it until the node is restarted.")
def log_level(
    node: Asker,
    level: Annotated[
        str | None, typer.Argument(metavar="[debug|info|warning|error]", help="The new level.")
    ] = None,
    subsystem: Annotated[
        str | None,
        typer.Option("--subsystem", metavar="NAME", help="Only of events NAME.*, such as net."),
    ] = None,
) -> None:
    found = node.call("node.log_level", level=level, subsystem=subsystem)
    node.show(found, lambda: typer.echo(found))


@asking(app, "statistics")
@user_text("Show what every part of the node counts.")
def statistics(node: Asker) -> None:
    node.show_fields(node.call("debug.statistics"))


@asking(app, "memory")
@user_text("Show what memory the node uses.")
def memory(node: Asker) -> None:
    node.show_fields(node.call("debug.memory"))
