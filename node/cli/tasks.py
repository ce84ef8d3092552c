"""``unchained-node tasks`` and ``node trace``: what the tasks of the event loop do."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from unchained.node.base.terminal_text import harmless
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, asking
from unchained.node.cli.json_output import print_json

if TYPE_CHECKING:
    from rich.console import Group

TASKS_WATCH_S: Final = 1.0
"""Seconds between two looks of ``tasks --watch``."""

SLOWEST_SHOWN: Final = 8


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room to the root."""
    asking(root, "tasks")(tasks)


def add_to_node(app: typer.Typer) -> None:
    """Add the commands of this room to those about the node."""
    asking(app, "tasks")(tasks)
    asking(app, "trace")(trace)


@user_text("Show the tasks of the node's event loop, and what each of them waits for.")
def tasks(
    node: Asker,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing them, until Ctrl-C.")
    ] = False,
) -> None:
    if not watch:
        found = node.call("debug.tasks")
        node.show(found, lambda: _print(found))
    elif node.json or not sys.stdout.isatty():
        while True:
            print_json(node.call("debug.tasks"))
            sys.stdout.flush()
            time.sleep(TASKS_WATCH_S)
    else:
        _watch(node)


def _watch(node: Asker) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(_picture(node.call("debug.tasks")), console=Console(), auto_refresh=False) as live:
        while True:
            time.sleep(TASKS_WATCH_S)
            live.update(_picture(node.call("debug.tasks")), refresh=True)


def _print(found: Mapping[str, Any]) -> None:
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(_picture(found))
        return
    for line in task_lines(found):
        typer.echo(line)


def _picture(found: Mapping[str, Any]) -> Group:
    from rich.console import Group
    from rich.text import Text

    lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in task_lines(found)]
    return Group(*lines)


def task_lines(found: Mapping[str, Any]) -> list[str]:
    """Return a report of tasks, a line for each task, queue, kind of thread and slow step."""
    lines = [
        f"{'  ' * task['depth']}{harmless(task['name'])}  {_times(task)}"
        f"{task['waiting_for'] or '-'}  {task['waiting_at']}"
        for task in found["tasks"]
    ]
    lines += ["", "queues"]
    lines += [
        f"  {name}  {queue['used']}/{queue['capacity']}  lost {queue['lost']}"
        for name, queue in found["channels"].items()
    ]
    lines += ["", "threads"]
    lines += [
        f"  {name}  {threads['busy']}/{threads['limit']}  waiting {threads['waiting']}"
        for name, threads in found["threads"].items()
    ]
    slowest = sorted(found["slowest"], key=lambda step: step["ms"], reverse=True)
    if slowest:
        lines += ["", "slowest of the last steps above 50 ms, and how much of each was work"]
        lines += [
            f"  {step['ms']:,.0f} ms  {step['cpu_ms']:,.0f} ms of work  "
            f"{harmless(step['task'])}  {step['ago_s']:,.0f} s ago"
            for step in slowest[:SLOWEST_SHOWN]
        ]
    return lines


def _times(task: Mapping[str, Any]) -> str:
    if task["age_s"] is None:
        return ""
    waited = "" if task["waited_s"] is None else f", waits {task['waited_s']:,.1f} s"
    return f"[{task['age_s']:,.0f} s{waited}]  "


@user_text("Record every step of every task for some seconds, for ui.perfetto.dev.")
def trace(
    node: Asker,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, max=60, help="How many seconds to record.")
    ] = 5.0,
) -> None:
    found = node.call_with("debug.trace", {"seconds": seconds}, seconds=seconds + 60)

    def human() -> None:
        lost = f", {found['left_out']:,} left out" if found["left_out"] else ""
        typer.echo(f"{found['path']}: {found['steps']:,} steps{lost}")

    node.show(found, human)
