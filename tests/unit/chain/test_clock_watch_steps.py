"""The node's clock against its chain: when the writer is made to look, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
from structlog.testing import CapturingLogger

from unchained.node.base.fanout import Watch
from unchained.node.chain.clock_watch import ClockWatch
from unchained.node.chain.core import ChainCore
from unchained.node.chain.mempool.mempool import MempoolStatistics
from unchained.node.chain.status import ChainStatus
from unchained.node.crypto.history_range import EMPTY_HISTORY
from unchained.node.primitives.types import CoinId

START_MS = 1_000_000_000


class SetClock:
    """A clock that follows Trio's, and can be set."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        return START_MS + self.offset_ms + round(trio.current_time() * 1000)


class Writer:
    """Notes when it is made to look at the clock."""

    def __init__(self, clock: SetClock) -> None:
        self._clock = clock
        self.looks: list[int] = []

    async def call(self, work: Callable[[ChainCore], object]) -> None:
        assert work is ChainCore.advance
        self.looks.append(self._clock.now_ms() - START_MS)


def status(*, behind_ms: int = 0, due_ms: int | None = None) -> ChainStatus:
    return ChainStatus(
        tip=CoinId(b"t" * 32),
        height=1,
        votes=0,
        tip_time=START_MS + 90_000,
        n_total=0,
        target=1,
        history=EMPTY_HISTORY,
        supply=0,
        pool=0,
        next_event=0,
        coins=0,
        anchors=1,
        mempool=MempoolStatistics(0, 0, 0, 1.0),
        refused=None,
        clock_behind_ms=behind_ms,
        next_due_ms=None if due_ms is None else START_MS + due_ms,
    )


class Watched:
    """A clock watch and all that it has to do with."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.writer = Writer(self.clock)
        self.status = Watch(status())
        self.lines = CapturingLogger()
        log = structlog.wrap_logger(
            self.lines,
            processors=[structlog.processors.KeyValueRenderer(sort_keys=True)],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
        )
        self.watch = ClockWatch(
            self.writer,  # type: ignore[arg-type]
            self.status,
            clock=self.clock,
            log=log,
        )

    def told(self) -> list[tuple[str, Any]]:
        return [(call.method_name, call.args[0]) for call in self.lines.calls]


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_a_clock_that_goes_on_is_left_alone(watched: Watched) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(60)
        assert watched.writer.looks == []
        nursery.cancel_scope.cancel()


async def test_a_coin_is_looked_at_when_it_is_due(watched: Watched) -> None:
    watched.status.set(status(due_ms=10_120))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(10.119)
        assert watched.writer.looks == []
        await trio.sleep(0.1)
        watched.status.set(status())
        assert watched.writer.looks[0] == 10_120
        seen = len(watched.writer.looks)
        await trio.sleep(30)
        assert len(watched.writer.looks) <= seen + 1
        nursery.cancel_scope.cancel()


async def test_a_coin_is_waited_for_to_the_millisecond(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unchained.node.chain.clock_watch.CLOCK_CHECK_S", 100.0)
    watched.status.set(status(due_ms=50_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(51)
        assert watched.writer.looks[0] == 50_000
        nursery.cancel_scope.cancel()


async def test_a_status_that_stays_due_is_not_looked_at_without_a_pause(watched: Watched) -> None:
    """A millisecond between looks at the least, whatever the status says."""
    watched.status.set(status(due_ms=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(0.0505)
        assert watched.writer.looks == list(range(1, 51))
        nursery.cancel_scope.cancel()


async def test_what_comes_to_wait_for_the_clock_is_seen_at_once(watched: Watched) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(1.25)
        watched.status.set(status(due_ms=1_400))
        await trio.sleep(0.1)
        assert watched.writer.looks == []
        await trio.sleep(0.06)
        assert watched.writer.looks[0] == 1_400
        nursery.cancel_scope.cancel()


async def test_the_status_is_looked_at_twice_a_second_while_something_waits(
    watched: Watched,
) -> None:
    watched.status.set(status(due_ms=100_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(0.25)
        watched.status.set(status(due_ms=260))
        await trio.sleep(0.24)
        assert watched.writer.looks == []
        await trio.sleep(0.02)
        assert watched.writer.looks[0] == 501, "as soon as it is seen to be due"
        nursery.cancel_scope.cancel()


async def test_a_clock_that_steps_back_is_noticed(watched: Watched) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(7.5)
        watched.clock.offset_ms = -5_000
        await trio.sleep(5)
        assert watched.writer.looks == [], "it shows what it showed at the last look"
        watched.clock.offset_ms = -20_000
        await trio.sleep(5)
        assert watched.writer.looks == [-5_000], "once: from there it goes on as it should"
        await trio.sleep(100)
        assert watched.writer.looks == [-5_000]
        nursery.cancel_scope.cancel()


async def test_a_clock_that_is_behind_is_looked_at_until_it_is_not(watched: Watched) -> None:
    watched.status.set(status(behind_ms=80_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(1.75)
        assert watched.writer.looks == [500, 1_000, 1_500]
        watched.status.set(status())
        await trio.sleep(10)
        assert watched.writer.looks[3:] in ([], [2_000])
        nursery.cancel_scope.cancel()


async def test_being_behind_is_said_once_and_being_level_too(watched: Watched) -> None:
    note = watched.watch.note
    note(status())
    assert watched.told() == []
    note(status(behind_ms=80_000))
    note(status(behind_ms=79_000))
    ((level, line),) = watched.told()
    assert level == "error"
    assert "event='chain.clock_behind'" in line
    for shown in (CoinId(b"t" * 32).hex(), "set-aside", "clock='1970-01-12T13:46:50.000Z'"):
        assert shown in line
    note(status())
    note(status())
    assert [(level, "clock_level" in line) for level, line in watched.told()[1:]] == [
        ("info", True)
    ]
    note(msgspec.structs.replace(status(), clock_behind_ms=1))
    assert len(watched.told()) == 3


async def test_what_was_behind_from_the_start_is_said(watched: Watched) -> None:
    watched.status.set(status(behind_ms=5))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.testing.wait_all_tasks_blocked()
        assert [level for level, _ in watched.told()] == ["error"]
        nursery.cancel_scope.cancel()
