"""One process for each data directory: a locked file that says whose it is."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from unchained.storage.errors import (
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreUnreadableError,
)

LOCK_NAME: Final = "store.lock"
"""The lock's file in the data directory; it stays when the lock is released."""


class DirectoryLock:
    """Holds a directory's lock until released, or until the process ends however it ends.

    Raises `StoreLockedError` with the holder's process id, or another `StoreError`.
    """

    def __init__(self, directory: Path) -> None:
        self._fd: int | None = None
        path = directory / LOCK_NAME
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise os_failure(error, path) from None
        try:
            _take(fd)
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            who = _holder(fd)
            os.close(fd)
            raise StoreLockedError(
                f"{directory}: in use by {who}: stop it, or name another --data-dir",
                path=directory,
            ) from None
        except OSError as error:
            os.close(fd)
            raise os_failure(error, path) from None
        self._fd = fd

    def release(self) -> None:
        """Let others have the directory. Releasing again does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _take(fd: int) -> None:
    """Lock a file for this process alone. Raises BlockingIOError where another one has it; who only
    looks (`holder_of`) shares it for a moment, and is waited for."""
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.sched_yield()


def is_held(directory: Path) -> bool:
    """Return whether some process holds a directory's lock, which is left as it is."""
    return holder_of(directory) is not None


def holder_of(directory: Path) -> str | None:
    """Return who holds a directory's lock, `process 123` where it has said so; None if nobody does.
    The lock is left as it is."""
    try:
        fd = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _holder(fd: int) -> str:
    pid = os.pread(fd, 32, 0).strip().decode("ascii", "replace")
    return f"process {pid}" if pid.isdecimal() else "another process"


def os_failure(error: OSError, path: Path) -> StoreError:
    """Return what a failure of the file system means for a person, in one line."""
    text = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(f"{path}: the disk is full: make room and start again", path=path)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreReadOnlyError(
            f"{path}: not writable ({text}): check owner and mount", path=path
        )
    return StoreUnreadableError(f"{path}: {text}", path=path)
