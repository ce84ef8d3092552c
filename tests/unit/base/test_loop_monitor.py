"""The instrument that finds tasks which hold the event loop."""

from __future__ import annotations

import time

import pytest
import structlog.testing
import trio

from unchained.node.base import loop_monitor
from unchained.node.base.loop_monitor import LoopMonitor


class Hands:
    """Clocks whose hands a test moves."""

    def __init__(self) -> None:
        self.seconds = self.worked = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def processor(self) -> float:
        return self.worked


async def run_steps(
    steps: list[tuple[str, float]], *, work: float = 1.0
) -> tuple[LoopMonitor, list[dict[str, object]]]:
    """Run tasks one after the other, each holding the loop for its seconds, of which it works for
    such a share; return what the instrument counted and said."""
    hands = Hands()
    said = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[said])
    instrument = LoopMonitor(log, clock=hands)

    async def hold(seconds: float) -> None:
        hands.seconds += seconds
        hands.worked += seconds * work

    trio.lowlevel.add_instrument(instrument)
    for name, seconds in steps:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, seconds, name=name)
    trio.lowlevel.remove_instrument(instrument)
    return instrument, [dict(entry) for entry in said.entries]


async def test_a_step_over_the_limit_is_counted_and_named() -> None:
    instrument, said = await run_steps([("quick", 0.049), ("slow", 0.2)])
    statistics = instrument.statistics()
    assert statistics.blocking_steps == 1
    assert statistics.longest_ms == pytest.approx(200)
    assert [(task.name, task.steps) for task in statistics.tasks] == [("slow", 1)]
    assert said == [
        {
            "event": "loop.blocked",
            "log_level": "warning",
            "task": "slow",
            "ms": 200,
            "cpu_ms": 200,
            "untold": 0,
        }
    ]


async def test_a_step_that_waited_for_the_processor_is_not_at_fault() -> None:
    instrument, said = await run_steps([("quick", 0.04), ("slow", 0.2), ("slow", 0.2)], work=0.1)
    statistics = instrument.statistics()
    assert [(task.name, task.steps) for task in statistics.tasks] == [(loop_monitor.WAITING, 2)]
    assert [(step.task, step.ms, step.cpu_ms) for step in statistics.slow] == [
        ("slow", pytest.approx(200), pytest.approx(20))
    ] * 2
    assert [(entry["event"], entry["log_level"], entry["cpu_ms"]) for entry in said] == [
        ("loop.waited", "info", 20)
    ]


async def test_a_step_is_not_blamed_for_what_others_of_its_turn_worked() -> None:
    hands = Hands()
    said = structlog.testing.LogCapture()
    instrument = LoopMonitor(structlog.wrap_logger(None, processors=[said]), clock=hands)

    async def hold(seconds: float, work: float) -> None:
        hands.seconds += seconds
        hands.worked += work

    trio.lowlevel.add_instrument(instrument)
    async with trio.open_nursery() as nursery:
        # ready at once: all of them are steps of one turn, in an order of Trio's choice
        for _ in range(4):
            nursery.start_soon(hold, 0.03, 0.03, name="worker")
        for _ in range(4):
            nursery.start_soon(hold, 0.06, 0.0, name="sleeper")
    trio.lowlevel.remove_instrument(instrument)
    assert [(step.task, step.cpu_ms) for step in instrument.statistics().slow] == [
        ("sleeper", 0)
    ] * 4
    assert {entry["event"] for entry in said.entries} == {"loop.waited"}


@pytest.mark.real_time
async def test_a_call_that_waits_is_seen_and_named() -> None:
    said = structlog.testing.LogCapture()
    instrument = LoopMonitor(structlog.wrap_logger(None, processors=[said]))

    async def sleep() -> None:
        time.sleep(0.2)  # noqa: ASYNC251 - what is to be seen

    trio.lowlevel.add_instrument(instrument)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep, name="sleeper")
    trio.lowlevel.remove_instrument(instrument)
    (step,) = (step for step in instrument.statistics().slow if step.task == "sleeper")
    assert step.ms >= 200
    assert step.cpu_ms < step.ms / 2
    assert "sleeper" in {entry["task"] for entry in said.entries}


async def test_warnings_are_limited_in_rate_and_the_next_says_what_was_left_out() -> None:
    steps = [("slow", 1.0), ("slow", 1.0), ("slow", 1.0), ("idle", 0.0), ("other", 11.0)]
    instrument, said = await run_steps(steps)
    assert [(entry["task"], entry["untold"]) for entry in said] == [("slow", 0), ("other", 2)]
    assert [task.steps for task in instrument.statistics().tasks] == [3, 1]


async def test_the_names_counted_are_bounded() -> None:
    instrument, _ = await run_steps([(f"task {n}", 0.1) for n in range(loop_monitor.MAX_NAMES + 5)])
    tasks = instrument.statistics().tasks
    assert len(tasks) == loop_monitor.MAX_NAMES + 1
    assert tasks[0].name == loop_monitor.OTHERS
    assert tasks[0].steps == 5
