"""How often a node looks at its clock."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
import trio

from tests.framework.corechain import Chain
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Watch
from unchained.node.chain.clock_watch import CLOCK_CHECK_S, IDLE_CLOCK_CHECK_S, ClockWatch


class SetClock:
    """Trio's clock, which can be set."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self._clock = TrioClock(1_000_000_000)

    def now_ms(self) -> int:
        return self._clock.now_ms() + self.ahead_ms


class Steps(trio.abc.Instrument):
    """Counts the steps of the watch."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += task.name == "watch"


async def test_the_clock_is_looked_at_often_only_where_something_waits_for_it() -> None:
    calls: list[float] = []

    class Writer:
        async def call(self, _command: object) -> None:
            calls.append(trio.current_time())
            await trio.lowlevel.checkpoint()

    writer: Any = Writer()
    clock = SetClock()
    idle = msgspec.structs.replace(Chain().core.status(0), next_due_ms=None, clock_behind_ms=0)
    status = Watch(idle)
    watch = ClockWatch(writer, status, clock=clock, log=structlog.get_logger())
    trio.lowlevel.add_instrument(steps := Steps())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run, name="watch")
        await trio.sleep(60.1)
        assert steps.steps <= 3 * 60 / IDLE_CLOCK_CHECK_S
        assert calls == []
        began = trio.current_time()
        status.set(msgspec.structs.replace(idle, next_due_ms=clock.now_ms() + 1_250))
        await trio.sleep(1.3)
        assert 1.25 <= calls[0] - began < 1.3
        status.set(idle)
        await trio.sleep(CLOCK_CHECK_S)
        calls.clear()
        clock.ahead_ms = -10_000
        await trio.sleep(IDLE_CLOCK_CHECK_S)
        assert len(calls) == 1
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(steps)
