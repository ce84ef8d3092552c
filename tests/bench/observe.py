"""What it costs to be seen: a scrape, how long it holds the loop, a debug line that nobody wants.

    python -m tests.bench.observe

A node of a simulated network, with peers, is scraped; the rest of a real node's statistics comes
from the parts that it has there. A debug line is compared to a call of an empty function.
"""

from __future__ import annotations

import time
from functools import partial

import trio
import trio.testing

from tests.bench._result import result
from tests.framework.observed import observer_of
from tests.framework.simulation.simnet import simulate
from unchained.node.base.clock import SystemClock
from unchained.node.base.logs import Logs
from unchained.node.base.loop_monitor import LoopMonitor
from unchained.node.observe.metrics_page import metrics_text

RUNS = 50
LINES = 100_000
SCRAPE_GOAL_MS = 20.0
HOLD_GOAL_MS = 1.0
DEBUG_GOAL_NS = 1_000.0


async def _scrapes() -> tuple[list[float], list[float]]:
    """Return how long rendering takes in its thread, and the snapshot on the loop, both in ms."""
    renders, holds = [], []
    async with simulate(501) as net:
        nodes = await net.grow(5)
        await net.mingle(nodes)
        observer = observer_of(nodes[0])
        observer.loop = LoopMonitor(Logs([], SystemClock()).log)
        observer.log = Logs([], SystemClock())
        for _ in range(RUNS):
            began = time.perf_counter()
            statistics = observer.statistics()
            holds.append((time.perf_counter() - began) * 1000)
            began = time.perf_counter()
            metrics_text(observer.complete(statistics))
            renders.append((time.perf_counter() - began) * 1000)
    return renders, holds


def _debug_lines() -> tuple[list[float], list[float]]:
    """Return what a debug line costs that nobody wants, and an empty call, both in ns."""
    log = Logs([], SystemClock(), "info").log

    def empty(event: str, **_: object) -> None:
        pass

    def ns(call: object) -> float:
        began = time.perf_counter()
        for number in range(LINES):
            call("chain.detail", height=number, id=b"id")  # type: ignore[operator]
        return (time.perf_counter() - began) / LINES * 1e9

    return [ns(log.debug) for _ in range(5)], [ns(empty) for _ in range(5)]


def run() -> list[dict[str, object]]:
    """Measure each."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    renders, holds = trio.run(_scrapes, clock=clock)
    lines, calls = _debug_lines()
    row = partial(result, at_least=False)
    return [
        row(
            "scrape: rendering in a thread",
            "ms",
            renders,
            reference="the snapshot",
            reference_values=holds,
            goal=SCRAPE_GOAL_MS,
        ),
        row(
            "scrape: the loop is held",
            "ms",
            holds,
            reference="rendering",
            reference_values=renders,
            goal=HOLD_GOAL_MS,
        ),
        row(
            "debug line that nobody wants",
            "ns",
            lines,
            reference="an empty call",
            reference_values=calls,
            goal=DEBUG_GOAL_NS,
        ),
    ]


if __name__ == "__main__":
    for found in run():
        print(found)
