"""Questions to a person, beside what a command says: standard output stays its answer alone."""

from __future__ import annotations

import sys

import typer


def ask_text(question: str) -> str:
    """Ask on standard error and return the line that is typed. Raises `typer.Abort` where there is
    none."""
    typer.echo(f"{question}: ", nl=False, err=True)
    # not `input`, nor what is built on it: they write to standard output
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        typer.echo(err=True)  # what is said next begins a line
        raise
    if not line:
        typer.echo(err=True)
        raise typer.Abort
    return line.strip()


def ask_yes(question: str) -> bool:
    """Ask for a yes; anything else is a no. Raises `typer.Abort` where nothing is typed."""
    return ask_text(f"{question} [y/N]").lower() in ("y", "yes")
