"""The tasks of the event loop as a tree: what each waits for, and since when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import trio

from unchained.node.base.loop_monitor import LoopMonitor
from unchained.node.observe.node_observer import NodeObserver
from unchained.node.rpc.methods.debug import TaskInfo, TaskReport

TASKS_MAX: Final = 2_000
"""Tasks that one answer lists."""

FRAMES_MAX: Final = 8
"""Innermost calls that are shown of a task."""


class TaskTree:
    """Looks into the tasks of the event loop that it is called in. `monitor` knows since when each
    is there; `observer`, the queues and threads beside them."""

    def __init__(self, observer: NodeObserver, monitor: LoopMonitor | None) -> None:
        self._observer = observer
        self._monitor = monitor

    def report(self) -> TaskReport:
        """Return the tasks, and what they wait for."""
        statistics = self._observer.statistics()
        return TaskReport(
            tasks=task_tree(self._monitor),
            channels=statistics.channels,
            threads=statistics.threads,
            slowest=[] if statistics.loop is None else list(statistics.loop.slow),
        )


def task_tree(monitor: LoopMonitor | None) -> list[TaskInfo]:
    """Return the tasks, parents before children, at most `TASKS_MAX`."""
    root = trio.lowlevel.current_root_task()
    found: list[TaskInfo] = []
    waiting = [] if root is None else [(root, 0)]
    while waiting and len(found) < TASKS_MAX:
        task, depth = waiting.pop()
        calls = list(_calls(task))[-FRAMES_MAX:]
        found.append(
            TaskInfo(
                name=task.name,
                depth=depth,
                waiting_at=calls[-1] if calls else "",
                waiting_for=_waiting_for(task),
                age_s=None if monitor is None else monitor.age_s(task),
                waited_s=None if monitor is None else monitor.waited_s(task),
                calls=calls,
            )
        )
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        waiting.extend((child, depth + 1) for child in children)
    return found


def _calls(task: trio.lowlevel.Task) -> Iterator[str]:
    """Return where a task stands, outermost first, in modules that are not Trio's.

    Of a task that waits for a thread it is where it gave the work to it: the frames of a thread
    that runs meanwhile must not be walked, which ends the process (by SIGSEGV, in 40 minutes)."""
    if task is trio.lowlevel.current_task():
        # Its frames run: they cannot be walked from within.
        yield "(this call)"
        return
    for frame, line in task.iter_await_frames():
        code = frame.f_code
        if "/trio/" not in code.co_filename:
            yield f"{code.co_filename.rsplit('/', 1)[-1]}:{line} {code.co_name}"


def _waiting_for(task: trio.lowlevel.Task) -> str:
    """Return the Trio call that a task waits in, such as `Event.wait`: the innermost that Trio
    shows to others."""
    for frame, _ in reversed(list(task.iter_await_frames())):
        code = frame.f_code
        if "/trio/" not in code.co_filename or code.co_name.startswith("_"):
            continue
        if code.co_name not in ("wait_task_rescheduled", "park", "checkpoint"):
            return code.co_qualname
    return ""
