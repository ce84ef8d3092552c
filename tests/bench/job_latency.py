"""How long a job takes to reach every worker of a busy pool, in ms, against one hash.

Each worker notes when it takes a job, on a clock that all processes share; a run is the slowest
worker's delay. The reference is what one hash takes a worker meanwhile. The median has to meet the
goal; the longest delay is reported beside it, and on a machine with other work to do is the
scheduler's.
"""

from __future__ import annotations

import os
import random
import statistics
from typing import Any, Final

import trio

from unchained.miner.jobs import Job
from unchained.miner.pool import MiningPool

MARGIN_MS: Final = 5.0
"""What a job may take beyond the hash in hand."""


async def measure(mem_kib: int, workers: int, runs: int) -> tuple[list[float], list[float]]:
    """Return each run's delay and time of a hash, in ms."""
    pool = MiningPool(workers=workers)
    delays, hashes_ms = [], []
    rng = random.Random(1)

    def job(number: int) -> Job:
        return Job(number=number, header_prefix=os.urandom(158), target=0, mem_kib=mem_kib)

    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        await pool.wait_ready()
        pool.set_job(job(1))
        await trio.sleep(0.2)
        for number in range(2, runs + 2):
            before, begun = pool.statistics().hashes, trio.current_time()
            # Long enough to count hashes, and at no fixed point of the hash in hand.
            await trio.sleep(0.1 + 0.05 * rng.random())
            done = pool.statistics().hashes - before
            hashes_ms.append(1000 * workers * (trio.current_time() - begun) / max(done, 1))
            pool.set_job(job(number))
            # Workers take a job in processes of their own: nothing notifies when all have.
            while (taken := _all_taken(pool)) is None:  # noqa: ASYNC110
                await trio.sleep(0.001)
            delays.append(max(taken))
        nursery.cancel_scope.cancel()
    return delays, hashes_ms


def _all_taken(pool: MiningPool) -> list[float] | None:
    """Return after how many ms each worker took the job, None while one has not."""
    delays = [worker.job_delay_ms for worker in pool.statistics().workers]
    taken = [delay for delay in delays if delay is not None]
    return taken if len(taken) == len(delays) else None


def run(
    *, workers: int | None = None, mem_kib: int = 16384, runs: int = 40
) -> list[dict[str, Any]]:
    """Measure at the main network's MEM; without `workers`, one for each CPU of this process."""
    count = workers or len(os.sched_getaffinity(0))
    delays, hashes_ms = trio.run(measure, mem_kib, count, runs)
    hash_ms = statistics.median(hashes_ms)
    median = statistics.median(delays)
    return [
        {
            "name": "job_latency",
            "unit": "ms",
            "median": median,
            "min": min(delays),
            "max": max(delays),
            "runs": runs,
            "reference": f"one hash of {mem_kib} KiB, {count} workers",
            "reference_median": hash_ms,
            "ratio": median / hash_ms,
            "goal": hash_ms + MARGIN_MS,
            "met": median <= hash_ms + MARGIN_MS,
        }
    ]
