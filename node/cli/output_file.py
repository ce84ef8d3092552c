"""Files that commands are asked to write."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from unchained.node.base.files import write_private
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.questions import ask_yes


def check_output(path: Path, *, given: Path | None = None) -> None:
    """See that a file can be written which a command was asked for, before anything is done for
    it. One that is there is replaced by who is asked on a terminal and says so, and by nobody else;
    a device can be written to at any time, and so can the file that was `given` to be read. Raises
    `CommandFailedError`."""
    try:
        if path.is_dir():
            raise CommandFailedError(f"{path} is a directory, expected a file to write")
        if not path.parent.is_dir():
            raise CommandFailedError(f"there is no directory {path.parent} to write {path.name} in")
        if not path.is_file() or path == given:
            return
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from None
    if not sys.stdin.isatty() or not ask_yes(f"{path} is there already. Replace it?"):
        raise CommandFailedError(f"not written: {path} is there already, name another file")


def say_written(path: Path) -> None:
    """Say where something was written: to another program the name alone."""
    typer.echo(f"written to {path}" if sys.stdout.isatty() else path)


def write_output(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file that `check_output` was asked about. Raises `CommandFailedError`."""
    try:
        if private:
            write_private(path, content)
        else:
            path.write_bytes(content)
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from None
