"""A disk that is full or read-only: one clear line, and nothing lost."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unchained.node.consensus.params import LOCAL
from unchained.storage.errors import StoreError, StoreFullError, StoreReadOnlyError
from unchained.storage.kv import Batch
from unchained.storage.leveldb import LevelOptions
from unchained.storage.lock import DirectoryLock
from unchained.storage.maintenance import backup
from unchained.storage.memory import MemoryStore
from unchained.storage.open import NodeStore, open_store

OPTIONS = LevelOptions(write_buffer=64 << 10)

Remount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Remount]]:
    """A disk of 2 MiB in memory, and what mounts it again with other options."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)

    yield path, remount
    subprocess.run(["umount", "-l", str(path)], check=True)


def write_until_full(store: NodeStore, rng: random.Random, number: int) -> int:
    """Write numbered rows until the disk is full; return how many there are."""
    while True:
        batch = Batch()
        batch.put(b"r" + number.to_bytes(8, "big"), rng.randbytes(10_000))
        try:
            store.write(batch, sync=True)
        except StoreFullError:
            return number
        number += 1


def rows_of(store: NodeStore) -> list[int]:
    return [int.from_bytes(key[1:], "big") for key in store.keys(b"r", b"s")]


def line_of(error: StoreError, path: Path) -> None:
    assert "\n" not in str(error)
    assert str(path) in str(error)


def test_full_disk_loses_nothing(disk: tuple[Path, Remount]) -> None:
    path, remount = disk
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    written = 0
    for size in (4, 6, 8):
        store = open_store(path, LOCAL, create=True, options=OPTIONS)
        assert rows_of(store)[:written] == list(range(written))
        written = max(written, write_until_full(store, rng, len(rows_of(store))))
        assert rows_of(store)[:written] == list(range(written))
        assert store.statistics().failed
        with pytest.raises(StoreFullError) as caught:
            store.write(Batch(), sync=True)
        line_of(caught.value, path)
        store.close()
        # With no room at all, opening may fail too; then as well nothing is lost.
        try:
            open_store(path, LOCAL, create=True, options=OPTIONS).close()
        except StoreFullError as error:
            line_of(error, path)
        remount(f"size={size}m")
    store = open_store(path, LOCAL, create=True, options=OPTIONS)
    assert rows_of(store)[:written] == list(range(written))
    store.close()


def test_backup_to_a_full_disk_leaves_none(disk: tuple[Path, Remount]) -> None:
    path, _remount = disk
    source = MemoryStore()
    batch = Batch()
    for number in range(400):
        batch.put(b"r%d" % number, random.Random(number).randbytes(10_000))
    source.write(batch, sync=True)
    with pytest.raises(StoreFullError) as caught:
        backup(source, path / "copy")
    line_of(caught.value, path)
    assert not (path / "copy").exists()


def test_no_room_for_the_lock(disk: tuple[Path, Remount]) -> None:
    path, _remount = disk
    with pytest.raises(OSError), (path / "filler").open("wb", buffering=0) as filler:  # noqa: PT012
        while True:
            filler.write(bytes(1 << 16))
    with pytest.raises(StoreFullError) as caught:
        DirectoryLock(path)
    line_of(caught.value, path)


def test_read_only_disk_is_said_and_left_alone(disk: tuple[Path, Remount]) -> None:
    path, remount = disk
    store = open_store(path, LOCAL, create=True)
    batch = Batch()
    batch.put(b"r", b"1")
    store.write(batch, sync=True)
    store.close()
    remount("ro")
    with pytest.raises(StoreReadOnlyError) as caught:
        open_store(path, LOCAL, create=True)
    line_of(caught.value, path)
    remount("rw")
    store = open_store(path, LOCAL, create=False)
    assert store.get(b"r") == b"1"
    store.close()


def test_directory_that_cannot_be_made(disk: tuple[Path, Remount]) -> None:
    path, remount = disk
    remount("ro")
    with pytest.raises(StoreReadOnlyError) as caught:
        open_store(path / "node", LOCAL, create=True)
    line_of(caught.value, path)


def test_read_only_directory_is_said(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    open_store(tmp_path, LOCAL, create=True).close()
    for entry in (tmp_path / "chain", tmp_path):
        entry.chmod(0o500)
    try:
        with pytest.raises(StoreReadOnlyError) as caught:
            open_store(tmp_path, LOCAL, create=False)
    finally:
        for entry in (tmp_path, tmp_path / "chain"):
            entry.chmod(0o700)
    line_of(caught.value, tmp_path)
