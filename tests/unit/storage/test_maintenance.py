"""Looking for damage, putting it right, counting and copying."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.framework.failing_store import FailingStore
from tests.framework.pages import MemoryPages
from tests.framework.stored_chain import ChainWriter
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import LOCAL, TEST
from unchained.node.crypto.history_range import EMPTY_HISTORY
from unchained.node.crypto.state_range import StateRange
from unchained.storage import maintenance, schema
from unchained.storage.check import MAX_PROBLEMS, check
from unchained.storage.errors import (
    BadBackupError,
    NotRepairableError,
    StoreCorruptError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
    WrongNetworkError,
)
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.leveldb import LevelStore
from unchained.storage.maintenance import Apart, backup, is_apart, repair, reset, stats
from unchained.storage.memory import MemoryStore
from unchained.storage.open import STORE_NAME, open_store, prepare
from unchained.storage.pages import state_pages
from unchained.storage.progress import STEP, Progress, counted
from unchained.storage.rebuild import rebuild
from unchained.storage.tables import NumberTable, PageTable, Table

ANCHORS = 12

Damage = Callable[[KeyValueStore, Batch], None]


@pytest.fixture
def store() -> KeyValueStore:
    store = MemoryStore()
    prepare(store, LOCAL)
    writer = ChainWriter(store)
    writer.grow(ANCHORS)
    writer.wait(writer.transfer(writer.tip.id, 10**8))
    return store


def stored(directory: Path, anchors: int = ANCHORS) -> None:
    store = open_store(directory, LOCAL, create=True)
    ChainWriter(store).grow(anchors)
    store.close()


def apply(store: KeyValueStore, damage: Damage) -> None:
    batch = Batch()
    damage(store, batch)
    assert len(batch)
    store.write(batch, sync=True)


def first_of(store: KeyValueStore, table: Table[object]) -> bytes:
    return next(store.keys(table.start, table.stop))


def drop(table: Table[object]) -> Damage:
    return lambda store, batch: batch.delete(first_of(store, table))


def drop_number(table: NumberTable[object], number: int) -> Damage:
    return lambda _store, batch: batch.delete(table.key(number))


def unspent_of(store: KeyValueStore, kind: CoinKind, spent: bool) -> bytes:
    return next(
        coin_id
        for coin_id, history in schema.HISTORY.scan(store)
        if history.kind is kind and bool(history.spent_by) is spent
    )


def test_sound_store_has_no_problem(store: KeyValueStore) -> None:
    seen: list[Progress] = []
    report = check(store, LOCAL, seen.append)
    assert report.problems == ()
    assert report.sound
    assert report.entries["height"] == ANCHORS + 1
    assert report.entries["txid"] == ANCHORS // 2
    assert report.entries["event"] == 3 * ANCHORS + 1
    assert {progress.stage for progress in seen} == {
        "records",
        "main chain",
        "coins",
        "state pages",
        "history pages",
        "bound coins",
        "mempool",
        "events",
    }


def test_empty_store_is_sound() -> None:
    assert check(MemoryStore(), LOCAL).sound


def test_snapshot_can_be_checked(store: KeyValueStore) -> None:
    with store.snapshot() as snapshot:
        apply(store, drop(schema.UNSPENT))
        assert check(snapshot, LOCAL).sound
    assert not check(store, LOCAL).sound


def another_coin(store: KeyValueStore, batch: Batch) -> None:
    keys = store.keys(schema.COIN.start, schema.COIN.stop)
    batch.put(next(keys), store.get(next(keys)) or b"")


def another_transfer(store: KeyValueStore, batch: Batch) -> None:
    keys = store.keys(schema.TRANSFER.start, schema.TRANSFER.stop)
    batch.put(next(keys), store.get(next(keys)) or b"")


def truncated_value(store: KeyValueStore, batch: Batch) -> None:
    key = first_of(store, schema.UNSPENT)
    batch.put(key, (store.get(key) or b"")[:-1])


def swapped_heights(store: KeyValueStore, batch: Batch) -> None:
    batch.put(schema.HEIGHT.key(3), schema.HEIGHT.get(store, 4) or b"")
    batch.put(schema.HEIGHT.key(4), schema.HEIGHT.get(store, 3) or b"")


def lost_body(store: KeyValueStore, batch: Batch) -> None:
    anchor_id = schema.HEIGHT.get(store, 3) or b""
    record = schema.ANCHOR.get(store, anchor_id)
    assert record is not None
    bare = schema.AnchorRecord(record.coin, b"", 1, 0, 0)
    batch.put(schema.ANCHOR.key(anchor_id), schema.ANCHOR.encode(bare))


def lost_anchor(store: KeyValueStore, batch: Batch) -> None:
    batch.delete(schema.ANCHOR.key(schema.HEIGHT.get(store, 3) or b""))


def lost_anchor_coin(store: KeyValueStore, batch: Batch) -> None:
    batch.delete(schema.COIN.key(schema.HEIGHT.get(store, 3) or b""))


def spent_twice(store: KeyValueStore, batch: Batch) -> None:
    spent = unspent_of(store, CoinKind.FRESH, True)
    first = first_of(store, schema.UNSPENT)
    batch.put(schema.UNSPENT.key(spent), store.get(first) or b"")


def other_value(store: KeyValueStore, batch: Batch) -> None:
    coin_id = unspent_of(store, CoinKind.ANCHOR, False)
    coin = schema.UNSPENT.get(store, coin_id)
    assert coin is not None
    richer = msgspec.structs.replace(coin, value=coin.value + 1)
    batch.put(schema.UNSPENT.key(coin_id), schema.UNSPENT.encode(richer))


def other_history(store: KeyValueStore, batch: Batch) -> None:
    for kind in (CoinKind.ANCHOR, CoinKind.OUTPUT):
        coin_id = unspent_of(store, kind, False)
        found = schema.HISTORY.get(store, coin_id)
        assert found is not None
        other = msgspec.structs.replace(found, index=9)
        batch.put(schema.HISTORY.key(coin_id), schema.HISTORY.encode(other))


def lost_history(kind: CoinKind) -> Damage:
    return lambda store, batch: batch.delete(schema.HISTORY.key(unspent_of(store, kind, False)))


def forgotten_spending(store: KeyValueStore, batch: Batch) -> None:
    coin_id = unspent_of(store, CoinKind.FRESH, True)
    found = schema.HISTORY.get(store, coin_id)
    assert found is not None
    other = msgspec.structs.replace(found, spent_height=0, spent_by=b"")
    batch.put(schema.HISTORY.key(coin_id), schema.HISTORY.encode(other))


def stranger_first_and_last(store: KeyValueStore, batch: Batch) -> None:
    value = store.get(first_of(store, schema.UNSPENT)) or b""
    batch.put(schema.UNSPENT.key(bytes(32)), value)
    batch.put(schema.UNSPENT.key(b"\xff" * 32), value)


def strange_owner(_store: KeyValueStore, batch: Batch) -> None:
    batch.put(schema.OWNER.key(bytes(32), bytes(32)), bytes(16))


def bound_to_another(store: KeyValueStore, batch: Batch) -> None:
    coin_id = first_of(store, schema.COIN)[1:]
    batch.put(schema.BOUND.key(bytes(32), coin_id), b"")


def bound_unknown(_store: KeyValueStore, batch: Batch) -> None:
    batch.put(schema.BOUND.key(bytes(32), bytes(32)), b"")


def unbound_on_the_main_chain(store: KeyValueStore, batch: Batch) -> None:
    """The chain could not be opened, and nothing said what was wrong."""
    at_5, at_6 = (schema.HEIGHT.get(store, height) or b"" for height in (5, 6))
    batch.delete(schema.BOUND.key(at_5, at_6))


def waiting_unknown(_store: KeyValueStore, batch: Batch) -> None:
    row = schema.MEMPOOL.encode(schema.MempoolRecord(1, 1, 1, 1))
    batch.put(schema.MEMPOOL.key(bytes(32)), row)


def above_the_tip(_store: KeyValueStore, batch: Batch) -> None:
    batch.put(schema.UNDO.key(ANCHORS + 1), schema.UNDO.encode(schema.UndoRecord(())))


def wrong_supply(store: KeyValueStore, batch: Batch) -> None:
    state = schema.STATE.get(store, ANCHORS)
    assert state is not None
    other = msgspec.structs.replace(state, supply=state.supply + 1)
    batch.put(schema.STATE.key(ANCHORS), schema.STATE.encode(other))


def other_positions(store: KeyValueStore, batch: Batch) -> None:
    state = schema.STATE.get(store, ANCHORS)
    assert state is not None
    other = msgspec.structs.replace(state, positions=state.positions + 1)
    batch.put(schema.STATE.key(ANCHORS), schema.STATE.encode(other))


def other_peaks(store: KeyValueStore, batch: Batch) -> None:
    state = schema.STATE.get(store, ANCHORS)
    assert state is not None
    other = msgspec.structs.replace(state, history=EMPTY_HISTORY.to_bytes())
    batch.put(schema.STATE.key(ANCHORS), schema.STATE.encode(other))


def swapped_positions(store: KeyValueStore, batch: Batch) -> None:
    spent = [coin_id for coin_id, found in schema.HISTORY.scan(store) if found.spent_by]
    one, other = (schema.HISTORY.get(store, coin_id) for coin_id in spent[:2])
    assert one is not None
    assert other is not None
    for coin_id, mine, its in ((spent[0], one, other), (spent[1], other, one)):
        row = schema.HISTORY.encode(msgspec.structs.replace(mine, position=its.position))
        batch.put(schema.HISTORY.key(coin_id), row)


def wrong_page(table: PageTable) -> Damage:
    def damage(store: KeyValueStore, batch: Batch) -> None:
        key = first_of(store, table)
        page = bytearray(store.get(key) or b"")
        page[-1] ^= 1
        batch.put(key, bytes(page))

    return damage


def strange_page(table: PageTable) -> Damage:
    def damage(store: KeyValueStore, batch: Batch) -> None:
        batch.put(table.key(3, 7), store.get(first_of(store, table)) or b"")

    return damage


def no_table(_store: KeyValueStore, batch: Batch) -> None:
    batch.put(b"?what", b"")


def short_key(_store: KeyValueStore, batch: Batch) -> None:
    batch.put(b"x123", bytes(49))


def wrong_next_event(_store: KeyValueStore, batch: Batch) -> None:
    batch.put(schema.META.key(schema.META_NEXT_EVENT), schema.encode_number(1))


def wrong_tip(_store: KeyValueStore, batch: Batch) -> None:
    batch.put(schema.META.key(schema.META_TIP), bytes(32))


def odd_tip(_store: KeyValueStore, batch: Batch) -> None:
    batch.put(schema.META.key(schema.META_TIP), bytes(31))


DAMAGES: list[tuple[Damage, str]] = [
    (another_coin, "has the bytes of another coin"),
    (another_transfer, "has the bytes of another transfer"),
    (truncated_value, "table unspent, key"),
    (swapped_heights, "is another coin"),
    (lost_body, "body of anchor 3 is missing"),
    (lost_anchor, "at height 3 has no record"),
    (lost_anchor_coin, "the coin of anchor 3 is missing"),
    (spent_twice, "is in the coin set"),
    (other_value, "differs from its history"),
    (other_history, "has another history"),
    (forgotten_spending, "says otherwise"),
    (stranger_first_and_last, "in the coin set without a history"),
    (strange_owner, "the owner index has"),
    (bound_to_another, "is not bound to"),
    (bound_unknown, "bound coin"),
    (unbound_on_the_main_chain, "anchor 6 is not bound to the one before"),
    (waiting_unknown, "waiting transfer"),
    (above_the_tip, "table undo ends at height 13, expected 12"),
    (wrong_supply, "grains, expected"),
    (other_positions, "positions, expected"),
    (other_peaks, "the history at the tip is not that of its anchors"),
    (swapped_positions, "has position"),
    (wrong_page(schema.STATE_PAGE), "is missing or wrong"),
    (wrong_page(schema.HISTORY_PAGE), "is missing or wrong"),
    (drop(schema.STATE_PAGE), "is missing or wrong"),
    (drop(schema.HISTORY_PAGE), "is missing or wrong"),
    (strange_page(schema.STATE_PAGE), "belongs to no leaf"),
    (strange_page(schema.HISTORY_PAGE), "belongs to no leaf"),
    (no_table, "belongs to no table"),
    (short_key, "a key of 4 bytes, expected 33"),
    (wrong_next_event, "next event is said to be 1"),
    (wrong_tip, "the tip is"),
    (odd_tip, "expected an id of 32"),
    (drop_number(schema.HEIGHT, 5), "heights 5 to 5 have no anchor"),
    (drop_number(schema.EVENT, 5), "events 5 to 5 are missing"),
    (drop_number(schema.STATE, ANCHORS), "the state at the tip"),
    (drop_number(schema.STATE, 5), "table state lacks heights 5 to 5"),
    (drop_number(schema.UNDO, ANCHORS), "table undo ends at height 11, expected 12"),
    (drop(schema.UNSPENT), "is not in the coin set"),
    (lost_history(CoinKind.ANCHOR), "has no history"),
    (lost_history(CoinKind.OUTPUT), "has another history"),
    (drop(schema.OWNER), "the owner index has None"),
    (drop(schema.TXID), "is placed None"),
    (drop(schema.TRANSFER), "is missing"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_damage_is_named(store: KeyValueStore, damage: Damage, words: str) -> None:
    apply(store, damage)
    report = check(store, LOCAL)
    assert not report.sound
    assert not report.unreadable
    assert any(words in problem for problem in report.problems), report.problems
    assert all("\n" not in problem for problem in report.problems)


def test_coin_set_is_held_against_the_pages_of_its_range(store: KeyValueStore) -> None:
    def damage(store: KeyValueStore, batch: Batch) -> None:
        other_value(store, batch)
        for key, raw in list(batch.changes.items()):
            coin = schema.UNSPENT.decode(key, raw or b"")
            found = schema.HISTORY.get(store, key[1:])
            assert found is not None
            made = msgspec.structs.replace(found, value=coin.value)
            batch.put(schema.HISTORY.key(key[1:]), schema.HISTORY.encode(made))
            owned = schema.OWNER.encode(schema.OwnedCoin(coin.value, coin.height))
            batch.put(schema.OWNER.key(coin.lock, key[1:]), owned)
        wrong_supply(store, batch)

    apply(store, damage)
    problems = check(store, LOCAL).problems
    assert problems
    assert all("state page" in problem for problem in problems)


def test_report_names_so_many_problems_and_counts_all(store: KeyValueStore) -> None:
    batch = Batch()
    for number in range(MAX_PROBLEMS + 5):
        batch.put(b"?%d" % number, b"")
    store.write(batch, sync=True)
    report = check(store, LOCAL)
    assert (len(report.problems), report.problem_count) == (MAX_PROBLEMS, MAX_PROBLEMS + 5)


@pytest.mark.parametrize(
    "damage",
    [
        truncated_value,
        spent_twice,
        other_value,
        stranger_first_and_last,
        strange_owner,
        drop(schema.UNSPENT),
        drop(schema.OWNER),
        drop(schema.TXID),
        drop(schema.STATE_PAGE),
        drop(schema.HISTORY_PAGE),
        wrong_page(schema.STATE_PAGE),
        wrong_page(schema.HISTORY_PAGE),
        strange_page(schema.STATE_PAGE),
        strange_page(schema.HISTORY_PAGE),
    ],
)
def test_rebuild_puts_derivable_rows_right(store: KeyValueStore, damage: Damage) -> None:
    before = list(store.items())
    apply(store, damage)
    done = rebuild(store, LOCAL)
    assert done.put + done.deleted > 0
    assert list(store.items()) == before


def test_rebuild_does_not_guess_positions(store: KeyValueStore) -> None:
    apply(store, swapped_positions)
    with pytest.raises(NotRepairableError, match="position"):
        rebuild(store, LOCAL)


def test_pages_are_made_anew_however_many_there_are() -> None:
    rng, pages, made = random.Random(4), state_pages(), dict[tuple[int, int], bytes]()
    leaves = [rng.randbytes(32) for _ in range(20_000)]
    kept = 0
    for leaf in leaves:
        pages.add(leaf)
        for level, index, page in pages.finished():
            assert made.setdefault((level, index), page) is page
            kept += 1
    made.update({(level, index): page for level, index, page in pages.rest()})
    assert kept > 1_000
    expected = MemoryPages()
    plain = StateRange(expected, 0)
    for leaf in leaves:
        plain.append(leaf)
    plain.flush(expected)
    assert made == expected.pages


def test_reset_takes_the_chain_alone(tmp_path: Path) -> None:
    stored(tmp_path)
    (tmp_path / "wallets").mkdir()
    (tmp_path / "wallets" / "mine.wallet").write_bytes(b"secret")
    (tmp_path / "peer.key").write_bytes(b"key")
    store = open_store(tmp_path, LOCAL, create=False)
    with pytest.raises(StoreLockedError):
        reset(tmp_path)
    assert schema.HEIGHT.get(store, ANCHORS) is not None
    store.close()
    assert reset(tmp_path) > 0
    assert not (tmp_path / STORE_NAME).exists()
    assert (tmp_path / "wallets" / "mine.wallet").read_bytes() == b"secret"
    assert (tmp_path / "peer.key").read_bytes() == b"key"
    with pytest.raises(StoreMissingError):
        reset(tmp_path)
    open_store(tmp_path, LOCAL, create=True).close()


def test_reset_that_was_cut_off_is_finished_by_the_next(tmp_path: Path) -> None:
    stored(tmp_path)
    (tmp_path / STORE_NAME).rename(tmp_path / f"{STORE_NAME}.removed")
    stored(tmp_path)
    reset(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store.lock"]


def test_rebuild_takes_wrong_places_away(store: KeyValueStore) -> None:
    before = list(store.items())
    txid, place = next(schema.TXID.scan(store))
    batch = Batch()
    wrong = [
        schema.TransferPlace(place.wid, place.height, 7),
        schema.TransferPlace(place.wid, 999, 0),
        schema.TransferPlace(bytes(32), place.height, 0),
        place,
    ]
    for number, row in enumerate(wrong):
        batch.put(schema.TXID.key(bytes([number]) * 32), schema.TXID.encode(row))
    batch.put(schema.TXID.key(b"\x09" * 32), b"damaged")
    batch.put(schema.TXID.key(txid), schema.TXID.encode(wrong[0]))
    store.write(batch, sync=True)
    done = rebuild(store, LOCAL)
    assert (done.put, done.deleted) == (1, 5)
    assert list(store.items()) == before


def test_rebuild_of_a_sound_store_changes_nothing(store: KeyValueStore) -> None:
    before = list(store.items())
    done = rebuild(store, LOCAL)
    assert (done.put, done.deleted) == (0, 0)
    assert list(store.items()) == before


def test_rebuild_that_is_cut_off_can_be_finished(store: KeyValueStore) -> None:
    before = list(store.items())
    for table in (schema.UNSPENT, schema.OWNER, schema.TXID):
        apply(store, drop(table))
    for fail_at in range(1, 4):
        with pytest.raises(StoreFullError):
            rebuild(FailingStore(store, fail_at=fail_at), LOCAL)
    prepare(store, LOCAL)
    assert list(store.items()) == before


def bad_wid(store: KeyValueStore, batch: Batch) -> None:
    batch.put(first_of(store, schema.TRANSFER), b"\x90")


def bad_body(store: KeyValueStore, batch: Batch) -> None:
    anchor_id = schema.HEIGHT.get(store, 3) or b""
    record = schema.ANCHOR.get(store, anchor_id)
    assert record is not None
    bare = schema.AnchorRecord(record.coin, b"\x90", 1, 0, 0)
    batch.put(schema.ANCHOR.key(anchor_id), schema.ANCHOR.encode(bare))


def lost_coin(store: KeyValueStore, batch: Batch) -> None:
    batch.delete(schema.COIN.key(unspent_of(store, CoinKind.FRESH, False)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lost_body, "body of anchor 3 is lost"),
        (bad_body, "body of anchor 3 is damaged"),
        (drop(schema.TRANSFER), "is lost"),
        (bad_wid, "is damaged"),
        (lost_coin, "what made coin"),
    ],
)
def test_what_nothing_tells_cannot_be_rebuilt(
    store: KeyValueStore, damage: Damage, words: str
) -> None:
    apply(store, damage)
    with pytest.raises(NotRepairableError, match=words):
        rebuild(store, LOCAL)


def test_stats_count_entries_and_bytes(store: KeyValueStore) -> None:
    sizes = {size.table: size for size in stats(store)}
    assert sizes["height"] == maintenance.TableSize("height", ANCHORS + 1, (ANCHORS + 1) * 41)
    assert sum(size.entries for size in sizes.values()) == len(list(store.items()))
    assert sizes["ban"].size == 0


def test_progress_comes_at_start_end_and_between() -> None:
    seen: list[Progress] = []
    assert len(list(counted(range(STEP + 1), "x", seen.append))) == STEP + 1
    assert [progress.done for progress in seen] == [0, STEP, STEP + 1]


# Backup


def test_backup_is_a_data_directory_like_its_source(tmp_path: Path) -> None:
    stored(tmp_path / "node")
    store = open_store(tmp_path / "node", LOCAL, create=False)
    before = list(store.items())
    copied = backup(store, tmp_path / "copy")
    put = Batch()
    put.put(schema.BAN.key(b"later"), b"")
    store.write(put, sync=True)
    store.close()
    assert copied.entries == len(before)
    assert not (tmp_path / "copy.partial").exists()
    copy = open_store(tmp_path / "copy", LOCAL, create=False)
    assert list(copy.items()) == before
    copy.close()


def test_backup_takes_the_moment_it_began(tmp_path: Path, store: KeyValueStore) -> None:
    before = list(store.items())

    def write_on(progress: Progress) -> None:
        if progress == Progress("copy", 0):
            apply(store, strange_owner)

    backup(store, tmp_path / "copy", write_on)
    copy = LevelStore(tmp_path / "copy" / STORE_NAME)
    assert list(copy.items()) == before
    copy.close()


def test_backup_leaves_what_exists_alone(tmp_path: Path, store: KeyValueStore) -> None:
    with pytest.raises(BadBackupError, match="already exists"):
        backup(store, tmp_path)
    (tmp_path / "copy.partial").mkdir()
    (tmp_path / "copy.partial" / "mine").write_bytes(b"")
    with pytest.raises(BadBackupError, match="not the rest of a backup"):
        backup(store, tmp_path / "copy")


def test_backup_that_was_cut_off_is_not_there(tmp_path: Path, store: KeyValueStore) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "verify":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(store, tmp_path / "copy", stop)
    assert not (tmp_path / "copy").exists()
    assert (tmp_path / "copy.partial").exists()
    backup(store, tmp_path / "copy")
    assert not (tmp_path / "copy.partial").exists()


def test_backup_that_differs_is_not_kept(tmp_path: Path, store: KeyValueStore) -> None:
    class Forgetful(LevelStore):
        """Loses the last row of each batch."""

        def write(self, batch: Batch, *, sync: bool) -> None:
            batch.changes.popitem()
            super().write(batch, sync=sync)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maintenance, "LevelStore", Forgetful)
        with pytest.raises(BadBackupError, match="differs from its source"):
            backup(store, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_backup_is_on_disk_when_it_is_there(tmp_path: Path, store: KeyValueStore) -> None:
    synced: list[bool] = []

    class Noted(LevelStore):
        """Notes of each batch whether it is synced."""

        def write(self, batch: Batch, *, sync: bool) -> None:
            synced.append(sync)
            super().write(batch, sync=sync)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maintenance, "LevelStore", Noted)
        backup(store, tmp_path / "copy")
    assert synced[-1]


# Repair


def spoil_tables(path: Path) -> None:
    """Overwrite a few bytes in the middle of every table file."""
    tables = sorted(path.glob("*.ldb"))
    assert tables
    for table in tables:
        raw = bytearray(table.read_bytes())
        middle = len(raw) // 2
        raw[middle : middle + 64] = bytes(64)
        table.write_bytes(raw)


def compacted(directory: Path, anchors: int = ANCHORS) -> None:
    stored(directory, anchors)
    store = LevelStore(directory / STORE_NAME)
    store.compact()
    store.close()


def test_repair_of_rows_keeps_files_as_they_are(tmp_path: Path) -> None:
    stored(tmp_path)
    store = open_store(tmp_path, LOCAL, create=False)
    for table in (schema.UNSPENT, schema.OWNER):
        apply(store, drop(table))
    assert not check(store, LOCAL).sound
    store.close()
    repaired = repair(tmp_path, LOCAL)
    assert repaired.kept is None
    assert repaired.rebuilt.put == 2
    assert repaired.report.sound


def test_repair_without_a_manifest_brings_all_back(tmp_path: Path) -> None:
    compacted(tmp_path)
    path = tmp_path / STORE_NAME
    store = LevelStore(path)
    before = list(store.items())
    store.close()
    for manifest in path.glob("MANIFEST-*"):
        manifest.write_bytes(manifest.read_bytes()[:10])
    with pytest.raises(StoreCorruptError, match="damaged"):
        open_store(tmp_path, LOCAL, create=True)
    repaired = repair(tmp_path, LOCAL)
    assert repaired.report.sound
    assert repaired.kept is not None
    assert list(repaired.kept.glob("*.ldb"))
    again = open_store(tmp_path, LOCAL, create=False)
    assert list(again.items()) == before
    again.close()


def test_lost_current_file_is_damage_and_not_an_empty_store(tmp_path: Path) -> None:
    compacted(tmp_path)
    (tmp_path / STORE_NAME / "CURRENT").unlink()
    with pytest.raises(StoreCorruptError, match="CURRENT is missing"):
        open_store(tmp_path, LOCAL, create=True)
    assert repair(tmp_path, LOCAL).report.sound


def test_damaged_tables_are_an_error_never_a_shorter_store(tmp_path: Path) -> None:
    compacted(tmp_path, 200)
    path = tmp_path / STORE_NAME
    spoil_tables(path)
    with pytest.raises(StoreCorruptError, match="checksum mismatch"):  # noqa: PT012
        store = LevelStore(path)
        try:
            for _ in store.items():
                pass
        finally:
            store.close()
    store = LevelStore(path)
    report = check(store, LOCAL)
    assert report.unreadable
    assert not report.sound
    store.close()


def test_repair_of_damaged_tables_keeps_the_damaged_files(tmp_path: Path) -> None:
    compacted(tmp_path, 200)
    spoil_tables(tmp_path / STORE_NAME)
    before = {p.name: p.read_bytes() for p in (tmp_path / STORE_NAME).glob("*.ldb")}
    with contextlib.suppress(NotRepairableError):
        repaired = repair(tmp_path, LOCAL)
        assert not repaired.report.sound
        assert not repaired.report.unreadable
    kept = tmp_path / f"{STORE_NAME}.damaged-1"
    assert {p.name: p.read_bytes() for p in kept.glob("*.ldb")} == before


def test_truncated_table_is_damage(tmp_path: Path) -> None:
    compacted(tmp_path, 200)
    for table in (tmp_path / STORE_NAME).glob("*.ldb"):
        table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(StoreCorruptError):  # noqa: PT012
        store = open_store(tmp_path, LOCAL, create=False)
        store.close()


def test_missing_table_is_damage(tmp_path: Path) -> None:
    compacted(tmp_path, 200)
    for table in (tmp_path / STORE_NAME).glob("*.ldb"):
        table.unlink()
    with pytest.raises(StoreCorruptError):
        open_store(tmp_path, LOCAL, create=False)


def test_repair_that_finds_nothing_left_says_so(tmp_path: Path) -> None:
    compacted(tmp_path)
    for table in (tmp_path / STORE_NAME).glob("*.ldb"):
        table.unlink()
    with pytest.raises(NotRepairableError, match=r"damaged-1"):
        repair(tmp_path, LOCAL)


def test_repair_is_for_the_store_of_this_network_alone(tmp_path: Path) -> None:
    stored(tmp_path)
    with pytest.raises(WrongNetworkError):
        repair(tmp_path, TEST)
    with pytest.raises(StoreMissingError):
        repair(tmp_path / "none", LOCAL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreMissingError):
        repair(tmp_path / "empty", LOCAL)
    store = open_store(tmp_path, LOCAL, create=False)
    with pytest.raises(StoreLockedError):
        repair(tmp_path, LOCAL)
    store.close()


def test_kept_files_are_copied_where_links_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: str, _target: str) -> None:
        raise OSError(1, "no links here")

    compacted(tmp_path)
    (tmp_path / STORE_NAME / "CURRENT").unlink()
    monkeypatch.setattr(maintenance.os, "link", refuse)
    assert repair(tmp_path, LOCAL).report.sound
    assert list((tmp_path / f"{STORE_NAME}.damaged-1").glob("*.ldb"))


def test_damaged_files_that_cannot_be_kept_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    compacted(tmp_path)
    (tmp_path / STORE_NAME / "CURRENT").unlink()
    before = sorted(p.name for p in (tmp_path / STORE_NAME).iterdir())
    monkeypatch.setattr(shutil, "copytree", refuse)
    with pytest.raises(StoreFullError):
        repair(tmp_path, LOCAL)
    assert sorted(p.name for p in (tmp_path / STORE_NAME).iterdir()) == before


def test_what_is_left_is_put_apart_and_the_damaged_files_are_kept(tmp_path: Path) -> None:
    compacted(tmp_path)
    for table in (tmp_path / STORE_NAME).glob("*.ldb"):
        table.unlink()
    with pytest.raises(NotRepairableError) as caught:
        repair(tmp_path, LOCAL)
    kept = caught.value.kept
    assert kept is not None
    assert not is_apart(tmp_path)
    apart = Apart(tmp_path, kept)
    assert apart.kept == kept
    assert is_apart(tmp_path)
    assert not (tmp_path / STORE_NAME).exists()
    assert dict(apart.reader.items()) == {}
    apart.remove()
    assert not is_apart(tmp_path)
    assert kept.is_dir()


def test_a_remake_that_was_cut_off_goes_on_with_what_it_began_with(tmp_path: Path) -> None:
    stored(tmp_path)
    store = open_store(tmp_path, LOCAL, create=False)
    rows = dict(store.items())
    store.close()
    apart = Apart(tmp_path)
    # No file was damaged, and all of them are kept as well.
    assert apart.kept == tmp_path / f"{STORE_NAME}.damaged-1"
    assert dict(apart.reader.items()) == rows
    apart.close()
    # The store that was being made is damaged in its turn.
    compacted(tmp_path)
    for table in (tmp_path / STORE_NAME).glob("*.ldb"):
        table.unlink()
    again = Apart(tmp_path)
    assert again.kept == tmp_path / f"{STORE_NAME}.damaged-2"
    assert not (tmp_path / STORE_NAME).exists()
    assert dict(again.reader.items()) == rows
    again.close()
    # A sound one is gone on with.
    stored(tmp_path)
    once_more = Apart(tmp_path)
    assert (tmp_path / STORE_NAME).exists()
    assert once_more.kept is None
    once_more.remove()


def test_nothing_is_put_apart_while_a_node_has_it_open(tmp_path: Path) -> None:
    stored(tmp_path)
    store = open_store(tmp_path, LOCAL, create=False)
    with pytest.raises(StoreLockedError):
        Apart(tmp_path)
    store.close()
    assert not is_apart(tmp_path)
