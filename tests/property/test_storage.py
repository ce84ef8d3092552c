"""Both stores against a plain dict: batches, ranges, snapshots, iterators, reopening."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from unchained.storage.kv import Batch, KeyValueStore, Overlay, Reader, Snapshot
from unchained.storage.leveldb import LevelOptions, LevelStore
from unchained.storage.memory import MemoryDisk, MemoryStore

Model = dict[bytes, bytes]

KEYS = st.one_of(
    st.binary(max_size=3),
    st.sampled_from([bytes([first, second]) for first in (0, 1, 254, 255) for second in (0, 255)]),
)
VALUES = st.binary(max_size=4) | st.just(b"large")
CHANGES = st.lists(st.tuples(KEYS, st.none() | VALUES), max_size=80)
RANGES = st.tuples(KEYS, st.none() | KEYS)


def in_range(model: Model, start: bytes, stop: bytes | None, reverse: bool) -> list[bytes]:
    keys = [key for key in model if key >= start and (stop is None or key < stop)]
    return sorted(keys, reverse=reverse)


def assert_same(reader: Reader, model: Model) -> None:
    assert list(reader.items()) == sorted(model.items())


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to a dict. Subclasses say which store."""

    snapshots = Bundle("snapshots")
    iterators = Bundle("iterators")

    def __init__(self) -> None:
        super().__init__()
        self.model: Model = {}
        self.store = self.opened()
        self.generation = 0

    def opened(self) -> KeyValueStore:
        """Open the store, or open it again."""
        raise NotImplementedError

    @initialize(changes=CHANGES)
    def begin(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        self.write(changes, False)

    @rule(changes=CHANGES, sync=st.booleans())
    def write(self, changes: list[tuple[bytes, bytes | None]], sync: bool) -> None:
        batch = Batch()
        overlay = Overlay(self.store, batch)
        for key, short in changes:
            if short is None:
                batch.delete(key)
                self.model.pop(key, None)
            else:
                value = short * 8_000 if short == b"large" else short
                batch.put(key, value)
                self.model[key] = value
        keys = [key for key, _ in changes]
        assert overlay.get_many(keys) == [self.model.get(key) for key in keys]
        self.store.write(batch, sync=sync)
        assert self.store.get_many(keys) == [self.model.get(key) for key in keys]

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.model.get(key)

    @rule(bounds=RANGES, reverse=st.booleans())
    def scan(self, bounds: tuple[bytes, bytes | None], reverse: bool) -> None:
        expected = in_range(self.model, *bounds, reverse)
        assert list(self.store.keys(*bounds, reverse=reverse)) == expected
        rows = [(key, self.model[key]) for key in expected]
        assert list(self.store.items(*bounds, reverse=reverse)) == rows

    @rule(target=snapshots)
    def snapshot(self) -> tuple[int, Snapshot, Model]:
        return self.generation, self.store.snapshot(), dict(self.model)

    @rule(taken=snapshots, bounds=RANGES, reverse=st.booleans())
    def look_back(
        self,
        taken: tuple[int, Snapshot, Model],
        bounds: tuple[bytes, bytes | None],
        reverse: bool,
    ) -> None:
        generation, snapshot, model = taken
        if generation == self.generation:
            assert_same(snapshot, model)
            keys = in_range(model, *bounds, reverse)
            assert list(snapshot.keys(*bounds, reverse=reverse)) == keys
            assert snapshot.get(bounds[0]) == model.get(bounds[0])

    @rule(taken=consumes(snapshots))
    def release(self, taken: tuple[int, Snapshot, Model]) -> None:
        taken[1].close()

    @rule(target=iterators, reverse=st.booleans())
    def start_iterating(
        self, reverse: bool
    ) -> tuple[int, Iterator[tuple[bytes, bytes]], Iterator[tuple[bytes, bytes]]]:
        expected = iter(sorted(self.model.items(), reverse=reverse))
        return self.generation, self.store.items(reverse=reverse), expected

    @rule(target=iterators, begun=consumes(iterators), count=st.integers(1, 50))
    def go_on_iterating(
        self,
        begun: tuple[int, Iterator[tuple[bytes, bytes]], Iterator[tuple[bytes, bytes]]],
        count: int,
    ) -> object:
        generation, rows, expected = begun
        if generation != self.generation:
            return multiple()
        for _ in range(count):
            row = next(rows, None)
            assert row == next(expected, None)
            if row is None:
                return multiple()
        return begun

    @rule()
    def compact(self) -> None:
        self.store.compact()
        assert_same(self.store, self.model)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.generation += 1
        self.store = self.opened()
        assert_same(self.store, self.model)

    def teardown(self) -> None:
        assert_same(self.store, self.model)
        self.store.close()


class MemoryMachine(StoreMachine):
    """The memory twin."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        super().__init__()

    def opened(self) -> KeyValueStore:
        return MemoryStore(self.disk)


class LevelMachine(StoreMachine):
    """LevelDB, with buffers so small that tables are written and merged."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        super().__init__()

    def opened(self) -> KeyValueStore:
        path = Path(self.directory.name) / "store"
        return LevelStore(path, create=True, options=LevelOptions(write_buffer=64 << 10))

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


@pytest.mark.parametrize(("machine", "examples"), [(MemoryMachine, 60), (LevelMachine, 25)])
def test_store_is_a_dict_that_stays(machine: type[StoreMachine], examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
