"""The epoch manager: work for the miner, and what becomes of the miner's coins; in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import structlog
import trio
import trio.testing

from tests.framework.forge import BACKEND, key_lock
from unchained.miner.jobs import Job, Solution
from unchained.miner.search import search
from unchained.node.base.fanout import Lost, Watch
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.service import ChainService
from unchained.node.chain.template import Template
from unchained.node.consensus.params import REG
from unchained.node.crypto.accounts import WatchAccount, derive_account
from unchained.node.mining.epoch_manager import JOBS_REMEMBERED, EpochManager, Payout
from unchained.node.mining.mined_coins import MinedCoins
from unchained.node.mining.payout import AccountPayout, FixedPayout
from unchained.node.primitives.coin import NONCE_OFFSET, Coin, CoinHeader
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.methods.mining import MiningRoom
from unchained.storage.memory import MemoryStore

START_MS = REG.birth_ms + 1_000_000


class SettableClock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = START_MS

    def now_ms(self) -> int:
        return self.now


class HandMiner:
    """Keeps the newest job; solves one when the test says so."""

    def __init__(self) -> None:
        self.send, self.solutions = trio.open_memory_channel[Solution](64)
        self.jobs: list[Job | None] = []
        self.changed = trio.Event()

    def set_job(self, job: Job | None) -> None:
        self.jobs.append(job)
        self.changed.set()
        self.changed = trio.Event()

    @property
    def job(self) -> Job | None:
        return self.jobs[-1] if self.jobs else None

    async def wait_for(self, wanted: Callable[[Job | None], bool]) -> Job | None:
        while not (self.jobs and wanted(self.jobs[-1])):
            await self.changed.wait()
        return self.jobs[-1]

    def solve(self, job: Job, *, anchor: bool, skip: int = 0) -> Coin:
        """Find a coin of a job, of anchor grade or not, and hand it in."""
        limit = REG.grade_target(job.target)
        nonce = 0
        while True:
            found = search(
                BACKEND,
                job.header_prefix,
                job.target,
                job.mem_kib,
                range(nonce, 2**64),
                lambda: False,
            )
            assert found is not None
            nonce = int.from_bytes(found.header[NONCE_OFFSET:], "big") + 1
            if (int.from_bytes(found.coin_id, "big") <= limit) == anchor:
                if skip == 0:
                    break
                skip -= 1
        self.send.send_nowait(Solution(job.number, found.header, found.mix, found.coin_id, 0))
        return Coin.from_bytes(found.header + found.mix)


class Bench:
    """A chain, an epoch manager at work, and a miner in the test's hand."""

    def __init__(self, chain: ChainService, payout: Payout) -> None:
        self.chain = chain
        self.clock = SettableClock()
        self.miner = HandMiner()
        self.may_mine = Watch(True)
        self.mined = MinedCoins(chain)
        self.news = chain.changes.subscribe()
        self.epochs = EpochManager(
            chain,
            self.miner,
            payout,
            clock=self.clock,
            may_mine=self.may_mine,
            mined=self.mined,
            log=quiet(),
        )

    async def until_counted(self, anchor_id: CoinId) -> list[Coin]:
        """Return the coins that became known until an anchor counted: what relay publishes."""
        coins: list[Coin] = []
        async for step in self.news:
            assert not isinstance(step, Lost)
            coins += step.coins
            if any(counted.coin.id == anchor_id for counted in step.counted):
                break
        return coins

    async def new_job(self) -> Job:
        """Return the present job, once there is one."""
        job = await self.miner.wait_for(lambda job: job is not None)
        assert job is not None
        return job

    async def after(self, job: Job) -> Job:
        """Return the first job newer than one."""
        newer = await self.miner.wait_for(lambda now: now is not None and now.number > job.number)
        assert newer is not None
        return newer


def quiet() -> structlog.typing.FilteringBoundLogger:
    return structlog.wrap_logger(
        structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger("critical")
    )


def header_of(job: Job) -> CoinHeader:
    return CoinHeader.from_bytes(job.header_prefix + bytes(8))


@asynccontextmanager
async def working(payout: Payout | None = None) -> AsyncIterator[Bench]:
    clock = SettableClock()
    chain = await ChainService.open(
        MemoryStore(),
        REG,
        clock=clock,
        writer=InlineRunner(),
        verifier=InlineRunner(),
        verifiers=1,
        backend=BACKEND,
        log=quiet(),
    )
    bench = Bench(chain, payout or FixedPayout(key_lock(1)))
    bench.clock = clock
    bench.epochs._clock = clock
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await bench.epochs.run(task_status=task_status)

        await nursery.start(run)
        yield bench
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert bench.miner.job is None, "a miner is left with a job"
        nursery.cancel_scope.cancel()


async def test_a_coin_refreshes_the_template_and_an_anchor_seals_it() -> None:
    async with working() as bench:
        job = await bench.new_job()
        assert header_of(job).height == 1
        coin = bench.miner.solve(job, anchor=False)
        await bench.chain.status.wait_for(lambda status: status.coins == 1)
        newer = await bench.after(await bench.after(job))
        assert header_of(newer).body_root != header_of(job).body_root
        anchor = bench.miner.solve(newer, anchor=True)
        status = await bench.chain.status.wait_for(lambda status: status.height == 1)
        assert status.tip == anchor.id
        await bench.miner.wait_for(lambda job: job is not None and header_of(job).height == 2)
        known = await bench.until_counted(anchor.id)
        assert [known.id for known in known] == [coin.id, anchor.id]
        recent = bench.chain.recent_body(anchor.id)
        assert recent is not None
        assert recent[1].fresh == (coin.id,)
        assert bench.mined.statistics().waiting == 2
        counted = bench.epochs.statistics()
        assert (counted.coins_found, counted.anchors_found, counted.coins_rejected) == (2, 1, 0)


async def test_a_coin_that_comes_while_a_template_is_built_is_in_the_next_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with working() as bench:
        job, build = await bench.new_job(), bench.chain.template
        began = trio.current_time()

        async def overtaken() -> Template:
            template = await build()
            if bench.chain.status.value.coins == 0:
                bench.miner.solve(job, anchor=False)
                await bench.chain.status.wait_for(lambda status: status.coins == 1)
            return template

        monkeypatch.setattr(bench.chain, "template", overtaken)
        bench.may_mine.set(False)
        await bench.miner.wait_for(lambda job: job is None)
        bench.may_mine.set(True)
        await bench.new_job()
        await trio.testing.wait_all_tasks_blocked()
        assert bench.epochs.statistics().listed == 1
        assert trio.current_time() == began


class NoWallets:
    def account(self, name: str) -> WatchAccount | None:
        return None

    def name_of(self, account: WatchAccount) -> str | None:
        return None

    def is_deleted(self, name: str) -> bool:
        return False


async def test_the_next_job_comes_at_once_with_a_time_of_its_own() -> None:
    account = derive_account(bytes(64), REG.chain_id, 0).watch()
    async with working(AccountPayout(account, NoWallets())) as bench:
        job = await bench.new_job()
        locks, times = [header_of(job).lock], [header_of(job).time]
        for _ in range(5):
            bench.miner.solve(job, anchor=False)
            job = await bench.after(job)
            locks.append(header_of(job).lock)
            times.append(header_of(job).time)
        # The clock stands still, yet no two jobs share a time, and so a lock.
        assert times == sorted(set(times))
        assert len(set(locks)) == len(locks)
        parent = header_of(job).parent
        assert locks[-1] == account.mining_lock(parent, times[-1])


async def test_a_job_is_renewed_where_nothing_happens() -> None:
    async with working() as bench:
        times = []
        job = await bench.new_job()
        for _ in range(3):
            times.append(header_of(job).time)
            bench.clock.now += REG.epoch_ms
            job = await bench.after(job)
        assert times[2] - times[1] == times[1] - times[0] == REG.epoch_ms


async def test_work_on_an_older_template_stays_valid() -> None:
    async with working() as bench:
        old = await bench.new_job()
        bench.miner.solve(old, anchor=False)
        await bench.chain.status.wait_for(lambda status: status.coins == 1)
        await bench.after(await bench.after(old))
        anchor = bench.miner.solve(old, anchor=True)
        status = await bench.chain.status.wait_for(lambda status: status.height == 1)
        assert status.tip == anchor.id


async def test_two_workers_may_solve_one_job() -> None:
    async with working() as bench:
        job = await bench.new_job()
        first = bench.miner.solve(job, anchor=False)
        second = bench.miner.solve(job, anchor=False, skip=1)
        assert first.id != second.id
        await bench.chain.status.wait_for(lambda status: status.coins == 2)
        assert bench.epochs.statistics().coins_found == 2


async def test_a_node_that_may_not_mine_has_no_job() -> None:
    async with working() as bench:
        await bench.new_job()
        bench.may_mine.set(False)
        await bench.miner.wait_for(lambda job: job is None)
        assert not bench.epochs.statistics().mining
        bench.may_mine.set(True)
        await bench.new_job()
        assert bench.epochs.statistics().mining


async def test_a_forged_coin_of_a_worker_is_rejected_and_counted() -> None:
    async with working() as bench:
        job = await bench.new_job()
        header = header_of(job).to_bytes()
        number = 0
        while True:
            coin = Coin.from_bytes(header + number.to_bytes(32, "big"))
            if int.from_bytes(coin.id, "big") <= job.target:
                break
            number += 1
        bench.miner.send.send_nowait(Solution(job.number, header, coin.mix, coin.id, 0))
        await bench.after(job)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.epochs.statistics().coins_rejected == 1
        assert bench.chain.status.value.coins == 0
        assert bench.mined.statistics().waiting == 0


async def test_solutions_of_forgotten_jobs_are_passed_over() -> None:
    async with working() as bench:
        job = await bench.new_job()
        solution = Solution(job.number + JOBS_REMEMBERED, bytes(166), bytes(32), bytes(32), 0)
        bench.miner.send.send_nowait(solution)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.epochs.statistics().coins_found == 0


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000])
async def test_a_clock_that_jumps_leaves_times_valid(step_ms: int) -> None:
    async with working() as bench:
        job = await bench.new_job()
        bench.miner.solve(job, anchor=True)
        await bench.chain.status.wait_for(lambda status: status.height == 1)
        bench.clock.now += step_ms
        job = (
            await bench.miner.wait_for(lambda job: job is not None and header_of(job).height == 2)
            or job
        )
        bench.miner.solve(job, anchor=True)
        status = await bench.chain.status.wait_for(lambda status: status.height == 2)
        # A miner's time is max(its clock, parent's + 1).
        assert status.tip_time > START_MS


async def test_an_anchor_found_as_the_clock_steps_back_counts_when_its_time_comes() -> None:
    async with working() as bench:
        job = await bench.new_job()
        bench.clock.now -= REG.future_limit_ms + 5_000
        anchor = bench.miner.solve(job, anchor=True)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.chain.statistics().early == 1
        assert bench.chain.status.value.height == 0
        counted = bench.epochs.statistics()
        assert (counted.coins_found, counted.anchors_found, counted.coins_rejected) == (1, 0, 0)
        bench.clock.now = START_MS
        await bench.chain.status.wait_for(lambda status: status.tip == anchor.id)
        assert bench.mined.statistics().waiting == 1


async def test_own_jobs_and_those_of_a_miner_elsewhere_never_share_a_lock() -> None:
    """Both wake at the same event, of which the clock may show but one time."""
    account = derive_account(bytes(64), REG.chain_id, 0).watch()
    payout = AccountPayout(account, NoWallets())
    async with working(payout) as bench:
        room = MiningRoom(
            bench.chain,
            pool=None,
            payout=payout,
            synced=bench.may_mine,
            backend=BACKEND,
            runner=InlineRunner(),
        )
        job = await bench.new_job()
        headers = [header_of(job)]
        for _ in range(3):
            bench.miner.solve(job, anchor=False)
            job = await bench.after(job)
            template = await room.template()
            headers += [header_of(job), CoinHeader.from_bytes(bytes(template.header))]
        assert len({header.parent for header in headers}) == 1
        assert len({header.time for header in headers}) == len(headers)
        assert len({header.lock for header in headers}) == len(headers)
