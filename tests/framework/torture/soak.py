"""Two nodes that mine, pay and sync for a long time: memory, threads, descriptors and tasks of the
one that is watched have to stay flat. `python -m tests.framework.torture.soak REPORT SVG` draws
what a report has of it."""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from tests.framework.torture.kills import Survival
from tests.framework.torture.report import PartReport, Shown
from tests.framework.torture.world import PATIENCE_S, world

SAMPLE_S = 5.0
PACE_S = 0.25
"""Seconds between two requests of the load: a chain that grows, and not a race."""
WARM_UP = 0.25
"""The part of the time that is not looked at: caches fill."""
GROWTH_MAX = {"resident MiB": 1.10, "threads": 1.10, "descriptors": 1.15, "tasks": 1.15}
"""What the median of the last third may be of that of the third before it."""
SPARE = {"resident MiB": 4.0, "threads": 2.0, "descriptors": 8.0, "tasks": 12.0}
"""What it may be above that in any case."""
WIDTH, HEIGHT, LEFT, ROW = 760, 480, 120, 110


class SoakPart(Survival):
    """One long run."""

    def run(self, minutes: int) -> None:
        """Work for so many minutes, and look at what the node takes."""
        self.begin()
        shown = Shown(self.report.part, minutes)
        ended = threading.Event()
        load = threading.Thread(target=self._work, args=(ended,))
        load.start()
        began = time.monotonic()
        samples: list[dict[str, float]] = []
        try:
            while (at := time.monotonic() - began) < minutes * 60:
                samples.append(self._sample(at))
                shown.show(int(at // 60), f"{samples[-1]}")
                ended.wait(SAMPLE_S)
        finally:
            ended.set()
            load.join()
        self.report.facts["minutes"] = round((time.monotonic() - began) / 60, 1)
        self.report.facts["samples"] = samples
        for name in GROWTH_MAX:
            self._judge(name, [sample[name] for sample in samples])
        case = "after the soak"
        wrong = self.world.stop(self.world.victim)
        if wrong is not None:
            self.fail(case, wrong)
        self.look(case)
        self.go_on(case)
        self.count()

    def _work(self, ended: threading.Event) -> None:
        load = self.load()
        while not ended.wait(PACE_S):
            load.ask_once(self.rng)

    def _sample(self, at: float) -> dict[str, float]:
        victim = self.world.victim
        process = psutil.Process(victim.process.pid)
        with process.oneshot():
            return {
                "s": round(at, 1),
                "resident MiB": round(process.memory_info().rss / 2**20, 2),
                "threads": float(process.num_threads()),
                "descriptors": float(process.num_fds()),
                "tasks": float(len(victim.call("debug.tasks", PATIENCE_S)["tasks"])),
                "height": float(victim.tip()[0]),
            }

    def _judge(self, name: str, values: list[float]) -> None:
        kept = values[int(len(values) * WARM_UP) :]
        half = len(kept) // 2
        if half < 3:
            self.report.facts["too short to judge"] = len(values)
            return
        before, after = statistics.median(kept[:half]), statistics.median(kept[half:])
        self.report.facts[f"{name}: median of the second and third part"] = [before, after]
        if after > max(before * GROWTH_MAX[name], before + SPARE[name]):
            self.fail(f"soak, {name}", f"grew from {before} to {after}")


def draw(facts: dict[str, Any]) -> str:
    """Return the samples as an SVG: a row for each thing that has to stay flat."""
    samples = facts["samples"]
    last_s = max(sample["s"] for sample in samples) or 1
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for row, name in enumerate(GROWTH_MAX):
        bottom = (row + 1) * ROW
        most = max(sample[name] for sample in samples) or 1
        points = " ".join(
            f"{LEFT + sample['s'] / last_s * (WIDTH - LEFT - 20):.1f},"
            f"{bottom - sample[name] / most * (ROW - 30):.1f}"
            for sample in samples
        )
        lines += [
            f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - 20}" y2="{bottom}" stroke="#bbb"/>',
            f'<text x="8" y="{bottom - ROW + 44}">{name}</text>',
            f'<text x="{LEFT - 8}" y="{bottom - ROW + 34}" text-anchor="end">{most:g}</text>',
            f'<text x="{LEFT - 8}" y="{bottom}" text-anchor="end">0</text>',
            f'<polyline points="{points}" fill="none" stroke="#0b62a4" stroke-width="1.5"/>',
        ]
    height = int(max(sample["height"] for sample in samples))
    lines += [
        f'<text x="{LEFT}" y="{HEIGHT - 14}">0 to {last_s / 60:.0f} minutes; the chain grew to '
        f"height {height}</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def run_soak(report: PartReport, minutes: int) -> None:
    """Let two nodes work for so many minutes."""
    with world(report.seed) as it:
        SoakPart(it, report).run(minutes)


if __name__ == "__main__":
    reports = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = next(report for report in reports if report["part"] == "soak")
    Path(sys.argv[2]).write_text(draw(found["facts"]), encoding="utf-8")
