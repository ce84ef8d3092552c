"""Who waits for a peer's rate, for how long, and in which order."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from unchained.node.peers.ask_rate import AskRate
from unchained.node.transport.contract import PeerId

ONE, TWO = PeerId("one"), PeerId("two")
BURST, PER_SECOND = 4, 2.0


class Askers:
    """Ask, and note who asked when."""

    def __init__(self) -> None:
        self.rate = AskRate(BURST, PER_SECOND)
        self.asked: list[tuple[str, float]] = []
        self.began = trio.current_time()

    async def ask(self, name: str, urgent: bool = False, peer: PeerId = ONE) -> None:
        await self.rate.turn(peer, urgent=urgent)
        self.asked.append((name, round(trio.current_time() - self.began, 6)))

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


async def start(askers: Askers, nursery: trio.Nursery, name: str, urgent: bool = False) -> None:
    nursery.start_soon(askers.ask, name, urgent)
    await trio.testing.wait_all_tasks_blocked()


async def test_turns_come_at_the_rate_in_order() -> None:
    askers = Askers()
    async with trio.open_nursery() as nursery:
        for number in range(8):
            await start(askers, nursery, str(number))
        # Another peer's rate is its own.
        await askers.ask("other", peer=TWO)
        assert askers.asked[-1][1] == 0.0
    del askers.asked[4]
    assert askers.asked == [
        (str(number), max(0.0, (number - BURST + 1) / PER_SECOND)) for number in range(8)
    ]


async def test_what_is_urgent_goes_before_all_that_waits() -> None:
    askers = Askers()
    async with trio.open_nursery() as nursery:
        for number in range(BURST + 100):
            await start(askers, nursery, str(number))
        assert askers.rate.wait_s(ONE, urgent=False) == pytest.approx(101 / PER_SECOND)
        assert askers.rate.wait_s(ONE, urgent=True) == pytest.approx(1 / PER_SECOND)
        await start(askers, nursery, "first", urgent=True)
        await start(askers, nursery, "second", urgent=True)
        assert askers.rate.wait_s(ONE, urgent=True) == pytest.approx(3 / PER_SECOND)
    assert askers.names()[BURST : BURST + 3] == ["first", "second", str(BURST)]
    assert askers.asked[BURST][1] == 1 / PER_SECOND
    assert askers.asked[-1][1] == 102 / PER_SECOND


async def test_who_gives_up_has_taken_nothing() -> None:
    askers = Askers()
    for _ in range(BURST):
        await askers.ask("at once")
    with trio.move_on_after(0.1):
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(askers.ask, str(number))
    await askers.ask("after them")
    assert askers.asked[-1] == ("after them", 1 / PER_SECOND)
    assert askers.rate._lines == {}


async def test_when_others_give_up_it_is_the_turn_of_who_is_behind_them() -> None:
    askers = Askers()
    async with trio.open_nursery() as nursery:
        for number in range(BURST):
            await start(askers, nursery, str(number))
        giving_up = await nursery.start(_ask_many, askers)
        await start(askers, nursery, "behind")
        giving_up.cancel()
    assert askers.asked[-1] == ("behind", 1 / PER_SECOND)


async def _ask_many(askers: Askers, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(100):
            await start(askers, nursery, f"gives up {number}")
        task_status.started(nursery.cancel_scope)
