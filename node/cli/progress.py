"""How far long work along the chain is, for a person who waits for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import typer

from unchained.node.base.number_words import number_of

LINE_EVERY: Final = 1_000
"""Anchors between two lines of progress where there is no terminal."""

Show = Callable[[int, int, int], None]
"""Takes the height reached, and how much of how many units of work is done."""


@contextmanager
def progress(what: str) -> Iterator[Show]:
    """Give a function to report to: a bar on a terminal, now and then a line else."""
    if not sys.stderr.isatty():
        shown = 0

        def write(height: int, done: int, total: int) -> None:
            nonlocal shown
            if height >= shown + LINE_EVERY or done == total:
                shown = height
                typer.echo(f"{what}: height {height}, {100 * done // max(1, total)} %", err=True)

        yield write
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("height {task.fields[height]:,}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        bar = bars.add_task(what, total=None, height=0)

        def draw(height: int, done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, height=height)

        yield draw


ShowVotes = Callable[[str, int], None]
"""Takes how a transfer stands and how many confirmations it has."""


@contextmanager
def confirmations_shown(wanted: int) -> Iterator[ShowVotes]:
    """Give a function to report a transfer's confirmations to: a bar on a terminal, which stays
    and so says how it stands in the end, a line for each change else."""
    told = number_of(wanted, "confirmation")
    if not sys.stderr.isatty():
        last: tuple[str, int] | None = None

        def write(status: str, has: int) -> None:
            nonlocal last
            if (status, has) != last:
                last = status, has
                typer.echo(f"{status}: {has} of {told}", err=True)

        yield write
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed}} of {told}"),
        console=Console(stderr=True),
    ) as bars:
        bar = bars.add_task("waiting", total=wanted)

        def draw(status: str, has: int) -> None:
            bars.update(bar, completed=min(has, wanted), description=status)

        yield draw
