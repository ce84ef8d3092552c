"""Watch and broadcast: readers of every speed, none of which holds up the writer."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from unchained.node.base.fanout import Broadcast, Lost, Watch


async def test_a_watch_gives_the_latest_value_and_skips_those_overtaken() -> None:
    height = Watch(0)
    seen: list[tuple[int, int]] = []

    async def reader() -> None:
        version = height.version
        while len(seen) < 2:
            version, value = await height.wait_newer(version)
            seen.append((version, value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        height.set(1)
        height.set(2)
        await trio.testing.wait_all_tasks_blocked()
        height.set(3)
    assert seen == [(2, 2), (3, 3)]
    assert (height.value, height.version) == (3, 3)


async def test_a_watch_gives_at_once_what_is_newer_than_the_reader_knows() -> None:
    tip = Watch("a")
    tip.set("b")
    assert await tip.wait_newer(0) == (1, "b")


async def test_waiting_for_a_value_ends_at_the_first_that_fits() -> None:
    height = Watch(5)
    assert await height.wait_for(lambda value: value >= 5) == 5
    found: list[int] = []

    async def reader() -> None:
        found.append(await height.wait_for(lambda value: value >= 7))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        for value in (6, 8):
            await trio.testing.wait_all_tasks_blocked()
            height.set(value)
    assert found == [8]


async def test_every_subscriber_gets_every_item_in_order() -> None:
    events: Broadcast[int] = Broadcast(4)
    received: list[list[int | Lost]] = [[], []]

    async def reader(into: list[int | Lost]) -> None:
        with events.subscribe() as subscription:
            async for item in subscription:
                into.append(item)  # noqa: PERF401

    async with trio.open_nursery() as nursery:
        for into in received:
            nursery.start_soon(reader, into)
        await trio.testing.wait_all_tasks_blocked()
        for item in range(3):
            events.send(item)
        assert events.statistics().subscribers == 2
        events.close()
    assert received == [[0, 1, 2], [0, 1, 2]]


async def test_a_lagging_subscriber_is_given_the_number_of_items_it_lost() -> None:
    events: Broadcast[int] = Broadcast(2)
    with events.subscribe() as slow, events.subscribe() as quick:
        for item in range(5):
            events.send(item)
            assert await quick.receive() == item
        assert await slow.receive() == Lost(3)
        assert await slow.receive() == 3
        events.send(5)
        assert [await slow.receive(), await slow.receive()] == [4, 5]
    statistics = events.statistics()
    assert (statistics.sent, statistics.lost, statistics.subscribers) == (6, 3, 0)


async def test_cancelling_a_receiver_loses_nothing() -> None:
    events: Broadcast[int] = Broadcast(2)
    with events.subscribe() as subscription:
        with trio.move_on_after(1):
            await subscription.receive()
        events.send(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.receive()
        assert await subscription.receive() == 1


async def test_a_closed_broadcast_ends_new_and_old_subscriptions_and_takes_no_items() -> None:
    events: Broadcast[int] = Broadcast(1)
    with events.subscribe() as old:
        events.close()
        with pytest.raises(trio.EndOfChannel):
            await old.receive()
    with events.subscribe() as late, pytest.raises(trio.EndOfChannel):
        await late.receive()
    with pytest.raises(trio.ClosedResourceError):
        events.send(1)


def test_a_broadcast_of_no_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is 0, expected at least 1"):
        Broadcast(0)
