"""Files that hold secrets: mode 0600 from the first byte, replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from unchained.node.base.randomness import SYSTEM


def write_private(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file that only its owner can read, replacing one that exists, atomically.

    After a crash at any instant the file holds the old content or the new. Raises OSError;
    FileExistsError if there is one that is not to be replaced.
    """
    beside = path.with_name(f".{path.name}.{SYSTEM.token_bytes(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(beside, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            beside.replace(path)
        else:
            os.link(beside, path)
            beside.unlink()
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
