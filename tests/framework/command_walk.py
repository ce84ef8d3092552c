"""All commands of the command line, made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unchained.node.cli import main
from unchained.node.cli.commands import LazyGroup


def all_commands() -> Iterator[tuple[str, Any]]:
    """Yield each command with the words that lead to it."""
    return _below(main.command_line(), ())


def _below(group: LazyGroup, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name in group.commands:
        made = group.made(name)
        if isinstance(made, LazyGroup):
            yield from _below(made, (*path, name))
        else:
            yield " ".join((*path, name)), made
