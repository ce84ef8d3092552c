"""Opening a store: whose it is, of which network and version, and what was cut off."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from tests.framework.failing_store import FailingStore
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import LOCAL, TEST
from unchained.storage import schema
from unchained.storage.errors import (
    NewerVersionError,
    NoMigrationError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
    StoreReadOnlyError,
    StoreUnreadableError,
    WrongNetworkError,
)
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.leveldb import LevelStore, translate
from unchained.storage.lock import LOCK_NAME, DirectoryLock, os_failure
from unchained.storage.maintenance import repair
from unchained.storage.memory import MemoryStore
from unchained.storage.open import STORE_NAME, Migration, open_store, prepare
from unchained.storage.rebuild import UNFINISHED_REBUILD


def put(store: KeyValueStore, key: bytes, value: bytes) -> None:
    batch = Batch()
    batch.put(key, value)
    store.write(batch, sync=True)


def set_version(directory: Path, version: int) -> None:
    store = LevelStore(directory / STORE_NAME)
    put(store, schema.META.key(schema.META_SCHEMA_VERSION), schema.encode_number(version))
    store.close()


def line_of(caught: pytest.ExceptionInfo[StoreError], *words: object) -> None:
    """Assert that the error is one line that has all the words."""
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    for word in words:
        assert str(word) in text


def test_new_store_is_marked_and_private(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    store = open_store(directory, LOCAL, create=True)
    assert schema.meta_number(store, schema.META_SCHEMA_VERSION) == schema.SCHEMA_VERSION
    assert schema.meta_id(store, schema.META_GENESIS) == genesis_of(LOCAL).id
    assert schema.META.get(store, schema.META_NETWORK) == b"local"
    store.close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / LOCK_NAME).stat().st_mode) == 0o600


def test_directory_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_store(tmp_path, LOCAL, create=True).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_what_is_written_is_there_when_opened_again(tmp_path: Path) -> None:
    store = open_store(tmp_path, LOCAL, create=True)
    put(store, schema.BAN.key(b"x"), b"y")
    store.close()
    again = open_store(tmp_path, LOCAL, create=False)
    assert schema.BAN.get(again, b"x") == b"y"
    again.close()


def test_missing_store_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError) as caught:
        open_store(tmp_path / "none", LOCAL, create=False)
    line_of(caught, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(StoreMissingError) as caught:
        open_store(tmp_path, LOCAL, create=False)
    line_of(caught, tmp_path, "no store")
    with pytest.raises(StoreMissingError, match="empty"):
        prepare(MemoryStore(), LOCAL, create=False)


def test_directory_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(StoreUnreadableError) as caught:
        open_store(path, LOCAL, create=True)
    line_of(caught, path)


def test_store_of_another_network(tmp_path: Path) -> None:
    open_store(tmp_path, TEST, create=True).close()
    with pytest.raises(WrongNetworkError) as caught:
        open_store(tmp_path, LOCAL, create=True)
    line_of(caught, tmp_path, "chain of test", "expected local", genesis_of(LOCAL).id.hex()[:8])
    open_store(tmp_path, TEST, create=False).close()


def test_store_of_a_later_version(tmp_path: Path) -> None:
    open_store(tmp_path, LOCAL, create=True).close()
    set_version(tmp_path, schema.SCHEMA_VERSION + 1)
    with pytest.raises(NewerVersionError) as caught:
        open_store(tmp_path, LOCAL, create=True)
    line_of(caught, tmp_path, schema.SCHEMA_VERSION + 1, "update")


def test_store_of_a_version_too_old(tmp_path: Path) -> None:
    open_store(tmp_path, LOCAL, create=True).close()
    set_version(tmp_path, 0)
    with pytest.raises(NoMigrationError) as caught:
        open_store(tmp_path, LOCAL, create=True)
    line_of(caught, tmp_path, "layout 0")


def test_a_store_of_earlier_rules_names_the_way_out(tmp_path: Path) -> None:
    store = open_store(tmp_path, LOCAL, create=True)
    # its genesis is another one, which is not what has to be said of it
    put(store, schema.META.key(schema.META_GENESIS), bytes(32))
    store.close()
    set_version(tmp_path, 1)
    with pytest.raises(NoMigrationError) as caught:
        open_store(tmp_path, LOCAL, create=True)
    line_of(caught, tmp_path, "earlier rules", "unchained-node db reset", "keeps wallets")
    assert (tmp_path / STORE_NAME).is_dir()


def test_migrations_lead_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    prepare(store, LOCAL)
    first = schema.SCHEMA_VERSION
    monkeypatch.setattr(schema, "SCHEMA_VERSION", first + 2)
    done = []
    steps = [
        Migration(first + 1, first + 2, lambda _store: done.append(2)),
        Migration(first, first + 1, lambda _store: done.append(1)),
    ]
    prepare(store, LOCAL, migrations=steps)
    assert done == [1, 2]
    assert schema.meta_number(store, schema.META_SCHEMA_VERSION) == first + 2
    prepare(store, LOCAL, migrations=steps)
    assert done == [1, 2]


def test_migration_that_was_cut_off_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryStore()
    prepare(disk, LOCAL)
    first = schema.SCHEMA_VERSION
    monkeypatch.setattr(schema, "SCHEMA_VERSION", first + 1)
    runs = []

    def work(store: KeyValueStore) -> None:
        runs.append(store.get(schema.BAN.key(b"1")))
        put(store, schema.BAN.key(b"1"), b"done")
        put(store, schema.BAN.key(b"2"), b"done")

    steps = [Migration(first, first + 1, work)]
    for fail_at in (1, 2, 3):
        with pytest.raises(StoreFullError):
            prepare(FailingStore(disk, fail_at=fail_at), LOCAL, migrations=steps)
        assert schema.meta_number(disk, schema.META_SCHEMA_VERSION) == first
    prepare(disk, LOCAL, migrations=steps)
    assert schema.meta_number(disk, schema.META_SCHEMA_VERSION) == first + 1
    assert runs == [None, None, b"done", b"done"]


def test_rebuild_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    store = open_store(tmp_path, LOCAL, create=True)
    put(store, schema.META.key(schema.META_UNFINISHED), UNFINISHED_REBUILD)
    put(store, schema.OWNER.key(bytes(32), bytes(32)), bytes(16))
    store.close()
    store = open_store(tmp_path, LOCAL, create=True)
    assert schema.META.get(store, schema.META_UNFINISHED) is None
    assert schema.OWNER.get(store, bytes(32), bytes(32)) is None
    store.close()


def test_store_without_a_version_is_damaged() -> None:
    store = MemoryStore()
    put(store, schema.BAN.key(b"x"), b"y")
    with pytest.raises(StoreCorruptError, match="version is missing"):
        prepare(store, LOCAL)


def test_one_holder_at_a_time_in_one_process(tmp_path: Path) -> None:
    store = open_store(tmp_path, LOCAL, create=True)
    with pytest.raises(StoreLockedError) as caught:
        open_store(tmp_path, LOCAL, create=True)
    line_of(caught, tmp_path, f"process {os.getpid()}")
    store.close()
    open_store(tmp_path, LOCAL, create=True).close()


def test_another_process_is_named(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from unchained.node.consensus.params import LOCAL\n"
        "from unchained.storage.open import open_store\n"
        "store = open_store(Path(sys.argv[1]), LOCAL, create=True)\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(StoreLockedError) as caught:
            open_store(tmp_path, LOCAL, create=True)
        line_of(caught, f"process {child.pid}")
        child.kill()
        child.wait()
    open_store(tmp_path, LOCAL, create=True).close()


def test_lock_without_a_number_names_nobody(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    (tmp_path / LOCK_NAME).write_bytes(b"")
    with pytest.raises(StoreLockedError, match="another process"):
        DirectoryLock(tmp_path)
    lock.release()
    lock.release()


def test_failed_opening_leaves_no_lock(tmp_path: Path) -> None:
    open_store(tmp_path, TEST, create=True).close()
    for _ in range(2):
        with pytest.raises(WrongNetworkError):
            open_store(tmp_path, LOCAL, create=True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (plyvel.IOError("IO error: /x/3.log: No space left on device"), StoreFullError),
        (plyvel.IOError("IO error: /x/3.log: Read-only file system"), StoreReadOnlyError),
        (plyvel.IOError("IO error: /x/LOCK: Permission denied"), StoreReadOnlyError),
        (
            plyvel.IOError("IO error: lock /x/LOCK: already held by process"),
            StoreLockedError,
        ),
        (
            plyvel.IOError("IO error: lock /x/LOCK: Resource temporarily unavailable"),
            StoreLockedError,
        ),
        (plyvel.CorruptionError("Corruption: block checksum mismatch"), StoreCorruptError),
        (plyvel.IOError("IO error: /x/7.ldb: No such file or directory"), StoreCorruptError),
        (plyvel.IOError("IO error: /x/7.ldb: Input/output error"), StoreUnreadableError),
    ],
)
def test_leveldb_errors_are_translated(error: Exception, kind: type[StoreError]) -> None:
    found = translate(error, Path("/x"))
    assert type(found) is kind
    assert str(found).startswith("/x: ")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (28, StoreFullError),
        (122, StoreFullError),
        (30, StoreReadOnlyError),
        (5, StoreUnreadableError),
    ],
)
def test_file_system_errors_are_translated(number: int, kind: type[StoreError]) -> None:
    found = os_failure(OSError(number, os.strerror(number)), Path("/x"))
    assert type(found) is kind
    assert str(found).startswith("/x: ")
    assert type(os_failure(OSError("odd"), Path("/x"))) is StoreUnreadableError


def log_of(directory: Path) -> Path:
    (log,) = (directory / STORE_NAME).glob("*.log")
    return log


def test_log_that_was_cut_short_loses_its_last_batch_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path, LOCAL, create=True)
    for number in range(3):
        put(store, schema.BAN.key(b"%d" % number), bytes(100))
    store.close()
    log = log_of(tmp_path)
    log.write_bytes(log.read_bytes()[:-5])
    store = open_store(tmp_path, LOCAL, create=True)
    assert [name for name, _ in schema.BAN.scan(store)] == [b"0", b"1"]
    store.close()


def test_log_with_damage_in_its_middle_is_refused_and_repaired(tmp_path: Path) -> None:
    store = open_store(tmp_path, LOCAL, create=True)
    for number in range(3):
        put(store, schema.BAN.key(b"%d" % number), bytes(100))
    store.close()
    log = log_of(tmp_path)
    raw = bytearray(log.read_bytes())
    raw[-200] ^= 1
    log.write_bytes(raw)
    with pytest.raises(StoreCorruptError) as caught:
        open_store(tmp_path, LOCAL, create=True)
    line_of(caught, tmp_path, "damaged", "--repair")
    assert log.read_bytes() == raw
    repaired = repair(tmp_path, LOCAL)
    assert repaired.report.sound
    assert repaired.kept is not None
    assert (repaired.kept / log.name).read_bytes() == raw
    store = open_store(tmp_path, LOCAL, create=True)
    assert schema.BAN.get(store, b"0") is not None
    store.close()
