"""Who asks for much waits for his own."""

from __future__ import annotations

from itertools import count

import trio
from trio.testing import wait_all_tasks_blocked

from unchained.node.base.turns import REMEMBERED_MAX, Turns


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


async def test_who_asks_for_little_does_not_wait_for_all_who_ask_for_much() -> None:
    turns = Turns(1)
    waited: list[float] = []

    async def ask(asker: str, seconds: float) -> None:
        async with turns.turn(asker):
            await trio.sleep(seconds)

    async def greedy(asker: str) -> None:
        while True:
            await ask(asker, 1.0)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(greedy, f"greedy {number}")
        for _ in range(60):
            await trio.sleep(1.7)
            began = trio.current_time()
            await ask("modest", 0.01)
            waited.append(trio.current_time() - began)
        nursery.cancel_scope.cancel()
    # The turn that is under way ends first, and at most one of who waits for his part.
    # Whoever comes begins a turn behind, once.
    assert max(waited[30:]) <= 2.1


async def test_newcomers_without_end_keep_nobody_out_who_had_a_turn() -> None:
    turns = Turns(1)
    had = 0

    async def come(asker: str) -> None:
        async with turns.turn(asker):
            await trio.sleep(1.0)

    async def stay() -> None:
        nonlocal had
        while True:
            await come("who stays")
            had += 1

    async def come_anew(place: int) -> None:
        for number in count():
            await come(f"newcomer {place} {number}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stay)
        for place in range(5):
            nursery.start_soon(come_anew, place)
        await trio.sleep(2_000)
        assert had >= 2_000 / 7
        assert len(turns._held_s) <= 2 * REMEMBERED_MAX
        nursery.cancel_scope.cancel()


async def test_what_nobody_else_asked_for_is_held_against_nobody() -> None:
    turns = Turns(1)
    order: list[str] = []

    async def ask(asker: str) -> None:
        async with turns.turn(asker):
            order.append(asker)
            await trio.sleep(1.0)

    for _ in range(50):
        await ask("early")
    async with trio.open_nursery() as nursery, turns.turn("somebody"):
        for asker in ("early", "late") * 3:
            nursery.start_soon(ask, asker)
        await wait_all_tasks_blocked()
    assert sorted(order[50:]) == ["early"] * 3 + ["late"] * 3
    assert "late" in order[50:53]
    assert "early" in order[50:53]


async def test_who_comes_begins_one_turn_behind_and_no_more() -> None:
    turns = Turns(1, each_s=1.0)
    async with turns.turn("first"):
        began_at = turns._line_s
    assert began_at == 1.0
    assert turns._held_s["first"] == began_at + 1.0
    async with trio.open_nursery() as nursery, turns.turn("first"):
        nursery.start_soon(wait_in, turns, "second")
        await wait_all_tasks_blocked()
        behind = turns._lanes["second"].from_s
        assert behind == turns._line_s + 1.0
        nursery.cancel_scope.cancel()


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
