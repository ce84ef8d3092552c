"""What every store does, whichever it is: LevelDB or the memory twin."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.framework.failing_store import FailingStore
from unchained.storage.errors import StoreClosedError, StoreFullError
from unchained.storage.kv import Batch, KeyValueStore, Overlay, prefix_end
from unchained.storage.leveldb import LevelStore
from unchained.storage.memory import MemoryDisk, MemoryStore

Opener = Callable[[], KeyValueStore]


@pytest.fixture(params=["leveldb", "memory"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same store anew at each call."""
    if request.param == "leveldb":
        return lambda: LevelStore(tmp_path / "store", create=True)
    disk = MemoryDisk()
    return lambda: MemoryStore(disk)


@pytest.fixture
def store(opener: Opener) -> Iterator[KeyValueStore]:
    opened = opener()
    yield opened
    opened.close()


def batch_of(*changes: tuple[bytes, bytes | None]) -> Batch:
    batch = Batch()
    for key, value in changes:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch


def fill(store: KeyValueStore, count: int) -> None:
    rows = [(b"k%04d" % number, b"v%d" % number) for number in range(count)]
    store.write(batch_of(*rows), sync=False)


def test_value_is_what_was_put_last(store: KeyValueStore) -> None:
    store.write(batch_of((b"a", b"1"), (b"b", b""), (b"a", b"2")), sync=True)
    assert store.get(b"a") == b"2"
    assert store.get(b"b") == b""
    assert store.get(b"c") is None
    assert store.get_many([b"c", b"b", b"a"]) == [None, b"", b"2"]
    assert store.get_many([b"b", b"c", b"a", b"b"]) == [b"", None, b"2", b""]


def test_last_change_of_a_key_counts(store: KeyValueStore) -> None:
    store.write(batch_of((b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2")), sync=False)
    assert store.get_many([b"a", b"b"]) == [None, b"2"]


def test_deleting_what_is_absent_does_nothing(store: KeyValueStore) -> None:
    store.write(batch_of((b"a", None)), sync=False)
    assert list(store.items()) == []


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 64, 65, 200])
def test_ranges_are_ordered_and_bounded(store: KeyValueStore, count: int) -> None:
    fill(store, count)
    keys = [b"k%04d" % number for number in range(count)]
    assert list(store.keys()) == keys
    assert list(store.keys(reverse=True)) == keys[::-1]
    assert list(store.keys(b"k0001", b"k0033")) == keys[1:33]
    assert list(store.keys(b"k0001", b"k0033", reverse=True)) == keys[1:33][::-1]
    assert list(store.items(b"k0001", b"k0003")) == [(key, b"v" + key[-1:]) for key in keys[1:3]]


def test_range_without_room_is_empty(store: KeyValueStore) -> None:
    fill(store, 10)
    for reverse in (False, True):
        assert list(store.keys(b"k0005", b"k0005", reverse=reverse)) == []
        assert list(store.keys(b"k0006", b"k0005", reverse=reverse)) == []
        assert list(store.keys(b"l", None, reverse=reverse)) == []
        assert list(store.keys(b"", b"a", reverse=reverse)) == []


def test_keys_are_ordered_as_unsigned_bytes(store: KeyValueStore) -> None:
    keys = [b"\x00", b"\x00\x00", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
    store.write(batch_of(*((key, b"") for key in reversed(keys))), sync=False)
    assert list(store.keys()) == keys


def test_iterator_sees_the_moment_of_its_making(store: KeyValueStore) -> None:
    fill(store, 300)
    rows = store.items()
    store.write(batch_of((b"k0000", None), (b"k0299", b"x"), (b"z", b"y")), sync=False)
    assert list(rows) == [(b"k%04d" % number, b"v%d" % number) for number in range(300)]


def test_iterator_sees_its_moment_while_it_runs(store: KeyValueStore) -> None:
    fill(store, 300)
    seen = []
    for key in store.keys(reverse=True):
        seen.append(key)
        store.write(batch_of((key, None), (b"a" + key, b"new")), sync=False)
    assert seen == [b"k%04d" % number for number in reversed(range(300))]
    assert next(store.keys()) == b"ak0000"


def test_snapshot_stays_as_it_was(store: KeyValueStore) -> None:
    fill(store, 100)
    before = list(store.items())
    with store.snapshot() as snapshot:
        store.write(batch_of((b"k0001", None), (b"k0002", b"x"), (b"zz", b"y")), sync=False)
        assert list(snapshot.items()) == before
        assert list(snapshot.items(reverse=True)) == before[::-1]
        assert list(snapshot.keys(b"k0001", b"k0003")) == [b"k0001", b"k0002"]
        assert snapshot.get(b"k0001") == b"v1"
        assert snapshot.get_many([b"k0002", b"zz"]) == [b"v2", None]
        with store.snapshot() as later:
            store.write(batch_of((b"k0002", b"xx")), sync=False)
            assert later.get(b"k0002") == b"x"
            assert snapshot.get(b"k0002") == b"v2"
    assert store.get_many([b"k0001", b"k0002", b"zz"]) == [None, b"xx", b"y"]


def test_what_was_written_is_there_after_reopening(opener: Opener) -> None:
    first = opener()
    fill(first, 10)
    first.write(batch_of((b"k0003", None)), sync=True)
    first.close()
    second = opener()
    assert len(list(second.keys())) == 9
    assert second.get(b"k0003") is None
    second.close()


def test_use_after_closing_is_an_error(opener: Opener) -> None:
    store = opener()
    fill(store, 100)
    snapshot, rows = store.snapshot(), store.items()
    released = store.snapshot()
    released.close()
    with pytest.raises(StoreClosedError):
        released.get(b"a")
    assert next(rows) == (b"k0000", b"v0")
    store.close()
    store.close()
    for use in (
        lambda: store.get(b"a"),
        lambda: store.get_many([b"a"]),
        store.items,
        store.keys,
        lambda: store.write(Batch(), sync=False),
        store.snapshot,
        lambda: store.approximate_size(b"a", b"b"),
        store.compact,
        lambda: snapshot.get(b"a"),
        snapshot.items,
        lambda: list(rows),
    ):
        with pytest.raises(StoreClosedError, match="closed"):
            use()
    snapshot.close()


def test_size_and_compaction(store: KeyValueStore) -> None:
    rows = [(b"k%06d" % number, b"%06d" % number * 20) for number in range(20_000)]
    store.write(batch_of(*rows), sync=False)
    store.compact()
    assert store.approximate_size(b"k", b"l") > 0
    assert store.approximate_size(b"x", b"y") == 0
    assert list(store.items()) == rows


def test_compaction_drops_what_was_replaced(tmp_path: Path) -> None:
    with contextlib.closing(LevelStore(tmp_path / "chain", create=True)) as store:
        for run in range(8):
            value = random.Random(run).randbytes(100_000)
            store.write(batch_of(*((b"k%02d" % number, value) for number in range(40))), sync=False)
        store.compact()
        size = sum(path.stat().st_size for path in (tmp_path / "chain").glob("*.ldb"))
        assert size < 2 * 40 * 100_000
        assert store.get(b"k39") == value


def test_statistics_count_what_was_written(store: KeyValueStore) -> None:
    store.write(batch_of((b"a", b"123"), (b"b", None)), sync=True)
    store.write(batch_of((b"a", b"1")), sync=False)
    found = store.statistics()
    assert (found.batches, found.changes, found.bytes_written) == (2, 3, 7)
    assert (found.synced_batches, found.failed) == (1, False)


def test_batch_counts_and_clears() -> None:
    batch = batch_of((b"a", b"123"), (b"a", b"4"), (b"b", None))
    assert (len(batch), batch.size) == (2, 7)
    batch.clear()
    assert (len(batch), batch.size) == (0, 0)


def test_overlay_reads_through_its_batch(store: KeyValueStore) -> None:
    store.write(batch_of((b"a", b"1"), (b"b", b"2")), sync=False)
    batch = batch_of((b"b", None), (b"c", b"3"))
    overlay = Overlay(store, batch)
    assert overlay.get_many([b"a", b"b", b"c", b"d"]) == [b"1", None, b"3", None]
    assert [overlay.get(key) for key in (b"a", b"b", b"c")] == [b"1", None, b"3"]
    batch.put(b"a", b"4")
    assert overlay.get(b"a") == b"4"
    batch.clear()
    assert overlay.get(b"b") == b"2"


def test_failing_store_fails_from_the_write_it_was_told(store: KeyValueStore) -> None:
    failing = FailingStore(store, fail_at=2)
    failing.write(batch_of((b"a", b"1")), sync=False)
    for _ in range(2):
        with pytest.raises(StoreFullError):
            failing.write(batch_of((b"a", b"2")), sync=False)
    assert failing.get(b"a") == b"1"
    failing.heal()
    failing.write(batch_of((b"a", b"3")), sync=False)
    assert store.get(b"a") == b"3"


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"a\xff", b"b"), (b"a\xff\xff", b"b"), (b"\x00", b"\x01"), (b"\xff", None)],
)
def test_prefix_end(prefix: bytes, end: bytes | None) -> None:
    assert prefix_end(prefix) == end


def test_closing_waits_for_other_threads(opener: Opener) -> None:
    store = opener()
    fill(store, 500)
    reading = threading.Barrier(5)
    closed = []

    def read() -> None:
        reading.wait()
        try:
            while True:
                assert store.get(b"k0001") == b"v1"
                assert len(list(store.keys(reverse=True))) == 500
        except StoreClosedError:
            closed.append(True)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    reading.wait()
    store.close()
    for thread in threads:
        thread.join()
    assert closed == [True] * 4
