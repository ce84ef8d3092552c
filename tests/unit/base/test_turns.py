"""Who asks for much waits for his own."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from unchained.node.base.turns import Turns


async def test_askers_take_turns_whatever_each_asks_for() -> None:
    turns = Turns(2)
    order: list[str] = []
    gate = trio.Semaphore(0)

    async def ask(asker: str) -> None:
        async with turns.turn(asker):
            order.append(asker)
            await gate.acquire()

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask, "greedy")
        await wait_all_tasks_blocked()
        for asker in ("one", "other"):
            nursery.start_soon(ask, asker)
        await wait_all_tasks_blocked()
        assert order == ["greedy", "greedy"]
        for _ in range(4):
            gate.release()
            await wait_all_tasks_blocked()
        assert set(order[2:5]) == {"greedy", "one", "other"}
        for _ in range(18):
            gate.release()
    assert order.count("greedy") == 20


async def test_who_gives_up_keeps_no_place() -> None:
    turns = Turns(1)
    async with trio.open_nursery() as nursery, turns.turn("first"):
        for asker in ("gone", "gone", "other"):
            nursery.start_soon(wait_in, turns, asker)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with trio.fail_after(1):
        async with turns.turn("next"):
            pass
    assert turns._free == 1


async def wait_in(turns: Turns, asker: str) -> None:
    async with turns.turn(asker):
        await trio.sleep_forever()
