"""Files that hold secrets: mode 0600 from the first byte, replaced as a whole or not at all; and
read only where nobody else can.

A file is written under another name beside its place, `.NAME.` and 16 hex digits, and locked until
it has its own. What a crash leaves under such a name is locked by nobody, and is removed by whoever
writes NAME the next time, or asks for it by `remove_unfinished`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from unchained.node.base.randomness import SYSTEM

_OTHERS = 0o077
_DIGITS: Final = 16
_UNFINISHED: Final = re.compile(rf"\.(.+)\.[0-9a-f]{{{_DIGITS}}}", re.DOTALL)


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
    remove_unfinished(path.parent, path.name.__eq__)
    beside, descriptor = _begin(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # while it is locked
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


def _begin(path: Path) -> tuple[Path, int]:
    """Open a locked file beside a path; return where it is, and its descriptor. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    while True:
        beside = path.with_name(f".{path.name}.{SYSTEM.token_bytes(_DIGITS // 2).hex()}")
        descriptor = os.open(beside, flags, 0o600)
        # Where a file system has no locks nobody removes anything: that takes one as well.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return beside, descriptor
        # taken for what a crash has left, before it was locked
        os.close(descriptor)


def unfinished(directory: Path, is_ours: Callable[[str], bool]) -> list[Path]:
    """Return what crashes have left in a directory of files, by `is_ours` of their names, that were
    written as `private_file` does. What somebody writes at the moment is not among it."""
    return list(_unfinished(directory, is_ours))


def remove_unfinished(directory: Path, is_ours: Callable[[str], bool]) -> int:
    """Remove what `unfinished` returns; return how many files that were. What cannot be removed
    stays."""
    count = 0
    for path in _unfinished(directory, is_ours):
        with contextlib.suppress(OSError):
            path.unlink()
            count += 1
    return count


def _unfinished(directory: Path, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """Yield each of them while nobody else can lock it."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return  # there is none, or it can be written to alone
    for name in names:
        found = _UNFINISHED.fullmatch(name)
        if found is None or not is_ours(found[1]):
            continue
        try:
            descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # it has its own name by now, or is none of ours
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and _is_nobodys(descriptor):
                yield directory / name
        finally:
            os.close(descriptor)


def _is_nobodys(descriptor: int) -> bool:
    """Lock a file, and return whether nobody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
