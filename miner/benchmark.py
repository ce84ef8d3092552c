"""How fast this machine mines: worker processes of each backend, measured in turn.

The backends' pools are up at the same time and take turns in short slices, so that whatever else
the machine does hits both alike; a rate is the median of the slices, the ratio that of the
rounds' ratios.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from unchained.miner.jobs import Job
from unchained.miner.machine import SPARE_KIB, WORKER_KIB, cpu_name, huge_kib
from unchained.miner.pool import MiningPool
from unchained.node.base.randomness import SYSTEM
from unchained.node.crypto.pow import available_backends, default_backend, reference_backend
from unchained.node.primitives.coin import NONCE_OFFSET

SLICE_S: Final = 0.4
"""Seconds of one slice, at least; a slice has `SLICE_HASHES` hashes of each worker."""

SLICE_HASHES: Final = 8

WORTH_IT: Final = 0.98
"""The fewest workers that reach this share of the highest rate are advised."""

START_S: Final = 30.0
"""Seconds that a worker may take to start, or to do its first hash."""

POLL_S: Final = 0.002


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """One number of workers. Rates in hashes per second of all together; `ratio` to the reference
    backend in the same run; `huge_pages`: whether the memory of every worker lay in them."""

    workers: int
    mem_kib: int
    rate: float
    reference_rate: float
    ratio: float
    huge_pages: bool

    @property
    def bandwidth(self) -> float:
        """Bytes per second between processor and memory, estimated: each KiB of a hash is written
        once and another one read."""
        return self.rate * self.mem_kib * 2 * 1024


class Report(msgspec.Struct, frozen=True):
    """What was measured, with which processor and which backend."""

    cpu: str
    backend: str
    results: tuple[Measurement, ...]


class MeasurementFailedError(Exception):
    """A worker did not start or died while it was measured."""


def advised_workers(results: Sequence[Measurement]) -> int:
    """Return the fewest workers with which nearly nothing of the best rate is lost."""
    best = max(result.rate for result in results)
    return min(result.workers for result in results if result.rate >= WORTH_IT * best)


def affordable(workers: int, mem_kib: int, free_kib: int) -> bool:
    """Return whether there is memory for the two pools of a measurement."""
    return 2 * workers * (mem_kib + WORKER_KIB) + SPARE_KIB <= free_kib


async def run_benchmark(
    counts: Sequence[int],
    mem_kib: int,
    seconds: float,
    *,
    note: Callable[[Measurement], None] = lambda _measurement: None,
) -> Report:
    """Measure each number of workers for its share of `seconds`; `note` hears of each at once.

    Raises MeasurementFailedError, SettingError. Cancelled, it leaves no process behind.
    """
    backend = default_backend().name
    results = []
    for workers in counts:
        found = await _measure(backend, workers, mem_kib, seconds / len(counts))
        note(found)
        results.append(found)
    return Report(cpu_name(), backend, tuple(results))


async def quick_rate(workers: int, mem_kib: int, seconds: float) -> float:
    """Return the hashes per second of so many workers of the fastest backend."""
    async with _mining(default_backend().name, workers, mem_kib) as pool:
        await _slice_rate(pool, POLL_S)
        return await _slice_rate(pool, seconds)


async def _measure(backend: str, workers: int, mem_kib: int, seconds: float) -> Measurement:
    names = [backend]
    reference = reference_backend().name
    if backend != reference and reference in available_backends():
        names.append(reference)
    async with _all_mining(names, workers, mem_kib) as pools:
        # The first slice of each brings memory and clock into the state that lasts.
        first = [await _slice_rate(pool, POLL_S) for pool in pools]
        slices = [max(SLICE_S, SLICE_HASHES * workers / rate) for rate in first]
        rounds = max(1, round(seconds / sum(slices)))
        rates: list[list[float]] = [[] for _ in pools]
        for _ in range(rounds):
            for pool, length, found in zip(pools, slices, rates, strict=True):
                found.append(await _slice_rate(pool, length))
        huge = [
            (huge_kib(worker.pid) or 0) >= mem_kib if worker.pid is not None else False
            for worker in pools[0].statistics().workers
        ]
    ratios = [own / other for own, other in zip(rates[0], rates[-1], strict=True)]
    return Measurement(
        workers,
        mem_kib,
        statistics.median(rates[0]),
        statistics.median(rates[-1]),
        statistics.median(ratios),
        all(huge),
    )


@asynccontextmanager
async def _all_mining(
    names: Sequence[str], workers: int, mem_kib: int
) -> AsyncIterator[Sequence[MiningPool]]:
    """Give a paused pool for each backend."""
    async with _mining(names[0], workers, mem_kib) as first:
        if len(names) == 1:
            yield [first]
            return
        async with _mining(names[1], workers, mem_kib) as second:
            yield [first, second]


@asynccontextmanager
async def _mining(backend: str, workers: int, mem_kib: int) -> AsyncIterator[MiningPool]:
    """Give a pool that is paused over a job without an end."""
    pool = MiningPool(workers=workers, backend=backend)
    prefix = SYSTEM.token_bytes(NONCE_OFFSET)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        pool.pause()
        pool.set_job(Job(number=1, header_prefix=prefix, target=0, mem_kib=mem_kib))
        with trio.move_on_after(START_S) as waiting:
            await pool.wait_ready()
        if waiting.cancelled_caught:
            raise MeasurementFailedError(f"a worker did not start within {START_S:g} s")
        yield pool
        nursery.cancel_scope.cancel()


async def _slice_rate(pool: MiningPool, seconds: float) -> float:
    """Let a paused pool hash for so long; return its hashes per second."""
    before = {worker.worker: worker.hashes for worker in pool.statistics().workers}
    began = trio.current_time()
    pool.resume()
    try:
        await _until(
            pool,
            lambda: all(w.hashes > before[w.worker] for w in pool.statistics().workers),
            "finished no hash",
        )
        # Half a hash on, a count of whole hashes is as often too high as too low.
        await trio.sleep((trio.current_time() - began) / 2)
        start, hashes = trio.current_time(), pool.statistics().hashes
        await trio.sleep(seconds)
        await _until(pool, lambda: pool.statistics().hashes > hashes, "finished no hash")
        rate = (pool.statistics().hashes - hashes) / (trio.current_time() - start)
    finally:
        pool.pause()
    await _until(
        pool,
        lambda: all(worker.state == "paused" for worker in pool.statistics().workers),
        "did not pause",
    )
    return rate


async def _until(pool: MiningPool, condition: Callable[[], bool], what: str) -> None:
    """Return once a condition that the workers bring about holds. Raises MeasurementFailedError."""
    with trio.move_on_after(START_S) as waiting:
        # Workers report in shared memory, which wakes nobody.
        while not condition():
            lost = [w.last_failure for w in pool.statistics().workers if w.restarts]
            if lost:
                raise MeasurementFailedError(str(lost[0]))
            await trio.sleep(POLL_S)
    if waiting.cancelled_caught:
        raise MeasurementFailedError(f"a worker {what} within {START_S:g} s")
