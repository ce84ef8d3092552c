"""A recording of task steps, as a file that Perfetto (ui.perfetto.dev) shows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import trio

from unchained.node.base.runner import Runner
from unchained.node.rpc.methods.debug import TraceKept

STEPS_MAX: Final = 200_000
"""Steps that one recording holds, at some 100 bytes each in memory; later ones are counted."""

LOOP_ROW: Final = 0
"""Row of the event loop's own turns; tasks have rows of their own, by name."""


class TaskTrace(trio.abc.Instrument):
    """A Trio instrument that keeps every step of every task until it is stopped."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._step_began = self._woke = 0.0
        self._steps: list[tuple[str, float, float]] = []
        self._turns: list[tuple[float, float]] = []
        self.left_out = 0
        """Steps for which there was no room."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when a step begins."""
        self._step_began = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Keep a step."""
        if not self._step_began:
            return  # it began before the recording
        if len(self._steps) < STEPS_MAX:
            self._steps.append((task.name, self._step_began, time.perf_counter()))
        else:
            self.left_out += 1

    def after_io_wait(self, timeout: float) -> None:
        """Note when a turn of the loop begins."""
        self._woke = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        """Keep a turn."""
        if self._woke and len(self._turns) < STEPS_MAX:
            self._turns.append((self._woke, time.perf_counter()))

    @property
    def steps(self) -> int:
        """Steps kept."""
        return len(self._steps)

    def events(self) -> list[Mapping[str, object]]:
        """Return the recording as Chrome's trace events: microseconds since it began."""
        rows: dict[str, int] = {}
        pid = os.getpid()
        made: list[Mapping[str, object]] = []
        for name, began, ended in self._steps:
            row = rows.setdefault(name, len(rows) + 1)
            made.append(self._event(name, "step", row, began, ended, pid))
        made += [
            self._event("turn", "loop", LOOP_ROW, began, ended, pid) for began, ended in self._turns
        ]
        named = {"event loop": LOOP_ROW, **rows}
        made += [
            {"ph": "M", "name": "thread_name", "pid": pid, "tid": row, "args": {"name": name}}
            for name, row in named.items()
        ]
        return made

    def _event(
        self, name: str, kind: str, row: int, began: float, ended: float, pid: int
    ) -> Mapping[str, object]:
        return {
            "ph": "X",
            "name": name,
            "cat": kind,
            "pid": pid,
            "tid": row,
            "ts": round((began - self._began) * 1e6, 1),
            "dur": round((ended - began) * 1e6, 1),
        }


class TraceRecorder:
    """Records the event loop that it is called in, one recording at a time."""

    def __init__(self, directory: Path, runner: Runner) -> None:
        self._directory = directory
        self._runner = runner
        self._turn = trio.Lock()

    async def record(self, seconds: float) -> TraceKept:
        """Record for so many seconds into a file of the data directory, mode 0600.

        Raises OSError where it cannot be written. Cancelled, it leaves no file.
        """
        async with self._turn:
            trace = TaskTrace()
            trio.lowlevel.add_instrument(trace)
            try:
                await trio.sleep(seconds)
            finally:
                trio.lowlevel.remove_instrument(trace)
            path = self._directory / f"trace-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
            await self._runner.run(_write, path, trace)
            return TraceKept(str(path), trace.steps, trace.left_out)


def _write(path: Path, trace: TaskTrace) -> None:
    document = {
        "displayTimeUnit": "ms",
        "traceEvents": trace.events(),
        "otherData": {"threads": str(threading.active_count()), "left_out": str(trace.left_out)},
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(document))
