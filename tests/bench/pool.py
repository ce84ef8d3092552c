"""Hashes per second of the mining pool against bare hash loops in as many bare processes.

A bare loop computes what a hash of a job is (Protocol §3.2: mix and id, compared with the
target) and does nothing else: no orders, no counters, no pipe. Pool and loops run in turn, in
slices short enough that whatever else the machine does hits both alike; the ratio is the median of
the ratios of the pairs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from contextlib import closing
from typing import Any, Final

import trio

from unchained.miner.jobs import Job
from unchained.miner.pool import MiningPool
from unchained.node.crypto.pow import POW_BACKEND_VARIABLE, compute_mix, default_backend
from unchained.node.primitives.hashing import COIN_HASH

GOAL: Final = 0.99

SIZES_KIB: Final = {"pool": 1024, "pool_16mib": 16384}
"""MEM by name: the least that the goal is for, and that of the main network."""


def bare_loop(backend_name: str, mem_kib: int) -> None:
    """Hash for as many seconds as each line of standard input says, and print the count."""
    backend = default_backend({POW_BACKEND_VARIABLE: backend_name})
    prefix, limit, nonce = os.urandom(158), bytes(32), 0
    compute_mix(backend, prefix + bytes(8), mem_kib)
    for line in sys.stdin:
        begun, first = time.perf_counter(), nonce
        end = begun + float(line)
        while time.perf_counter() < end:
            header = prefix + nonce.to_bytes(8, "big")
            mix = compute_mix(backend, header, mem_kib)
            if COIN_HASH(header + mix) <= limit:
                raise AssertionError("an id of zeros")
            nonce += 1
        print((nonce - first) / (time.perf_counter() - begun), flush=True)


class BareLoops:
    """Bare loops in processes of their own, idle but while they are measured."""

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
        """Return the hashes per second of all of them together."""
        for process in self._processes:
            print(seconds, file=process.stdin, flush=True)
        total = 0.0
        for process in self._processes:
            assert process.stdout is not None
            total += float(process.stdout.readline())
        return total

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.communicate()


async def pool_rate(pool: MiningPool, seconds: float) -> float:
    """Return the hashes per second of a paused pool that is let go meanwhile."""
    pool.resume()
    # Counted from the midst of a hash to the midst of another, so that parts make up for parts.
    await trio.sleep(0.05)
    before, begun = pool.statistics().hashes, time.perf_counter()
    await trio.sleep(seconds)
    rate = (pool.statistics().hashes - before) / (time.perf_counter() - begun)
    pool.pause()
    while {worker.state for worker in pool.statistics().workers} != {"paused"}:  # noqa: ASYNC110
        await trio.sleep(0.001)
    return rate


async def compare(
    bare: BareLoops, backend: str, mem_kib: int, workers: int, seconds: float, runs: int
) -> tuple[list[float], list[float]]:
    """Return the rates of the pool and of the bare loops, in pairs, in hashes per second."""
    pool = MiningPool(workers=workers, backend=backend)
    rates, bare_rates = [], []
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        await pool.wait_ready()
        pool.pause()
        pool.set_job(Job(number=1, header_prefix=os.urandom(158), target=0, mem_kib=mem_kib))
        await pool_rate(pool, 0.2)
        bare.rate(0.2)
        for _ in range(runs):
            rates.append(await pool_rate(pool, seconds))
            bare_rates.append(bare.rate(seconds))
        nursery.cancel_scope.cancel()
    return rates, bare_rates


def run(
    *, workers: int | None = None, seconds: float = 0.25, runs: int = 31, backend: str | None = None
) -> list[dict[str, Any]]:
    """Compare at each size of SIZES_KIB; without `workers`, one for each CPU of this process."""
    chosen = backend or default_backend().name
    count = workers or len(os.sched_getaffinity(0))
    results = []
    for name, mem_kib in SIZES_KIB.items():
        with closing(BareLoops(chosen, mem_kib, count)) as loops:
            rates, bare = trio.run(compare, loops, chosen, mem_kib, count, seconds, runs)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates, bare, strict=True))
        results.append(
            {
                "name": name,
                "unit": "hashes/s",
                "median": statistics.median(rates),
                "min": min(rates),
                "max": max(rates),
                "runs": runs,
                "reference": f"{count} bare loops, {chosen}, {mem_kib} KiB",
                "reference_median": statistics.median(bare),
                "ratio": ratio,
                "goal": GOAL,
                "met": ratio >= GOAL,
            }
        )
    return results


if __name__ == "__main__":
    bare_loop(sys.argv[1], int(sys.argv[2]))
