"""What nodes with four peers and nothing to do take: CPU in percent of a core, which depends on the
machine, and how often they wake, which does not.

The reference is a node that has no network.
"""

from __future__ import annotations

import time

import psutil

from tests.bench._network import five_nodes
from tests.bench._result import result

GOAL_PERCENT = 1.0
GOAL_WAKE_UPS = 400.0
"""Per minute; 833 before pings and statuses were asked for by one side alone."""
SETTLE_S = 15.0
MEASURED_S = 60.0


def run(settle_s: float = SETTLE_S, measured_s: float = MEASURED_S) -> list[dict[str, object]]:
    """Measure five nodes of a network, and one that has none, over the same minute."""
    with five_nodes() as (net, nodes):
        alone = net.home.start("--network", "reg", "--no-mine", name="alone")
        alone.wait_event("node.started")
        pids = [*(node.process.pid for node in nodes), alone.pid]
        time.sleep(settle_s)
        before, began = [cpu_s(pid) for pid in pids], time.perf_counter()
        woken_before = [wake_ups(pid) for pid in pids]
        time.sleep(measured_s)
        passed = time.perf_counter() - began
        woken = [
            60 * (wake_ups(pid) - at) / passed for pid, at in zip(pids, woken_before, strict=True)
        ]
        used = [100 * (cpu_s(pid) - at) / passed for pid, at in zip(pids, before, strict=True)]
    return [
        result(
            "network_idle",
            "% of a core",
            used[:-1],
            reference="a node without a network",
            reference_values=used[-1:],
            goal=GOAL_PERCENT,
            at_least=False,
        ),
        result(
            "network_idle_wake_ups",
            "wake-ups a minute",
            woken[:-1],
            reference="a node without a network",
            reference_values=woken[-1:],
            goal=GOAL_WAKE_UPS,
            at_least=False,
        ),
    ]


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has taken."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def wake_ups(pid: int) -> float:
    """Return how often a process's event loop has waited for something, and then gone on."""
    return float(psutil.Process(pid).num_ctx_switches().voluntary)
