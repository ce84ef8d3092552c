"""How much a node does in one step of its event loop, counted in calls of functions: unlike time,
that is the same on a busy machine.

    python -m tests.framework.loop_work FILE unchained-node's arguments

runs `unchained-node` so, and writes to FILE, as JSON, for each task the most calls in one step and
where most of them were made.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import trio

from unchained.node.base.loop_monitor import LoopMonitor
from unchained.node.cli import process
from unchained.node.cli.main import main

PLACES_SHOWN = 8


class LoopWork(LoopMonitor):
    """Counts the calls of each step of the loop, and forgets how long it took."""

    longest: ClassVar[dict[str, tuple[int, list[str]]]] = {}

    def __init__(self, log: Any) -> None:
        super().__init__(log, limit_s=float("inf"))
        self._calls = 0
        self._places: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._calls = 0
        self._places.clear()
        sys.setprofile(self._count_call)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        sys.setprofile(None)
        known, _ = self.longest.get(task.name, (0, []))
        if self._calls > known:
            places = [f"{count} {place}" for place, count in self._places.most_common(PLACES_SHOWN)]
            self.longest[task.name] = (self._calls, places)

    def _count_call(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            self._calls += 1
            code = frame.f_code
            self._places[f"{code.co_filename.rpartition('/')[2]}:{code.co_qualname}"] += 1
        elif event == "c_call":
            self._calls += 1


if __name__ == "__main__":
    file = Path(sys.argv[1])
    sys.argv = ["unchained-node", *sys.argv[2:]]
    vars(process)["LoopMonitor"] = LoopWork
    try:
        main()
    finally:
        file.write_text(json.dumps(LoopWork.longest))
