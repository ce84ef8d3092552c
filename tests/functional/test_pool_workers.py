"""The pool with real worker processes: they mine, follow orders, and leave nothing behind."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import trio

from unchained.miner.errors import WorkerError
from unchained.miner.jobs import Job, Solution
from unchained.miner.pool import MiningPool
from unchained.node.crypto.pow import compute_mix, reference_backend
from unchained.node.primitives.hashing import COIN_HASH

pytestmark = pytest.mark.real_time

EASY = 2**254
"""One hash in four is a coin."""

HOPELESS = 0
"""No hash is a coin."""

PATIENCE_S = 60


def job(number: int, target: int = EASY, mem_kib: int = 8, **fields: int) -> Job:
    prefix = random.Random(number).randbytes(158)
    return Job(number=number, header_prefix=prefix, target=target, mem_kib=mem_kib, **fields)


def assert_is_coin(solution: Solution, of: Job) -> None:
    """Recompute everything with the reference backend."""
    assert solution.job_number == of.number
    assert len(solution.header) == 166
    assert solution.header[:158] == of.header_prefix
    assert solution.mix == compute_mix(reference_backend(), solution.header, of.mem_kib)
    assert solution.coin_id == COIN_HASH(solution.header + solution.mix)
    assert int.from_bytes(solution.coin_id, "big") <= of.target


async def until(condition: Callable[[], bool]) -> None:
    """Return once a condition that other processes bring about holds."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nothing notifies of another process
            await trio.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids(pool: MiningPool) -> list[int]:
    return [worker.pid for worker in pool.statistics().workers if worker.pid is not None]


@asynccontextmanager
async def running(workers: int = 2, **settings: object) -> AsyncIterator[MiningPool]:
    """A pool whose workers are up; afterwards none of its processes exists, not as a zombie."""
    before = {child.pid for child in psutil.Process().children()}
    pool = MiningPool(workers=workers, **settings)  # type: ignore[arg-type]
    with trio.fail_after(2 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            with trio.fail_after(PATIENCE_S):
                await pool.wait_ready()
            yield pool
            nursery.cancel_scope.cancel()
    assert {child.pid for child in psutil.Process().children()} <= before


async def receive(pool: MiningPool, count: int) -> list[Solution]:
    with trio.fail_after(PATIENCE_S):
        return [await pool.solutions.receive() for _ in range(count)]


async def test_every_solution_is_a_coin_and_none_comes_twice() -> None:
    async with running() as pool:
        of = job(1)
        pool.set_job(of)
        solutions = await receive(pool, 60)
        for solution in solutions:
            assert_is_coin(solution, of)
        assert len({solution.coin_id for solution in solutions}) == 60
        await until(lambda: pool.statistics().job_number == 1)


async def test_a_range_is_searched_whole_and_once() -> None:
    of = job(1, nonce_start=1000, nonce_count=501)
    headers = [of.header_prefix + nonce.to_bytes(8, "big") for nonce in range(1000, 1501)]
    mixes = [compute_mix(reference_backend(), header, 8) for header in headers]
    ids = [COIN_HASH(header + mix) for header, mix in zip(headers, mixes, strict=True)]
    expected = {coin_id for coin_id in ids if int.from_bytes(coin_id, "big") <= EASY}
    async with running(workers=3) as pool:
        pool.set_job(of)
        solutions = await receive(pool, len(expected))
        assert {solution.coin_id for solution in solutions} == expected
        await until(lambda: {w.state for w in pool.statistics().workers} == {"idle"})
        assert pool.statistics().hashes == 501
        nonces = [
            {int.from_bytes(s.header[158:], "big") for s in solutions if s.worker == worker}
            for worker in range(3)
        ]
        for worker in range(3):
            assert nonces[worker] <= set(of.share(worker, 3))
        assert pool.solutions.statistics().current_buffer_used == 0


async def test_a_newer_job_supersedes() -> None:
    async with running() as pool:
        pool.set_job(job(1, HOPELESS, mem_kib=1024))
        await until(lambda: {w.state for w in pool.statistics().workers} == {"mining"})
        pool.set_job(job(2))
        for solution in await receive(pool, 8):
            assert_is_coin(solution, job(2))
        taken = [worker.job_number for worker in pool.statistics().workers]
        assert 2 in taken
        await until(lambda: all(w.job_delay_ms is not None for w in pool.statistics().workers))
        pool.set_job(None)
        await until(lambda: {w.state for w in pool.statistics().workers} == {"idle"})


async def test_many_jobs_leave_no_queue() -> None:
    async with running() as pool:
        for number in range(1, 5001):
            pool.set_job(job(number, HOPELESS))
        await until(lambda: {w.job_number for w in pool.statistics().workers} == {5000})
        assert pool.statistics().restarts == 0


async def test_a_bound_of_coins_is_kept() -> None:
    async with running() as pool:
        for number in (1, 2):
            pool.set_job(job(number, max_coins=3))
            solutions = await receive(pool, 6)
            assert sorted(s.worker for s in solutions) == [0, 0, 0, 1, 1, 1]
            assert {s.job_number for s in solutions} == {number}
            await until(lambda: {w.state for w in pool.statistics().workers} == {"idle"})
        assert pool.solutions.statistics().current_buffer_used == 0


async def test_paused_workers_keep_their_place() -> None:
    async with running() as pool:
        pool.set_job(job(1, HOPELESS))
        await until(lambda: all(w.hashes > 0 for w in pool.statistics().workers))
        pool.pause()
        await until(lambda: {w.state for w in pool.statistics().workers} == {"paused"})
        hashes = pool.statistics().hashes
        # A job that comes meanwhile is taken, not mined.
        pool.set_job(job(2, nonce_count=100))
        await until(lambda: {w.job_number for w in pool.statistics().workers} == {2})
        assert pool.statistics().hashes == hashes
        pool.resume()
        await until(lambda: pool.statistics().hashes == hashes + 100)


async def test_workers_come_and_go_while_mining() -> None:
    async with running(workers=1) as pool:
        pool.set_job(job(1, HOPELESS))
        pool.set_workers(3)
        with trio.fail_after(PATIENCE_S):
            await pool.wait_ready()
        await until(lambda: all(w.hashes > 0 for w in pool.statistics().workers))
        three = pids(pool)
        assert len(three) == 3
        pool.set_workers(1)
        await until(lambda: [pid for pid in three if is_running(pid)] == three[:1])
        assert [worker.worker for worker in pool.statistics().workers] == [0]
        pool.set_workers(2)
        await until(lambda: len(pids(pool)) == 2)
        with trio.fail_after(PATIENCE_S):
            await pool.wait_ready()
        assert pool.statistics().restarts == 0


async def test_a_killed_worker_is_replaced_and_counted() -> None:
    reports: list[tuple[int, str, float]] = []

    class Losses:
        def worker_lost(self, index: int, why: WorkerError, restart_in_s: float) -> None:
            reports.append((index, str(why), restart_in_s))

    async with running(losses=Losses()) as pool:
        pool.set_job(job(1, HOPELESS))
        await until(lambda: all(w.hashes > 0 for w in pool.statistics().workers))
        first, second = pids(pool)
        os.kill(second, signal.SIGKILL)
        await until(lambda: len(reports) == 1)
        assert reports == [(1, "the worker ended: killed by SIGKILL", 1.0)]
        await until(lambda: len(pids(pool)) == 2)
        with trio.fail_after(PATIENCE_S):
            await pool.wait_ready()
        worker = pool.statistics().workers[1]
        assert worker.restarts == 1
        assert worker.last_failure == reports[0][1]
        assert worker.pid not in (first, second)
        assert pids(pool)[0] == first
        pool.set_job(job(2))
        while (await receive(pool, 1))[0].worker != 1:
            pass


async def test_a_stopped_worker_is_ended_all_the_same() -> None:
    async with running() as pool:
        os.kill(pids(pool)[0], signal.SIGSTOP)


async def test_workers_end_while_nobody_takes_their_coins() -> None:
    async with running(buffer=1) as pool:
        pool.set_job(job(1))
        # Pipe and channel fill, then the workers block; nothing is lost and memory bounded.
        await until(lambda: pool.solutions.statistics().current_buffer_used == 1)
        last = -1
        while (hashes := pool.statistics().hashes) != last:
            last = hashes
            await trio.sleep(0.05)
        for solution in await receive(pool, 50):
            assert_is_coin(solution, job(1))


async def test_nice_affinity_and_cap_change_while_mining() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    own = os.getpriority(os.PRIO_PROCESS, 0)

    def levels() -> set[int]:
        return {psutil.Process(pid).nice() for pid in pids(pool)}

    async with running(nice=min(own + 3, 19), affinity=cpus[:1]) as pool:
        assert levels() == {min(own + 3, 19)}
        assert [os.sched_getaffinity(pid) for pid in pids(pool)] == [{cpus[0]}] * 2
        pool.set_job(job(1, HOPELESS))
        pool.set_affinity(cpus[-1:])
        assert [os.sched_getaffinity(pid) for pid in pids(pool)] == [{cpus[-1]}] * 2
        pool.set_affinity(None)
        assert [os.sched_getaffinity(pid) for pid in pids(pool)] == [set(cpus)] * 2
        pool.set_nice(own)
        await until(lambda: len(pids(pool)) == 2 and levels() == {own})
        pool.set_cpu_cap(1)
        pool.set_job(job(2, HOPELESS))
        await until(lambda: all(w.hashes > 0 for w in pool.statistics().workers))
        # Also a worker that rests for its cap's sake takes a job.
        pool.set_job(job(3, HOPELESS))
        await until(lambda: {w.job_number for w in pool.statistics().workers} == {3})
        assert pool.statistics().restarts == 0


async def test_a_worker_is_given_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCHAINED_WALLET__PASSPHRASE", "a secret")

    async with running(workers=1) as pool:
        (pid,) = pids(pool)
        process = psutil.Process(pid)
        assert "UNCHAINED_WALLET__PASSPHRASE" not in process.environ()
        assert process.cmdline()[1:4] == ["-P", "-m", "unchained.miner.worker"]
        assert process.cmdline()[5:] == [str(os.getpid()), pool.statistics().backend]


async def test_a_stray_file_in_the_working_directory_is_no_module(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "struct.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)

    async with running(workers=1) as pool:
        assert pool.statistics().restarts == 0


@pytest.mark.parametrize("backend", [None, "cryptography"])
async def test_a_worker_is_small(backend: str | None) -> None:
    async with running(backend=backend) as pool:
        pool.set_job(job(1, HOPELESS, mem_kib=4096))
        await until(lambda: all(w.hashes > 10 for w in pool.statistics().workers))
        for pid in pids(pool):
            assert psutil.Process(pid).memory_info().rss < 40_000_000 + 4096 * 1024
