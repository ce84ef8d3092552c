"""The disk that wallets are on: what is left of it, and what the product makes of that."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.framework.simulation.faulty_disk import FaultyDisk, FaultyStore, full
from tests.framework.simulation.wallet_disk import (
    COMMITS_WRITTEN_BACK,
    LOG_HEADER,
    PAGE,
    SECTOR,
    WalletDisk,
    faulty_wallets,
    torn,
    torn_log,
)
from unchained.node.base.files import write_private
from unchained.node.wallet.database import Database
from unchained.node.wallet.errors import StoreDamagedError, StoreUnavailableError
from unchained.storage.errors import StoreError


def opened(disk: WalletDisk, store: FaultyStore | None = None) -> Database:
    disk.begin(store or FaultyStore(FaultyDisk()))
    return Database(disk.home / "w.db", network_id=b"n", owner=b"o", seed=bytes(32))


def put(database: Database, name: str) -> None:
    database.run("INSERT INTO meta (name, value) VALUES (?, x'')", name)


def names(database: Database) -> set[str]:
    return {name for (name,) in database.rows("SELECT name FROM meta")} & {"a", "b", "c"}


@pytest.mark.parametrize(
    ("synchronous", "power_cut", "left"),
    [("FULL", True, {"a", "b"}), ("NORMAL", True, {"a"}), ("NORMAL", False, {"a", "b"})],
)
def test_a_power_cut_takes_what_a_wallet_has_not_synced(
    synchronous: str, power_cut: bool, left: set[str], tmp_path: Path
) -> None:
    disk = WalletDisk(tmp_path)
    with faulty_wallets([disk]):
        database = opened(disk)
        put(database, "a")
        database.rows(f"PRAGMA synchronous = {synchronous}")
        put(database, "b")
        assert disk.crash(power_cut=power_cut) is (left == {"a"})
        # What is left of the process goes on for a moment.
        put(database, "c")
        with closing(opened(disk)) as again:
            assert names(again) == left


def test_the_nth_write_of_a_node_may_be_one_of_its_wallet(tmp_path: Path) -> None:
    disk, under = WalletDisk(tmp_path), FaultyDisk()
    store = FaultyStore(under)
    with faulty_wallets([disk]), closing(opened(disk, store)) as database:
        put(database, "a")
        under.at_write(2, full)
        put(database, "b")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="full"):
                put(database, "c")
        assert names(database) == {"a", "b"}
        assert store.has_failed


def test_a_process_that_dies_at_a_commit_has_not_made_it(tmp_path: Path) -> None:
    disk, under = WalletDisk(tmp_path), FaultyDisk()
    store = FaultyStore(under)

    def die() -> StoreError | None:
        store.is_dead = True
        disk.crash(power_cut=False)
        return None

    with faulty_wallets([disk]):
        database = opened(disk, store)
        put(database, "a")
        under.at_write(1, die)
        put(database, "b")
        with closing(opened(disk)) as again:
            assert names(again) == {"a"}


def test_databases_elsewhere_are_left_alone(tmp_path: Path) -> None:
    with (
        faulty_wallets([WalletDisk(tmp_path)]),
        closing(Database(None, network_id=b"n", owner=b"o", seed=bytes(32))) as database,
    ):
        assert type(database._db) is sqlite3.Connection


# What is torn


def test_a_power_cut_leaves_any_of_the_sectors_and_a_crash_the_first_of_the_pages() -> None:
    before, after = b"a" * 3 * PAGE, b"b" * 4 * PAGE
    for power_cut, size, states in ((True, SECTOR, 150), (False, PAGE, 4)):
        left = {torn(before, after, Random(seed), power_cut=power_cut) for seed in range(200)}
        assert len(left) >= states
        assert after not in left
        for raw in left:
            blocks = [set(raw[at : at + size]) for at in range(0, len(raw), size)]
            assert all(block in ({97}, {98}, {0}) for block in blocks)
            if not power_cut:
                assert raw == b"b" * raw.count(b"b") + before[raw.count(b"b") :]


def test_a_log_that_is_begun_anew_has_its_header_before_anything_else() -> None:
    before, after = b"a" * 2 * PAGE, b"b" * 2 * PAGE
    for seed in range(50):
        for power_cut in (True, False):
            left = torn_log(before, after, Random(seed), power_cut=power_cut)
            assert left[:LOG_HEADER] == after[:LOG_HEADER]
            assert left != after


class Life:
    """A node with a wallet that notes names; it can be gone in the midst of what it writes."""

    def __init__(self, disk: WalletDisk) -> None:
        self.disk, self.under = disk, FaultyDisk()
        self.store = FaultyStore(self.under)
        self.database = opened(disk, self.store)
        self.told: set[str] = set()

    def put(self, *numbers: int) -> None:
        """Note names, each by itself; they are told, as long as the process is there."""
        for number in numbers:
            name = f"{number:03}"
            self.database.run("INSERT INTO meta (name, value) VALUES (?, ?)", name, bytes(900))
            if not self.store.is_dead:
                self.told.add(name)

    def dies(self, *, power_cut: bool) -> Callable[[], None]:
        """Return what lets the process be gone."""

        def strike() -> None:
            self.store.is_dead = True
            self.disk.crash(power_cut=power_cut)

        return strike

    def found(self) -> set[str]:
        """Start again; return which names are there."""
        with closing(opened(self.disk)) as again:
            assert again.rows("PRAGMA integrity_check") == [("ok",)]
            return {name for (name,) in again.rows("SELECT name FROM meta") if name.isdigit()}


@contextmanager
def lives(home: Path, count: int = 12) -> Iterator[list[Life]]:
    """Yield nodes whose disks are torn otherwise, each."""
    disks = []
    for seed in range(count):
        (folder := home / f"node{seed}").mkdir()
        disks.append(WalletDisk(folder, str(seed)))
    with faulty_wallets(disks):
        yield [Life(disk) for disk in disks]


@pytest.mark.parametrize("power_cut", [True, False])
def test_who_dies_while_a_log_is_written_back_has_lost_nothing(
    power_cut: bool, tmp_path: Path
) -> None:
    half = 0
    with lives(tmp_path) as nodes:
        for number, life in enumerate(nodes):
            life.disk.at_write_back(1 + number % 2, life.dies(power_cut=power_cut))
            life.put(*range(3 * COMMITS_WRITTEN_BACK))
            assert life.store.is_dead
            half += life.disk.half_written_back
            # The commit after which the log was long enough is there, and was not told.
            found = life.found()
            assert life.told < found
            assert len(found) == len(life.told) + 1
    assert half > 6


def test_what_is_half_written_back_is_nothing_without_its_log(tmp_path: Path) -> None:
    lost = 0
    with lives(tmp_path) as nodes:
        for life in nodes:
            life.put(*range(COMMITS_WRITTEN_BACK))
            life.disk.at_write_back(1, life.dies(power_cut=True))
            life.put(*range(100, 100 + COMMITS_WRITTEN_BACK))
            assert life.disk._left is not None
            del life.disk._left["w.db-wal"]
            try:
                lost += not life.told <= life.found()
            except (AssertionError, StoreDamagedError):
                lost += 1
    assert lost > 6


@pytest.mark.parametrize("power_cut", [True, False])
def test_a_database_is_written_back_when_it_is_closed(power_cut: bool, tmp_path: Path) -> None:
    with lives(tmp_path) as nodes:
        for life in nodes:
            life.disk.at_write_back(1, life.dies(power_cut=power_cut))
            life.put(1, 2, 3)
            assert not life.store.is_dead
            life.database.close()
            assert life.store.is_dead
            assert life.found() == {"001", "002", "003"}


@pytest.mark.parametrize("power_cut", [True, False])
@pytest.mark.parametrize("before", [3, COMMITS_WRITTEN_BACK, COMMITS_WRITTEN_BACK + 1])
def test_a_commit_that_is_torn_is_not_there(before: int, power_cut: bool, tmp_path: Path) -> None:
    torn_logs = 0
    with lives(tmp_path) as nodes:
        for life in nodes:
            life.put(*range(before))
            strike = life.dies(power_cut=power_cut)
            life.under.at_write(1, lambda strike=strike: strike())  # type: ignore[misc]
            life.put(700, 701)
            assert life.store.is_dead
            torn_logs += life.disk.torn_logs
            assert life.found() == life.told == {f"{number:03}" for number in range(before)}
    # What a commit writes where others have been may be a part of one page.
    assert torn_logs > 2 or (before > COMMITS_WRITTEN_BACK and not power_cut)


@pytest.mark.parametrize(("synchronous", "stays"), [("FULL", 3), ("NORMAL", 2), ("OFF", 1)])
def test_what_is_written_back_is_synced_as_the_pragma_says(
    synchronous: str, stays: int, tmp_path: Path
) -> None:
    with lives(tmp_path, 1) as (life,):
        life.put(0)
        life.database.rows(f"PRAGMA synchronous = {synchronous}")
        life.put(1)
        life.disk.write_back(life.disk._open[-1])
        life.put(2)
        life.dies(power_cut=True)()
        assert life.found() == {f"{number:03}" for number in range(stays)}


# What rots


def test_a_file_that_has_rotted_is_so_from_the_next_start_on_until_it_is_put_right(
    tmp_path: Path,
) -> None:
    keys = tmp_path / "w.wallet"
    keys.write_bytes(b"keys" * 9)
    disk = WalletDisk(tmp_path)
    seen: set[str] = set()
    with faulty_wallets([disk]):
        for seed in range(40):
            read: list[bool] = []
            life = Life(disk)
            life.put(*range(9 * seed, 9 * seed + 9))
            disk.rot(Random(seed), lambda read=read: read.append(True), pages=seed % 2)  # type: ignore[misc]
            life.dies(power_cut=False)()
            sound = dict(disk._left or {})
            assert disk.will_rot
            assert not read
            disk.begin(FaultyStore(FaultyDisk()))
            assert read == [True]
            assert not disk.will_rot
            (name,) = disk.rotted
            seen.add(name)
            assert disk.rotted[name] == sound[name] != (tmp_path / name).read_bytes()
            disk.crash(power_cut=False)
            assert disk.put_right() is (name != "w.wallet")
            assert not disk.rotted
            disk.begin(FaultyStore(FaultyDisk()))
            assert keys.read_bytes() == b"keys" * 9
            assert (tmp_path / "w.db").exists() is (name == "w.wallet")
    assert seen == {"w.wallet", "w.db", "w.db-wal"}


# Keys


def sealed(home: Path, *, synced: bool, power_cut: bool, at: int) -> set[bytes]:
    """Return what files of keys hold that were written while a process was gone at a sync."""
    left = set()
    for seed in range(20):
        (folder := home / f"{synced} {power_cut} {at} {seed}").mkdir(parents=True)
        keys = folder / "w.wallet"
        keys.write_bytes(b"old" * 100)
        disk = WalletDisk(folder, str(seed))
        disk.begin(store := FaultyStore(FaultyDisk()))

        def die(disk: WalletDisk = disk, store: FaultyStore = store) -> None:
            store.is_dead = True
            disk.crash(power_cut=power_cut)

        with faulty_wallets([disk]):
            disk.at_key_sync(at, die)
            if synced:
                write_private(keys, b"new" * 100)
            else:
                (beside := folder / ".w.wallet.1").write_bytes(b"new" * 100)
                beside.rename(keys)
                disk.sync_keys(folder)
            assert store.is_dead
            disk.begin(FaultyStore(FaultyDisk()))
        left.add(keys.read_bytes())
    return left


@pytest.mark.parametrize("power_cut", [True, False])
def test_keys_are_the_old_or_the_new_whenever_their_writer_is_gone(
    power_cut: bool, tmp_path: Path
) -> None:
    old, new = b"old" * 100, b"new" * 100
    assert sealed(tmp_path, synced=True, power_cut=power_cut, at=1) == {old}
    expected = {old, new} if power_cut else {new}
    assert sealed(tmp_path, synced=True, power_cut=power_cut, at=2) == expected


def test_keys_that_were_not_synced_are_torn_by_a_power_cut(tmp_path: Path) -> None:
    left = sealed(tmp_path, synced=False, power_cut=True, at=1)
    assert b"old" * 100 in left
    assert any(len(keys) < 300 for keys in left)


def test_keys_whose_writer_was_told_that_they_are_there_outlive_a_power_cut(
    tmp_path: Path,
) -> None:
    keys = tmp_path / "w.wallet"
    keys.write_bytes(b"old")
    disk = WalletDisk(tmp_path)
    disk.begin(FaultyStore(FaultyDisk()))
    with faulty_wallets([disk]):
        write_private(keys, b"new")
        disk.crash(power_cut=True)
        disk.begin(FaultyStore(FaultyDisk()))
    assert keys.read_bytes() == b"new"
