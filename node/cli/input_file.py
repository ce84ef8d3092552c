"""Files that commands read: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from unchained.node.cli.asker import CommandFailedError


def read_file(path: Path, most: int) -> bytes:
    """Return a file of at most `most` bytes. Raises `CommandFailedError`."""
    try:
        with path.open("rb") as file:
            return read_stream(file, str(path), most)
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from None


def read_stream(stream: BinaryIO, name: str, most: int) -> bytes:
    """Return what is left of a stream, at most `most` bytes. Raises OSError,
    `CommandFailedError`."""
    content = stream.read(most + 1)
    if len(content) > most:
        raise CommandFailedError(f"{name}: expected at most {most} bytes, there are more")
    return content
