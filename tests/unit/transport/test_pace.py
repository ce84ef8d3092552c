from __future__ import annotations

import trio

from unchained.node.transport.contract import MessageId
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.libp2p.pace import (
    INBOUND_POOL_BURST,
    INBOUND_SHARE_AT_FIRST,
    INBOUND_SHARE_BURST,
    INBOUND_SHARE_PER_S,
    PEER_WORK_BURST,
    PEER_WORK_PER_S,
    WORK_AT_ONCE,
    WORK_PER_RPC,
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


async def test_nobody_waits_longer_for_the_pool_than_for_its_own_share() -> None:
    pool = WorkPool()
    greedy = [Pace(pool) for _ in range(50)]
    async with trio.open_nursery() as nursery:
        for pace in greedy:
            nursery.start_soon(pace.spend, INBOUND_SHARE_BURST + INBOUND_POOL_BURST // 4)
        modest = Pace(pool)
        await trio.sleep((INBOUND_SHARE_BURST - INBOUND_SHARE_AT_FIRST) / INBOUND_SHARE_PER_S)
        began = trio.current_time()
        await modest.spend(INBOUND_SHARE_BURST)
        assert trio.current_time() == began
        await modest.spend(INBOUND_SHARE_PER_S)
        assert trio.current_time() - began <= 1
        nursery.cancel_scope.cancel()


async def test_who_connects_again_and_again_has_no_burst_each_time() -> None:
    pool = WorkPool()
    await Pace(pool).spend(INBOUND_SHARE_AT_FIRST + INBOUND_POOL_BURST)
    began = trio.current_time()
    await Pace(pool).spend(INBOUND_SHARE_AT_FIRST)
    assert trio.current_time() == began
    await Pace(pool).spend(INBOUND_SHARE_BURST)
    assert trio.current_time() > began


async def test_who_was_held_back_works_in_a_turn_of_its_own() -> None:
    """However many are ready at once: of those who watch, none waits for two of them."""
    pool, many = WorkPool(), 20
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
