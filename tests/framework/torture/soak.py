"""Two nodes that mine, pay and sync for a long time: memory, threads, descriptors and tasks of the
one that is watched have to stay flat. `python -m tests.framework.torture.soak REPORT SVG` draws
what a report has of it."""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import psutil

from tests.framework.torture.kills import Survival
from tests.framework.torture.report import PartReport, Shown
from tests.framework.torture.world import PATIENCE_S, world

SAMPLE_S = 5.0
PACE_S = 0.25
"""Seconds between two requests of the load: a chain that grows, and not a race."""
FILL_ROUNDS = 100
FILL_ANCHORS = 25
FILL_PAYMENTS = 8
"""Before anything is looked at, so often so many anchors are mined at once and so many payments
made: by then all that a node keeps a bounded number or size of (MAX_REORG anchors of the tree,
headers, coins, gossip, 8 MiB of each wallet's pages, the store's blocks) is nearly full, and what
is left fills in the first half of the time."""
SAMPLES_MIN = 60
"""Samples in a half without which nothing is judged: five minutes."""
GROWTH_MAX = {"own memory MiB": 3.0, "threads": 0.5, "descriptors": 1.0, "tasks": 1.0}
"""What may come to it in the second half of the time, along the line that fits it best: more than
samples that lie 2 MiB about a level give by chance, and no share of what is there: a node that
takes much is not allowed more."""
WIDTH, HEIGHT, LEFT, ROW = 760, 480, 120, 110


Sample = dict[str, float]
"""What was seen at once, "s" seconds after the start."""


class SoakPart(Survival):
    """One long run."""

    def run(self, minutes: int) -> None:
        """Work for so many minutes, and look at what the node takes."""
        self.begin()
        self._fill()
        shown = Shown(self.report.part, minutes)
        ended = threading.Event()
        load = threading.Thread(target=self._work, args=(ended,))
        load.start()
        began = time.monotonic()
        samples: list[Sample] = []
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
        grown = growths(samples)
        self.report.facts["came to it in the second half"] = grown
        for line in what_grew(samples, grown):
            self.fail("soak", line)
        case = "after the soak"
        wrong = self.world.stop(self.world.victim)
        if wrong is not None:
            self.fail(case, wrong)
        self.look(case)
        self.go_on(case)
        self.count()

    def _fill(self) -> None:
        """Let caches fill: else a run of some minutes is the time in which they do."""
        load, shown = self.load(), Shown(f"{self.report.part}, before", FILL_ROUNDS)
        for number in range(FILL_ROUNDS):
            self.acknowledged.anchors += self.world.mine(self.world.victim, FILL_ANCHORS)
            for _ in range(FILL_PAYMENTS):
                load.pay_once()
            shown.show(number + 1, "rounds that fill what a node keeps")
        self.report.facts["before"] = dict(self.acknowledged.counts)

    def _work(self, ended: threading.Event) -> None:
        load = self.load()
        while not ended.wait(PACE_S):
            load.ask_once(self.rng)

    def _sample(self, at: float) -> Sample:
        victim = self.world.victim
        process = psutil.Process(victim.process.pid)
        with process.oneshot():
            memory = process.memory_info()
            return {
                "s": round(at, 1),
                "own memory MiB": round((memory.rss - memory.shared) / 2**20, 2),
                # Libraries, and the store's tables: the more of them are read the longer the chain
                # is, and the machine takes them back when it likes.
                "mapped files MiB": round(memory.shared / 2**20, 2),
                "threads": float(process.num_threads()),
                "descriptors": float(process.num_fds()),
                "tasks": float(len(victim.call("debug.tasks", PATIENCE_S)["tasks"])),
                "height": float(victim.tip()[0]),
            }


def growths(samples: Sequence[Sample]) -> dict[str, float]:
    """Return by how much each thing grew from the first sample of the second half to the last,
    along the line of the median of all slopes between two of them (Theil 1950, Sen 1968): a quarter
    of them may be anything, as while a wallet reads, and it says nearly the same."""
    half = samples[len(samples) // 2 :]
    grown = {}
    for name in GROWTH_MAX:
        slopes = [
            (after[name] - before[name]) / (after["s"] - before["s"])
            for before, after in combinations(half, 2)
        ]
        lasted_s = half[-1]["s"] - half[0]["s"]
        grown[name] = round(statistics.median(slopes or [0.0]) * lasted_s, 2)
    return grown


def what_grew(samples: Sequence[Sample], grown: dict[str, float]) -> list[str]:
    """Return a line for each thing that is not flat; also where that cannot be told."""
    if len(samples) < 2 * SAMPLES_MIN:
        return [f"too short to judge: {len(samples)} samples, at least {2 * SAMPLES_MIN} expected"]
    return [
        f"{name} grew by {grown[name]:g} in the second half, {most:g} at most expected"
        for name, most in GROWTH_MAX.items()
        if grown[name] > most
    ]


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
    first, last = (int(samples[at]["height"]) for at in (0, -1))
    half = LEFT + samples[len(samples) // 2]["s"] / last_s * (WIDTH - LEFT - 20)
    lines += [
        f'<line x1="{half:.1f}" y1="20" x2="{half:.1f}" y2="{len(GROWTH_MAX) * ROW}" '
        'stroke="#bbb" stroke-dasharray="4 4"/>',
        f'<text x="{LEFT}" y="{HEIGHT - 14}">0 to {last_s / 60:.0f} minutes; the chain grew from '
        f"height {first} to {last}; judged from the dashed line on</text>",
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
