"""Files that hold secrets: mode 0600 from the first byte, replaced as a whole or not at all; and
read only where nobody else can."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from unchained.node.base.randomness import SYSTEM

_OTHERS = 0o077


def read_private(path: Path, most: int, *, close: bool = False) -> bytes:
    """Return what a file of a secret holds, at most one byte more than `most`.

    One that others may read is refused, for somebody may have; `close` closes it to them instead,
    where a node that does not start would be worse. Raises OSError, whose `strerror` says why.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            if not close:
                why = "others can read it: chmod 600 it"
                raise PermissionError(errno.EPERM, why, str(path))
            os.fchmod(file.fileno(), 0o600)
        return file.read(most + 1)


def write_private(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file as `private_file` does."""
    with private_file(path, replace=replace) as file:
        file.write(content)


@contextlib.contextmanager
def private_file(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Write a file that only its owner can read, replacing one that exists, atomically: it is there
    once the context has ended without an error.

    After a crash at any instant the file holds the old content or the new. Raises OSError;
    FileExistsError if there is one that is not to be replaced.
    """
    if not path.name:
        # the root, which has no name and nothing beside it
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    beside = path.with_name(f".{path.name}.{SYSTEM.token_bytes(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(beside, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
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
