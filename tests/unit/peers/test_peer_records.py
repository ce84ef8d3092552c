"""When what is known of peers is written, and what of it waits for the disk."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio
from trio.testing import wait_all_tasks_blocked

from unchained.node.base.runner import InlineRunner, Runner
from unchained.node.peers.address_book import AddressBook
from unchained.node.peers.ban_list import BanList
from unchained.node.peers.peer_records import BANS_SAVED_APART_S, SAVE_EVERY_S, PeerRecords
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryStore

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
NOW_MS = 10**12


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.syncs: list[bool] = []

    def write(self, batch: Batch, *, sync: bool) -> None:
        self.syncs.append(sync)
        super().write(batch, sync=sync)


class Bench:
    def __init__(self, writer: Runner | None = None) -> None:
        self.store = CountingStore()
        self.book = AddressBook(self.store, random.Random(1))
        self.bans = BanList(self.store)
        self.records = PeerRecords(self.store, writer or InlineRunner(), self.book, self.bans)

    def ban(self, group: str) -> None:
        self.bans.add(group, "forged", NOW_MS)
        self.records.bans_changed()


async def test_a_ban_is_synced_at_once_and_addresses_are_not_waited_for() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.records.run)
        await wait_all_tasks_blocked()
        bench.ban("20.1.0.1")
        await wait_all_tasks_blocked()
        assert bench.store.syncs == [True]
        assert [ban.group for ban in BanList(bench.store).active(NOW_MS)] == ["20.1.0.1"]
        bench.book.add(f"/ip4/20.2.0.1/tcp/9000/p2p/{'1' * 44}", "30.1.0.0/16", NOW_MS)
        await trio.sleep(BANS_SAVED_APART_S + SAVE_EVERY_S + 1)
        assert bench.store.syncs == [True, False]
        nursery.cancel_scope.cancel()


async def test_many_bans_wait_for_the_disk_once_a_second() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.records.run)
        for number in range(1_000):
            bench.ban(f"20.{number // 250}.{number % 250}.1")
            await trio.sleep(0.01)
        await trio.sleep(2 * BANS_SAVED_APART_S)
        nursery.cancel_scope.cancel()
    assert len(bench.store.syncs) <= 10 / BANS_SAVED_APART_S + 2
    assert len(BanList(bench.store).active(NOW_MS)) == 1_000


class SlowRunner:
    """Begins to write only once it may."""

    def __init__(self) -> None:
        self.opened = trio.Event()

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        await self.opened.wait()
        return work(*args)


async def test_a_ban_that_comes_while_others_are_written_is_written_next() -> None:
    runner = SlowRunner()
    bench = Bench(runner)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.records.run)
        bench.ban("20.1.0.1")
        await wait_all_tasks_blocked()
        bench.ban("20.2.0.1")
        runner.opened.set()
        await trio.sleep(2 * BANS_SAVED_APART_S)
        nursery.cancel_scope.cancel()
    assert len(BanList(bench.store).active(NOW_MS)) == 2
