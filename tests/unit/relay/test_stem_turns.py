from __future__ import annotations

import random

import trio
import trio.testing

from unchained.node.relay.stem_turns import StemTurns


class Waiting:
    """Transfers that wait, by who sent them."""

    def __init__(self, most: int, nursery: trio.Nursery) -> None:
        self.turns = StemTurns(most, random.Random(1))
        self.gave_way: list[str] = []
        self._nursery = nursery

    async def add(self, group: str, number: int = 0) -> None:
        self._nursery.start_soon(self._wait, group, f"{group} {number}")
        await trio.testing.wait_all_tasks_blocked()

    async def _wait(self, group: str, name: str) -> None:
        with self.turns.place(group) as place:
            await trio.sleep_forever()
        if place.cancelled_caught:
            self.gave_way.append(name)


async def test_who_has_most_waiting_gives_up_its_newest() -> None:
    async with trio.open_nursery() as nursery:
        waiting = Waiting(4, nursery)
        for number in range(6):
            await waiting.add("flooder", number)
        assert waiting.gave_way == ["flooder 4", "flooder 5"]
        await waiting.add("one")
        await waiting.add("two")
        assert waiting.gave_way[2:] == ["flooder 3", "flooder 2"]
        assert len(waiting.turns) == 4
        await waiting.add("one", 1)
        # It has as many then.
        assert waiting.gave_way[4:] in (["one 1"], ["flooder 1"])
        nursery.cancel_scope.cancel()
    assert len(waiting.turns) == 0


async def test_no_company_of_those_who_have_one_place_each_keeps_out_who_comes_last() -> None:
    found_one = 0
    async with trio.open_nursery() as nursery:
        waiting = Waiting(16, nursery)
        for number in range(16):
            await waiting.add(f"company {number}")
        for number in range(32):
            await waiting.add(f"honest {number}")
            found_one += f"honest {number} 0" not in waiting.gave_way
        nursery.cancel_scope.cancel()
    assert len(waiting.gave_way) == 32
    assert found_one >= 24
