"""A loop that is held is found in the metrics, the log, the view of the tasks and the trace."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.framework.observed import observer_of
from tests.framework.simulation.simnet import simulate
from tests.framework.wallet_node import CapturedLog
from unchained.node.base.loop_monitor import LoopMonitor
from unchained.node.base.runner import ThreadRunner
from unchained.node.observe.metrics_page import metrics_text
from unchained.node.observe.task_trace import TraceRecorder
from unchained.node.observe.task_tree import TaskTree, task_tree

HELD_S = 0.08


async def hold_the_loop(asked: trio.Event) -> None:
    await asked.wait()
    ends = time.thread_time() + HELD_S
    while time.thread_time() < ends:
        pass


async def wait_for_ever() -> None:
    await trio.Event().wait()


@pytest.mark.real_time
async def test_a_loop_that_is_held_is_found_in_all_four_places(tmp_path: Path) -> None:
    log = CapturedLog()
    async with simulate(301) as net:
        node = net.node()
        await node.start()
        observer = observer_of(node)
        observer.loop = monitor = LoopMonitor(log.logger())
        # To start the node holds the loop too; a second warning within ten seconds is left out.
        trio.lowlevel.add_instrument(monitor)
        try:
            asked = trio.Event()
            kept: list[Any] = []

            async def record() -> None:
                kept.append(await TraceRecorder(tmp_path, ThreadRunner(1)).record(0.5))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(record, name="recording")
                nursery.start_soon(hold_the_loop, asked, name="the culprit")
                await trio.sleep(0.05)
                asked.set()
            statistics = observer.statistics()
            report = TaskTree(observer, monitor).report()
        finally:
            trio.lowlevel.remove_instrument(monitor)
    check_trace(Path(kept[0].path))

    assert b'unchained_loop_slow_steps_total{task="the culprit"} 1' in metrics_text(statistics)
    assert any("loop.blocked" in line and "the culprit" in line for line in log.lines)
    slowest = max(report.slowest, key=lambda step: step.ms)
    assert slowest.task == "the culprit"
    assert slowest.ms >= HELD_S * 1000


def check_trace(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    events = json.loads(path.read_text())["traceEvents"]
    rows = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    longest = max((e for e in events if e.get("cat") == "step"), key=lambda event: event["dur"])
    assert longest["name"] == rows[longest["tid"]] == "the culprit"
    assert longest["dur"] >= HELD_S * 1e6
    # The turn of the loop that it held is at least as long.
    assert max(e["dur"] for e in events if e.get("cat") == "loop") >= longest["dur"]


@pytest.mark.real_time
async def test_each_task_says_since_when_and_for_what_it_waits() -> None:
    monitor = LoopMonitor(CapturedLog().logger())
    trio.lowlevel.add_instrument(monitor)
    try:
        async with simulate(302) as net, trio.open_nursery() as nursery:
            node = net.node()
            await node.start()
            nursery.start_soon(wait_for_ever, name="patient")
            await trio.sleep(0.2)
            report = TaskTree(observer_of(node), monitor).report()
            nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(monitor)
    (patient,) = (task for task in report.tasks if task.name == "patient")
    assert patient.waiting_for.endswith("Event.wait") or patient.waiting_for == "wait"
    assert "wait_for_ever" in patient.waiting_at
    assert "test_task_tree.py:" in patient.waiting_at
    assert patient.age_s is not None
    assert patient.waited_s is not None
    assert 0.1 < patient.waited_s <= patient.age_s < 60
    writer = next(task for task in report.tasks if task.name == "chain.writer")
    assert "writer.py" in writer.waiting_at
    assert report.channels["chain.writer"].capacity > 0
    # Parents before children.
    assert report.tasks[0].depth == 0
    deeper = zip(report.tasks, report.tasks[1:], strict=False)
    assert all(after.depth <= before.depth + 1 for before, after in deeper)


@pytest.mark.real_time
async def test_of_a_task_that_waits_for_a_thread_no_frame_of_the_thread_is_shown() -> None:
    """Whoever walks the frames of a thread that runs reads what is gone: an hour of questions,
    one every five seconds, ended a node by SIGSEGV."""
    began, ends = threading.Event(), threading.Event()

    def work_in_the_thread() -> None:
        began.set()
        ends.wait()

    async def give_to_a_thread() -> None:
        await trio.to_thread.run_sync(work_in_the_thread)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_to_a_thread, name="giver")
        await trio.to_thread.run_sync(began.wait)
        try:
            (giver,) = (task for task in task_tree(None) if task.name == "giver")
        finally:
            ends.set()
    assert [call.split(" ")[1] for call in giver.calls] == ["give_to_a_thread"]
    assert giver.waiting_for.endswith("to_thread_run_sync")


async def test_a_recording_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    with trio.move_on_after(1):
        await TraceRecorder(tmp_path, ThreadRunner(1)).record(30)
    assert os.listdir(tmp_path) == []
