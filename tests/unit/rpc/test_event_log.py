"""The event log says so when it does not hold what a reader asks for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
import trio

from tests.framework.forge import Forge
from unchained.node.base.fanout import Watch
from unchained.node.consensus.params import REG
from unchained.node.rpc.http.event_log import EventLog
from unchained.node.rpc.http.event_streams import EventsGoneError
from unchained.storage import schema
from unchained.storage.kv import Batch, Reader
from unchained.storage.memory import MemoryStore
from unchained.storage.schema import CoinAccepted

T = TypeVar("T")


class ReaderOf:
    """Reads a store in place."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def run(self, work: Callable[[Reader], T]) -> T:
        return work(self._store)


def log_of(numbers: range) -> EventLog:
    """Return the log of a store whose events have these numbers."""
    store = MemoryStore()
    batch = Batch()
    for number in numbers:
        batch.put(schema.EVENT.key(number), schema.EVENT.encode(CoinAccepted(bytes(32))))
    end = schema.encode_number(numbers.stop)
    batch.put(schema.META.key(schema.META_NEXT_EVENT), end)
    store.write(batch, sync=True)
    chain = SimpleNamespace(status=Watch(SimpleNamespace(next_event=numbers.stop)))
    return EventLog(cast(Any, chain), cast(Any, ReaderOf(store)))


async def first_of(log: EventLog, since: int) -> int:
    async with log.open(since) as entries:
        return (await anext(entries))[0].sequence


async def test_a_reader_goes_on_where_it_was() -> None:
    log = log_of(range(5))
    assert await first_of(log, 0) == 1
    assert await first_of(log, 4) == 5


@pytest.mark.parametrize("numbers", [range(8, 12), range(8, 8)])
async def test_a_log_that_begins_later_says_where(numbers: range) -> None:
    # As that of a chain which was made anew: the reader has to begin anew as well.
    for since in (0, 7, numbers.stop + 1):
        with pytest.raises(EventsGoneError) as caught:
            await first_of(log_of(numbers), since)
        assert (caught.value.oldest, caught.value.last) == (9, numbers.stop)
    if numbers:
        assert await first_of(log_of(numbers), 8) == 9


async def test_an_event_that_is_written_while_the_log_is_read_is_told() -> None:
    store = MemoryStore()
    # In a bulk the event counts before it is on disk.
    status = Watch(SimpleNamespace(next_event=1))

    class Overtaken(ReaderOf):
        """Is given the event just after it has been looked for in vain."""

        async def run(self, work: Callable[[Reader], T]) -> T:
            found = await super().run(work)
            if found == [] and schema.EVENT.get(store, 0) is None:
                batch = Batch()
                batch.put(schema.EVENT.key(0), schema.EVENT.encode(CoinAccepted(bytes(32))))
                store.write(batch, sync=True)
                status.set(status.value)
            return found

    log = EventLog(cast(Any, SimpleNamespace(status=status)), cast(Any, Overtaken(store)))
    with trio.fail_after(60):
        assert await first_of(log, 0) == 1


async def test_a_coin_is_told_with_its_parent_and_its_time_while_the_node_has_it() -> None:
    forge = Forge(REG)
    coin, gone = forge.coin(forge.genesis), bytes(32)
    store = MemoryStore()
    batch = Batch()
    batch.put(schema.COIN.key(coin.id), coin.raw)
    for number, coin_id in enumerate((coin.id, gone)):
        batch.put(schema.EVENT.key(number), schema.EVENT.encode(CoinAccepted(coin_id)))
    store.write(batch, sync=True)
    chain = SimpleNamespace(status=Watch(SimpleNamespace(next_event=2)))
    async with EventLog(cast(Any, chain), cast(Any, ReaderOf(store))).open(0) as entries:
        told, lost = [entry.data for entry in await anext(entries)]
    assert told == {"coin": coin.id.hex(), "parent": coin.parent.hex(), "time": coin.header.time}
    assert lost == {"coin": gone.hex()}
