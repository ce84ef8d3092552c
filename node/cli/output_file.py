"""Files that commands are asked to write."""

from __future__ import annotations

import sys
from pathlib import Path

from unchained.node.base.files import write_private
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.questions import ask_yes


def check_output(path: Path) -> None:
    """See that a file can be written which a command was asked for, before anything is done for
    it; on a terminal whoever asks is asked before one is replaced. Raises `CommandFailedError`."""
    if path.is_dir():
        raise CommandFailedError(f"{path} is a directory, expected a file to write")
    if not path.parent.is_dir():
        raise CommandFailedError(f"there is no directory {path.parent} to write {path.name} in")
    if (
        path.exists()
        and sys.stdin.isatty()
        and not ask_yes(f"{path} is there already. Replace it?")
    ):
        raise CommandFailedError(f"not written: {path} is there already")


def write_output(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file that `check_output` was asked about. Raises `CommandFailedError`."""
    try:
        if private:
            write_private(path, content)
        else:
            path.write_bytes(content)
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from None
