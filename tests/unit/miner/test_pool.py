"""The pool over workers that only play: back-off in virtual time, settings, disbelief."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from unchained.miner import page as shared
from unchained.miner import pool as pool_module
from unchained.miner.errors import (
    BadAffinityError,
    BadCpuCapError,
    BadFrameError,
    BadNiceError,
    BadWorkerCountError,
    JobNotNewerError,
    WorkerDiedError,
    WorkerError,
    WorkerNotStartedError,
    WrongIdError,
)
from unchained.miner.frames import COIN_FOUND, READY, Frame
from unchained.miner.jobs import MAX_WORKERS, Job
from unchained.miner.page import Orders, Page
from unchained.miner.pool import REMEMBERED_JOBS, MiningPool
from unchained.miner.process import WorkerHandle, signal_name
from unchained.miner.search import SearchResult, search
from unchained.miner.settings import apply_nice
from unchained.node.crypto.pow import reference_backend

HELLO = Frame(READY, 1, bytes(166), bytes(32), bytes(32)).to_bytes()


def job(number: int, **fields: int) -> Job:
    prefix = number.to_bytes(158, "big")
    return Job(number=number, header_prefix=prefix, target=2**254, mem_kib=8, **fields)


def find(of: Job, share: range) -> SearchResult:
    found = search(reference_backend(), of.header_prefix, of.target, 8, share, lambda: False)
    assert found is not None
    return found


class Player:
    """A worker that does what the test says. Its pid is one that no process has."""

    pid = 2**22 + 1

    def __init__(self, page_fd: int) -> None:
        self.page = Page(page_fd)
        self.send, self._frames = trio.open_memory_channel[bytes](8)
        self.woken = 0
        self.ended = False

    @property
    def orders(self) -> Orders:
        reading = self.page.read()
        assert reading is not None
        return reading[1]

    def hash_some(self, number: int, hashes: int) -> None:
        """Count hashes, as a worker that has taken the job does."""
        words = self.page.words
        words[shared.TAKEN_NONCE] = self.orders.nonce_first
        words[shared.TAKEN_HASHES] = words[shared.HASHES]
        words[shared.TAKEN_JOB] = number
        words[shared.HASHES] += hashes

    async def receive(self) -> bytes:
        try:
            return await self._frames.receive()
        except trio.EndOfChannel:
            return b""

    async def drain_errors(self) -> None:
        await trio.lowlevel.checkpoint()

    def wake(self) -> None:
        self.woken += 1

    def terminate(self) -> None:
        self.send.close()

    async def end(self) -> None:
        self.ended = True

    def describe_end(self) -> str:
        return "as asked"

    def close(self) -> None:
        self.page.close()
        self.send.close()
        self._frames.close()


class Stage:
    """Starts players, and keeps when each was started and what the pool reported."""

    def __init__(self) -> None:
        self.players: list[Player] = []
        self.starts: list[float] = []
        self.reports: list[tuple[int, WorkerError, float]] = []
        self.refusal: OSError | None = None
        self.on_start: Callable[[Player], None] = lambda player: None

    def spawn(self, page_fd: int, backend: str) -> WorkerHandle:
        assert backend == "cryptography"
        self.starts.append(trio.current_time())
        if self.refusal is not None:
            raise self.refusal
        player = Player(page_fd)
        self.players.append(player)
        self.on_start(player)
        return player

    def worker_lost(self, index: int, why: WorkerError, restart_in_s: float) -> None:
        self.reports.append((index, why, restart_in_s))

    @asynccontextmanager
    async def running(self, workers: int = 1) -> AsyncIterator[MiningPool]:
        pool = MiningPool(workers=workers, backend="cryptography", losses=self, spawn=self.spawn)
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            await nursery.start(pool.run)
            await trio.testing.wait_all_tasks_blocked()
            stack.callback(nursery.cancel_scope.cancel)
            yield pool


@asynccontextmanager
async def played() -> AsyncIterator[Stage]:
    """Give a stage that all players have left at the end."""
    stage = Stage()
    yield stage
    assert all(player.ended for player in stage.players)


async def test_a_worker_that_keeps_crashing_is_restarted_ever_more_slowly() -> None:
    async with played() as stage:
        stage.on_start = lambda player: player.send.close()
        async with stage.running() as pool:
            await trio.sleep(250)
            (worker,) = pool.statistics().workers
            assert worker.state == "backing-off"
            assert worker.pid is None
            assert worker.restarts == pool.statistics().restarts == len(stage.starts)
            assert worker.last_failure == "the worker ended: as asked"
    gaps = [later - start for start, later in itertools.pairwise(stage.starts)]
    assert gaps == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
    assert [delay for _, _, delay in stage.reports] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert all(isinstance(failure, WorkerDiedError) for _, failure, _ in stage.reports)


async def test_a_worker_that_held_for_a_minute_is_restarted_quickly_again() -> None:
    async with played() as stage:
        stage.on_start = lambda player: player.send.close()
        async with stage.running():
            await trio.sleep(5)
            stage.on_start = lambda player: None
            await trio.sleep(70)
            stage.players[-1].send.close()
            await trio.testing.wait_all_tasks_blocked()
            assert stage.reports[-1][2] == 1


async def test_a_system_that_starts_no_process_is_asked_again() -> None:
    async with played() as stage:
        stage.refusal = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        async with stage.running():
            stage.refusal = None
            await trio.sleep(2)
            assert len(stage.starts) == 2
    assert isinstance(stage.reports[0][1], WorkerNotStartedError)
    assert "Resource temporarily unavailable" in str(stage.reports[0][1])


async def test_an_honest_coin_is_passed_on_also_of_a_superseded_job() -> None:
    async with played() as stage, stage.running() as pool:
        first, second = job(1), job(2)
        pool.set_job(first)
        pool.set_job(second)
        (player,) = stage.players
        assert (player.orders.job_number, player.orders.header_prefix) == (
            2,
            second.header_prefix,
        )
        assert player.woken == 2
        for of in (first, second):
            found = find(of, range(1000))
            await player.send.send(Frame(COIN_FOUND, of.number, *found).to_bytes())
            solution = await pool.solutions.receive()
            assert (solution.job_number, solution.header) == (of.number, found.header)
        assert pool.statistics().solutions == 2
        assert pool.statistics().restarts == 0


async def test_what_a_sound_worker_does_not_send_is_a_crash() -> None:
    async with played() as stage, stage.running() as pool:
        pool.set_job(job(1))
        forged = Frame(COIN_FOUND, 1, *find(job(1), range(1000)))._replace(mix=bytes(32))
        never_set = forged._replace(job_number=9)
        for raw in (forged.to_bytes(), never_set.to_bytes(), b"cut short"):
            player = stage.players[-1]
            await player.send.send(raw)
            await trio.sleep(10)
            assert player.ended
        assert pool.statistics().restarts == 3
        assert pool.statistics().solutions == 0
    assert [type(failure) for _, failure, _ in stage.reports] == [
        WrongIdError,
        BadFrameError,
        BadFrameError,
    ]


async def test_a_coin_of_a_job_long_gone_is_dropped_and_counted() -> None:
    async with played() as stage, stage.running() as pool:
        for number in range(1, REMEMBERED_JOBS + 2):
            pool.set_job(job(number))
        found = find(job(1), range(1000))
        await stage.players[0].send.send(Frame(COIN_FOUND, 1, *found).to_bytes())
        await trio.testing.wait_all_tasks_blocked()
        assert pool.statistics().stale == 1
        assert pool.statistics().restarts == 0


async def test_a_replacement_goes_on_behind_what_was_hashed() -> None:
    async with played() as stage, stage.running(workers=2) as pool:
        pool.set_job(job(1, nonce_start=100, nonce_count=1000))
        second = max(stage.players, key=lambda player: player.orders.nonce_first)
        assert (second.orders.nonce_first, second.orders.nonce_count) == (600, 500)
        for done, left in ((200, 300), (300, 0)):
            second.hash_some(1, done)
            second.send.close()
            await trio.sleep(5)
            second = stage.players[-1]
            assert (second.orders.nonce_first, second.orders.nonce_count) == (1100 - left, left)
        assert pool.statistics().hashes == 500
        pool.set_job(job(2, nonce_count=10))
        assert second.orders.nonce_count == 5


async def test_jobs_pauses_and_caps_reach_the_page() -> None:
    async with played() as stage, stage.running() as pool:
        (player,) = stage.players
        assert player.orders == shared.NO_JOB
        pool.set_job(job(3, max_coins=2))
        pool.pause()
        pool.set_cpu_cap(40)
        orders = player.orders
        assert (orders.job_number, orders.max_coins) == (3, 2)
        assert (orders.paused, orders.cpu_cap) == (1, 40)
        statistics = pool.statistics()
        assert (statistics.job_number, statistics.paused, statistics.cpu_cap) == (3, True, 40)
        pool.resume()
        pool.set_job(None)
        assert player.orders == shared.NO_JOB._replace(cpu_cap=40)
        assert pool.statistics().job_number == 0


async def test_what_was_set_before_the_start_holds_after_it() -> None:
    async with played() as stage:
        pool = MiningPool(workers=1, backend="cryptography", spawn=stage.spawn)
        pool.set_workers(2)
        pool.set_job(job(1))
        pool.pause()
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await trio.testing.wait_all_tasks_blocked()
            assert [player.orders.paused for player in stage.players] == [1, 1]
            assert {player.orders.job_number for player in stage.players} == {1}
            with pytest.raises(RuntimeError, match="runs already"):
                await pool.run()
            nursery.cancel_scope.cancel()
        assert pool.statistics().workers == ()
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await trio.testing.wait_all_tasks_blocked()
            assert len(pool.statistics().workers) == 2
            assert len(stage.players) == 4
            nursery.cancel_scope.cancel()


async def test_workers_come_and_go() -> None:
    async with played() as stage, stage.running(workers=2) as pool:
        pool.set_job(job(1))
        stage.players[0].page.words[shared.HASHES] = 1
        stage.players[1].page.words[shared.HASHES] = 1
        pool.set_workers(1)
        await trio.testing.wait_all_tasks_blocked()
        assert sum(player.ended for player in stage.players) == 1
        assert len(pool.statistics().workers) == 1
        assert pool.statistics().hashes == 2
        pool.set_workers(4)
        pool.set_workers(3)
        await trio.testing.wait_all_tasks_blocked()
        assert [worker.worker for worker in pool.statistics().workers] == [0, 1, 2]
        alive = [player for player in stage.players if not player.ended]
        assert len(alive) == 3
        assert len({player.orders.nonce_first for player in alive}) == 3
        assert pool.statistics().restarts == 0


async def test_waiting_for_readiness_ends_with_the_last_hello_or_without_the_worker() -> None:
    async with played() as stage, stage.running(workers=2) as pool:
        with trio.move_on_after(1) as scope:
            await pool.wait_ready()
        assert scope.cancelled_caught
        for player in stage.players:
            await player.send.send(HELLO)
        await pool.wait_ready()
        pool.set_workers(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.wait_ready)
            await trio.testing.wait_all_tasks_blocked()
            pool.set_workers(2)


async def test_rates_are_taken_over_ten_seconds() -> None:
    async with played() as stage, stage.running() as pool:
        words = stage.players[0].page.words
        for _ in range(30):
            words[shared.HASHES] += 100
            await trio.sleep(1)
        assert pool.statistics().rate == pytest.approx(100, rel=0.11)
        await trio.sleep(20)
        assert pool.statistics().workers[0].rate == 0


async def test_an_unknown_state_is_reported_as_such() -> None:
    async with played() as stage, stage.running() as pool:
        stage.players[0].page.words[shared.ACTIVITY] = 99
        assert pool.statistics().workers[0].state == "unknown"


async def test_where_nice_cannot_be_lowered_the_workers_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def refuse(pid: int, nice: int) -> bool:
        asked.append(nice)
        return False

    async with played() as stage:
        monkeypatch.setattr(pool_module, "apply_nice", refuse)
        async with stage.running() as pool:
            pool.set_nice(19)
            await trio.testing.wait_all_tasks_blocked()
            assert len(stage.players) == 2
            assert asked[-2:] == [19, 19]
            assert pool.statistics().restarts == 0


def test_job_numbers_rise() -> None:
    pool = MiningPool(workers=1)
    pool.set_job(job(2))
    pool.set_job(None)
    for number in (1, 2):
        with pytest.raises(JobNotNewerError, match=f"above 2, that of the last one, got {number}"):
            pool.set_job(job(number))
    pool.set_job(job(3))


def test_settings_out_of_bounds_are_named() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    pool = MiningPool(workers=1)
    for workers in (0, -1, MAX_WORKERS + 1):
        with pytest.raises(BadWorkerCountError, match=f"1 to {MAX_WORKERS}, got {workers}"):
            pool.set_workers(workers)
    for nice in (own - 1, 20):
        with pytest.raises(BadNiceError, match=f"to 19, got {nice}"):
            pool.set_nice(nice)
    for cap in (0, 101):
        with pytest.raises(BadCpuCapError, match=f"1 to 100 percent, got {cap}"):
            pool.set_cpu_cap(cap)
    for affinity in ((), (99999,)):
        with pytest.raises(BadAffinityError, match="must name CPUs among"):
            pool.set_affinity(affinity)
    with pytest.raises(BadWorkerCountError):
        MiningPool(workers=0)
    with pytest.raises(ValueError, match="abacus"):
        MiningPool(workers=1, backend="abacus")


def test_a_system_that_cannot_pin_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with pytest.raises(BadAffinityError, match="cannot pin"):
        MiningPool(workers=1, affinity=(0,))


def test_signals_have_names() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(63) == "signal 63"


def test_a_worker_never_has_a_higher_priority_than_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "getpriority", lambda _which, _who: 11)
    monkeypatch.setattr(os, "setpriority", lambda _which, _who, level: asked.append(level))
    assert apply_nice(1, 10)
    assert apply_nice(1, 15)
    assert asked == [11, 15]
