from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from unchained.node.transport.contract import MessageId
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.libp2p.handshakes import HANDSHAKES_PER_S
from unchained.node.transport.libp2p.pace import (
    GREETING_WORK,
    INBOUND_WORK_BURST,
    INBOUND_WORK_PER_S,
    OWED_MAX,
    PEER_WORK_BURST,
    PEER_WORK_PER_S,
    PRICE_OF_REFUSAL,
    WORK_AT_ONCE,
    WORK_PER_REFUSAL,
    WORK_PER_RPC,
    WORK_PER_STREAM,
    Pace,
    WorkPool,
    work_of,
)


def test_many_small_things_are_dearer_than_one_large_one() -> None:
    empty = work_of(Rpc(), 0)
    assert empty >= WORK_PER_RPC
    large = work_of(Rpc(messages=(("t", bytes(200_000)),)), 200_010)
    assert large < 2 * 200_010
    assert work_of(Rpc(graft=("",) * 4096), 16_384) > 60 * 16_384
    assert work_of(Rpc(have=(("t", (MessageId(b""),) * 10_000),)), 20_000) > 8 * 20_000
    assert work_of(Rpc(want=(MessageId(b""),)), 4) > empty


async def test_the_excess_waits() -> None:
    pace = Pace(None)
    began = trio.current_time()
    await pace.spend(PEER_WORK_BURST)
    assert trio.current_time() == began
    await pace.spend(PEER_WORK_PER_S)
    assert trio.current_time() - began == 1
    for _ in range(4096 * 3):
        await pace.spend(WORK_PER_RPC)
    assert 3.9 < trio.current_time() - began < 4.1
    await trio.sleep(3600)
    began = trio.current_time()
    await pace.spend(PEER_WORK_BURST + PEER_WORK_PER_S)
    assert trio.current_time() - began == 1


FAR = 1e9
"""What somebody has had who is called last of all, in units."""


@asynccontextmanager
async def a_pool(connections: int = 60) -> AsyncIterator[WorkPool]:
    pool = WorkPool(connections)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run)
        yield pool
        nursery.cancel_scope.cancel()


async def flood(pace: Pace, done: list[int]) -> None:
    """Do pieces of work of one size for ever, and count them."""
    while True:
        await pace.spend(WORK_AT_ONCE)
        done[0] += 1


async def test_many_have_no_more_done_together_than_a_few() -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:
        counts = [[0] for _ in range(40)]
        for done in counts:
            nursery.start_soon(flood, Pace(pool), done)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    once = len(counts) * WORK_AT_ONCE
    assert sum(done for (done,) in counts) * WORK_AT_ONCE <= (
        INBOUND_WORK_BURST + 10 * INBOUND_WORK_PER_S + 2 * once
    )
    fewest, most = min(counts)[0], max(counts)[0]
    assert most - fewest <= 1


async def test_what_some_pay_beyond_their_work_is_left_to_others() -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:

        async def ask_in_vain() -> None:
            pace = Pace(pool)
            while True:
                await pace.spend(WORK_PER_STREAM + WORK_PER_REFUSAL, price=PRICE_OF_REFUSAL)

        for _ in range(40):
            nursery.start_soon(ask_in_vain)
        await trio.sleep(10)
        pace = Pace(pool)
        began = trio.current_time()
        # Three times what each would have if all had as much.
        for _ in range(200):
            await pace.spend(INBOUND_WORK_PER_S * 3 // 41 // 20)
            await trio.sleep(1 / 20)
        assert trio.current_time() - began < 10 * 1.2
        nursery.cancel_scope.cancel()


async def test_who_asks_for_less_than_its_part_does_not_wait() -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:
        many = 15
        for _ in range(many):
            nursery.start_soon(flood, Pace(pool), [0])
        await trio.sleep(5)
        modest, waited = Pace(pool), 0.0
        for _ in range(20):
            await trio.sleep(1.1 * WORK_AT_ONCE * (many + 1) / INBOUND_WORK_PER_S)
            began = trio.current_time()
            await modest.spend(WORK_AT_ONCE)
            waited = max(waited, trio.current_time() - began)
        assert waited == 0
        nursery.cancel_scope.cancel()


async def test_who_was_there_before_a_flood_may_do_what_it_is_owed_at_once() -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:
        old = Pace(pool)
        await trio.sleep(OWED_MAX / pool.owed_per_s)
        for _ in range(40):
            nursery.start_soon(flood, Pace(pool), [0])
        await trio.sleep(0.1)
        began = trio.current_time()
        for _ in range(OWED_MAX // WORK_AT_ONCE):
            await old.spend(WORK_AT_ONCE)
        assert trio.current_time() == began
        nursery.cancel_scope.cancel()


async def test_a_newcomer_to_a_full_house_is_greeted_at_once() -> None:
    places = 512
    async with a_pool(places) as pool, trio.open_nursery() as nursery:
        for _ in range(places - 1):
            nursery.start_soon(flood, Pace(pool), [0])
        await trio.sleep(10)
        newcomer, began = Pace(pool), trio.current_time()
        for _ in range(GREETING_WORK // WORK_AT_ONCE):
            await newcomer.spend(WORK_AT_ONCE)
        assert trio.current_time() == began
        nursery.cancel_scope.cancel()


async def test_those_who_come_as_often_as_they_may_have_no_more_done_than_there_is() -> None:
    greeted = [0]

    async def come_and_go(pool: WorkPool) -> None:
        while True:
            nursery.start_soon(greet, Pace(pool))
            await trio.sleep(1 / HANDSHAKES_PER_S)

    async def greet(pace: Pace) -> None:
        for _ in range(GREETING_WORK // WORK_AT_ONCE):
            await pace.spend(WORK_AT_ONCE)
            greeted[0] += 1

    async with a_pool() as pool, trio.open_nursery() as nursery:
        old = [[0] for _ in range(40)]
        for done in old:
            nursery.start_soon(flood, Pace(pool), done)
        await trio.sleep(10)
        before = sum(done for (done,) in old)
        nursery.start_soon(come_and_go, pool)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert greeted[0] * WORK_AT_ONCE <= 20 * INBOUND_WORK_PER_S / 3 + GREETING_WORK
    stayed = sum(done for (done,) in old) - before
    assert (stayed + greeted[0]) * WORK_AT_ONCE <= 20.5 * INBOUND_WORK_PER_S
    # Those who stay are owed a half, as far as there are many of them.
    assert stayed * WORK_AT_ONCE >= 20 * INBOUND_WORK_PER_S / 3


async def test_who_connects_again_and_again_is_owed_a_greeting_and_no_more() -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(flood, Pace(pool), [0])
        await trio.sleep(5)
        for _ in range(3):
            again, began = Pace(pool), trio.current_time()
            for _ in range(GREETING_WORK // WORK_AT_ONCE + 1):
                await again.spend(WORK_AT_ONCE)
            assert trio.current_time() > began
        nursery.cancel_scope.cancel()


async def test_what_is_done_while_there_is_room_is_nobodys_loss() -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:
        busy = Pace(pool)
        for _ in range(100):
            await busy.spend(WORK_AT_ONCE)
            await trio.sleep(1.1 * WORK_AT_ONCE / PEER_WORK_PER_S)
        await trio.sleep(OWED_MAX / pool.owed_per_s)
        nursery.start_soon(flood, Pace(pool), [0])
        for _ in range(3):
            nursery.start_soon(flood, Pace(pool), [0])
        await trio.sleep(0.1)
        began = trio.current_time()
        for _ in range(OWED_MAX // WORK_AT_ONCE):
            await busy.spend(WORK_AT_ONCE)
        assert trio.current_time() == began
        nursery.cancel_scope.cancel()


async def use_what_it_is_owed(pool: WorkPool, pace: Pace) -> None:
    """Work for ever a little less than would have it wait."""
    while True:
        await pace.spend(WORK_AT_ONCE)
        await trio.sleep(1.01 * WORK_AT_ONCE / pool.owed_per_s)


async def wait_of(pace: Pace) -> float:
    """Return the seconds that one piece of work waits."""
    began = trio.current_time()
    await pace.spend(WORK_AT_ONCE)
    return trio.current_time() - began


def test_what_all_are_owed_is_half_of_what_there_is() -> None:
    for connections in (1, 60, 520):
        assert WorkPool(connections).owed_per_s * connections == INBOUND_WORK_PER_S / 2


@pytest.mark.parametrize("seconds", [60, 600])
async def test_who_comes_is_not_kept_out_by_what_others_are_owed(seconds: int) -> None:
    """Even where more have come than the pool was made for, as handshakes may."""
    async with a_pool(20) as pool, trio.open_nursery() as nursery:
        many = 56
        assert many * pool.owed_per_s > 1.2 * INBOUND_WORK_PER_S
        for _ in range(many):
            nursery.start_soon(use_what_it_is_owed, pool, Pace(pool))
        nursery.start_soon(flood, Pace(pool), [0])
        await trio.sleep(seconds)
        newcomer = Pace(pool)
        for _ in range(4):
            assert await wait_of(newcomer) < 1.01 * WORK_AT_ONCE / pool.owed_per_s < 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("many", [20, 40, 56])
async def test_who_comes_is_not_kept_out_by_what_others_had_saved(many: int) -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:
        idle = [Pace(pool) for _ in range(many)]
        await trio.sleep(OWED_MAX / pool.owed_per_s)
        for pace in idle:
            nursery.start_soon(flood, pace, [0])
        await trio.sleep(0.01)
        newcomer = Pace(pool)
        for _ in range(4):
            assert await wait_of(newcomer) < 1.01 * WORK_AT_ONCE / pool.owed_per_s < 1
        nursery.cancel_scope.cancel()


async def test_the_debt_of_all_is_bounded() -> None:
    async with a_pool() as pool:
        for _ in range(56):
            pool.spend(trio.current_time(), OWED_MAX)
        began = trio.current_time()
        with trio.fail_after(1.01):
            await pool.wait(FAR)
        assert trio.current_time() - began > 0.99


async def test_nobody_is_called_because_another_was_in_the_line() -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:
        began = trio.current_time()
        pool.spend(began, INBOUND_WORK_BURST + INBOUND_WORK_PER_S)
        called = []

        async def wait() -> None:
            await pool.wait(FAR)
            called.append(trio.current_time() - began)

        nursery.start_soon(wait)
        with trio.move_on_after(0.1):
            await pool.wait(pool.owed_per_s / 2)
        await trio.sleep(2)
        assert called == [pytest.approx(1)]


async def test_who_is_cancelled_in_the_line_leaves_it() -> None:
    async with a_pool() as pool, trio.open_nursery() as nursery:
        pace, other = Pace(pool), Pace(pool)
        pool.spend(trio.current_time(), INBOUND_WORK_BURST + INBOUND_WORK_PER_S)
        with trio.move_on_after(0.5) as wait:
            await pace.spend(GREETING_WORK + WORK_AT_ONCE)
        assert wait.cancelled_caught
        nursery.start_soon(other.spend, GREETING_WORK + WORK_AT_ONCE)
        with trio.fail_after(2):
            await pace.spend(GREETING_WORK + WORK_AT_ONCE)


async def test_who_was_held_back_works_in_a_turn_of_its_own() -> None:
    """However many are ready at once: of those who watch, none waits for two of them."""
    pool, many = WorkPool(60), 20
    turn, worked = 0, []

    async def watch() -> None:
        nonlocal turn
        while True:
            turn += 1
            await trio.lowlevel.checkpoint()

    async def work(pace: Pace) -> None:
        await ready.wait()
        await pace.turn()
        worked.append(turn)

    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(many):
            nursery.start_soon(work, Pace(pool))
        nursery.start_soon(watch)
        await trio.lowlevel.checkpoint()
        ready.set()
        while len(worked) < many:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    # Whether the watcher or the worker comes first in a turn is not said.
    assert all(later - earlier >= 1 for earlier, later in zip(worked, worked[2:], strict=False))


async def test_others_get_a_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        pace = Pace(None)
        for _ in range(10 * WORK_AT_ONCE // WORK_PER_RPC):
            await pace.spend(WORK_PER_RPC)
        nursery.cancel_scope.cancel()
    assert turns >= 9
