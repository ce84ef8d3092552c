"""Answers for programs."""

from __future__ import annotations

import typer

from unchained.node.base.terminal_text import json_line


def print_json(value: object) -> None:
    """Print a value as JSON on a line of its own."""
    typer.echo(json_line(value))
