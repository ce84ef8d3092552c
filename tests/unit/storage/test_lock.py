"""The lock of a data directory."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from unchained.storage.errors import StoreLockedError
from unchained.storage.lock import LOCK_NAME, DirectoryLock, holder_of, is_held


def test_one_process_has_a_directory_and_is_named(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    lock = DirectoryLock(tmp_path)
    assert holder_of(tmp_path) == f"process {os.getpid()}"
    with pytest.raises(StoreLockedError, match=f"in use by process {os.getpid()}"):
        DirectoryLock(tmp_path)
    lock.release()
    assert not is_held(tmp_path)


def test_who_only_looks_keeps_nobody_out(tmp_path: Path) -> None:
    taken: list[DirectoryLock] = []
    taker = threading.Thread(target=lambda: taken.append(DirectoryLock(tmp_path)))
    with (tmp_path / LOCK_NAME).open("w") as looked_at:
        # as `holder_of` does, for longer
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        taker.start()
        taker.join(0.05)
        assert not taken
    taker.join()
    assert is_held(tmp_path)
    taken[0].release()
