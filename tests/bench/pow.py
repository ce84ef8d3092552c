"""Hashes per second of the native kernel against the reference backend in the same run.

Each worker is a process of its own. Backends take turns in short slices, so that whatever else the
machine does hits all alike; a ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from typing import Any, Final

from unchained.node.crypto.pow import (
    POW_BACKEND_VARIABLE,
    available_backends,
    default_backend,
    reference_backend,
)

SIZES_KIB: Final = (1024, 16384, 65536)
"""MEM: of the local network, of the main network, and far above any last-level cache."""

WORKERS_OF_GOALS: Final = 2

GOALS: Final = {
    (16384, "avx512"): 2.75,
    (16384, "avx2"): 1.9,
    (65536, "avx512"): 4.66,
}
"""Ratio to the reference with two workers, by MEM and variant: 1.05 of what the fastest miner in C
reached on two Zen 4 cores."""

SLICE_S: Final = 0.4


def hash_slices(name: str, mem_kib: int) -> None:
    """Hash for as many seconds as each line of standard input says, and print the rate."""
    backend = default_backend({POW_BACKEND_VARIABLE: name})
    password, salt, count = bytearray(os.urandom(166)), os.urandom(16), 0
    for line in sys.stdin:
        begun, first = time.perf_counter(), count
        end = begun + float(line)
        while time.perf_counter() < end:
            password[-8:] = count.to_bytes(8, "big")
            backend.argon2id(bytes(password), salt, iterations=1, mem_kib=mem_kib, length=32)
            count += 1
        print((count - first) / (time.perf_counter() - begun), flush=True)


class Workers:
    """Processes that hash with one backend, idle but while they are measured."""

    def __init__(self, backend: str, mem_kib: int, count: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, backend, str(mem_kib)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]

    def rate(self, seconds: float) -> float:
        """Let all hash for `seconds`; return their hashes per second together."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        total = 0.0
        for process in self._processes:
            assert process.stdout is not None
            total += float(process.stdout.readline())
        return total

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.communicate()


def measure(backends: list[str], mem_kib: int, workers: int, rounds: int) -> dict[str, list[float]]:
    """Return each backend's rates, one a round."""
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(closing(Workers(name, mem_kib, workers))) for name in backends
        }
        for pool in running.values():
            pool.rate(SLICE_S / 4)
        rates: dict[str, list[float]] = {name: [] for name in backends}
        for _ in range(rounds):
            for name, pool in running.items():
                rates[name].append(pool.rate(SLICE_S))
    return rates


def run(seconds: float = 45.0) -> list[dict[str, Any]]:
    """Measure the fastest variant and AVX2 at each size, for one worker and for each CPU."""
    reference = reference_backend().name
    native = [
        name
        for name in available_backends()
        if name in {available_backends()[0], "native-avx2"} - {reference}
    ]
    counts = sorted({1, len(os.sched_getaffinity(0))})
    backends = [*native, reference]
    slices = seconds / SLICE_S / len(SIZES_KIB) / len(counts)
    rounds = max(3, round(slices / len(backends)))
    results = []
    for mem_kib in SIZES_KIB:
        for workers in counts:
            rates = measure(backends, mem_kib, workers, rounds)
            for name in native:
                variant = name.removeprefix("native-")
                ratios = [a / b for a, b in zip(rates[name], rates[reference], strict=True)]
                ratio = statistics.median(ratios)
                goal = GOALS.get((mem_kib, variant)) if workers == WORKERS_OF_GOALS else None
                results.append(
                    {
                        "name": f"pow_{variant}_{mem_kib // 1024}mib_{workers}w",
                        "unit": "H/s",
                        "median": statistics.median(rates[name]),
                        "min": min(rates[name]),
                        "max": max(rates[name]),
                        "runs": rounds,
                        "reference": f"{reference}, {workers} workers",
                        "reference_median": statistics.median(rates[reference]),
                        "ratio": ratio,
                        "goal": goal,
                        "met": None if goal is None else ratio >= goal,
                    }
                )
    return results


if __name__ == "__main__":
    hash_slices(sys.argv[1], int(sys.argv[2]))
