"""Mining for nodes elsewhere: which node is asked, and what becomes of coins."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog
import trio
import trio.testing

from unchained.miner.jobs import Job, Solution
from unchained.miner.remote import (
    JOBS_REMEMBERED,
    REFUSALS_MAX,
    RETRY_DELAY_S_MAX,
    RETURN_S,
    SUBMIT_ROUNDS,
    CoinRefusedError,
    CredentialsRefusedError,
    NodeUnavailableError,
    NotAdmittedError,
    RemoteMiner,
    Work,
)
from unchained.node.base.services import root_cause

HEADER = bytes(range(158)) + b"\xff" * 8


class FakePool:
    def __init__(self) -> None:
        self.jobs: list[Job | None] = []
        self.found, self.solutions = trio.open_memory_channel[Solution](16)

    def set_job(self, job: Job | None) -> None:
        self.jobs.append(job)

    async def find(self, job_number: int) -> None:
        await self.found.send(Solution(job_number, HEADER, bytes(32), bytes(32), 0))


class FakeNode:
    """Gives a template at once, and another every 50 s."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.refuses = False
        self.admits = True
        self.asked: list[tuple[float, bytes | None]] = []
        self.coins: list[bytes] = []
        self.tried = 0
        self.work = Work(name.encode(), HEADER, 2**250, 8)

    async def template(self, after: bytes | None) -> Work:
        self.asked.append((trio.current_time(), after))
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise NodeUnavailableError("down")
        if not self.admits:
            raise CredentialsRefusedError("the token is wrong")
        if after is not None:
            await trio.sleep(50)
            if not self.up:
                raise NodeUnavailableError("went down")
        return self.work

    async def submit(self, coin: bytes) -> None:
        self.tried += 1
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise NodeUnavailableError("down")
        if self.refuses:
            raise CoinRefusedError("BAD_TARGET")
        self.coins.append(coin)


@asynccontextmanager
async def mining_for(nodes: Sequence[FakeNode]) -> AsyncIterator[tuple[FakePool, RemoteMiner]]:
    pool = FakePool()
    miner = RemoteMiner(pool, nodes, log=structlog.get_logger())  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(miner.run)
        yield pool, miner
        nursery.cancel_scope.cancel()


async def test_work_is_followed_and_coins_go_where_it_came_from() -> None:
    node = FakeNode("a")

    async with mining_for([node]) as (pool, miner):
        await trio.sleep(120)
        assert [after for _, after in node.asked] == [None, b"a", b"a", b"a"]
        await pool.find(2)
        await trio.sleep(1)
        assert node.coins == [HEADER + bytes(32)]
        # A job that is long forgotten, or never was.
        await pool.find(99)
        await trio.sleep(1)
        found = miner.statistics()
        assert (found.node, found.templates, found.accepted) == ("a", 3, 1)
    jobs = [job for job in pool.jobs if job is not None]
    assert [job.number for job in jobs] == [1, 2, 3]
    assert jobs[0].header_prefix == HEADER[:158]
    assert (jobs[0].target, jobs[0].mem_kib) == (2**250, 8)
    assert jobs[0].nonce_start + jobs[0].nonce_count <= 2**64
    # Nothing is left to do when it ends.
    assert pool.jobs[-1] is None


async def test_another_node_takes_over_until_the_first_is_back() -> None:
    first, second = FakeNode("a"), FakeNode("b")
    first.up = False

    async with mining_for([first, second]) as (pool, miner):
        await trio.sleep(1)
        assert miner.statistics().node == "b"
        assert miner.statistics().moves == 1
        await pool.find(1)
        await trio.sleep(1)
        assert len(second.coins) == 1
        first.up = True
        await trio.sleep(RETURN_S + 60)
        assert miner.statistics().node == "a"


async def test_while_no_node_answers_nothing_is_mined_and_they_are_asked_ever_less() -> None:
    nodes = [FakeNode("a"), FakeNode("b")]
    for node in nodes:
        node.up = False

    async with mining_for(nodes) as (pool, miner):
        await trio.sleep(200)
        assert miner.statistics().node is None
        times = [at for at, _ in nodes[0].asked]
        pauses = [round(b - a) for a, b in itertools.pairwise(times)]
        assert pauses[:5] == [1, 2, 4, 8, 16]
        assert set(pauses[5:]) == {round(RETRY_DELAY_S_MAX)}
        assert set(pool.jobs) == {None}
        nodes[1].up = True
        await trio.sleep(RETRY_DELAY_S_MAX + 1)
        assert miner.statistics().node == "b"


async def test_a_coin_goes_elsewhere_when_its_node_is_gone_and_is_lost_at_last() -> None:
    first, second = FakeNode("a"), FakeNode("b")

    async with mining_for([first, second]) as (pool, miner):
        await trio.sleep(1)
        first.up = False
        await pool.find(1)
        await trio.sleep(1)
        assert len(second.coins) == 1
        second.up = False
        await pool.find(1)
        await trio.sleep(60)
        assert miner.statistics().lost == 1
        assert first.tried == 1 + SUBMIT_ROUNDS
        second.up = second.refuses = True
        await pool.find(1)
        await trio.sleep(1)
        assert miner.statistics().refused == 1


async def test_only_the_newest_jobs_are_remembered() -> None:
    node = FakeNode("a")

    async with mining_for([node]) as (pool, _miner):
        await trio.sleep(50 * (JOBS_REMEMBERED + 5))
        await pool.find(1)
        await trio.sleep(1)
        assert node.coins == []


async def test_a_miner_that_no_node_admits_ends_with_a_line() -> None:
    nodes = [FakeNode("a"), FakeNode("b")]
    for node in nodes:
        node.admits = False
    with pytest.raises(BaseExceptionGroup) as caught:
        async with mining_for(nodes):
            await trio.sleep_forever()
    refused = caught.value.split(NotAdmittedError)[0]
    assert refused is not None
    assert str(root_cause(refused)) == "a, b: the token is wrong"
    assert [len(node.asked) for node in nodes] == [REFUSALS_MAX, REFUSALS_MAX]


async def test_a_node_that_is_down_may_admit_the_miner_yet() -> None:
    refusing, down = FakeNode("a"), FakeNode("b")
    refusing.admits, down.up = False, False
    async with mining_for([refusing, down]) as (pool, _):
        await trio.sleep(10 * RETRY_DELAY_S_MAX)
        down.up = True
        await trio.sleep(2 * RETRY_DELAY_S_MAX)
        assert pool.jobs[-1] is not None


@pytest.mark.parametrize(
    "bad",
    [
        Work(b"a", HEADER[:10], 2**250, 8),
        Work(b"a", HEADER + b"x", 2**250, 8),
        Work(b"a", HEADER, -1, 8),
        Work(b"a", HEADER, 2**250, 2**40),
    ],
    ids=["short", "long", "target", "memory"],
)
async def test_a_node_that_gives_no_job_is_one_that_cannot_be_asked(bad: Work) -> None:
    lying, sound = FakeNode("lying"), FakeNode("sound")
    lying.work = bad
    async with mining_for([lying, sound]) as (pool, miner):
        await trio.sleep(1)
        assert miner.statistics().node == "sound"
        assert [job.number for job in pool.jobs if job is not None] == [1]


class Restarted(FakeNode):
    """Has other credentials for a moment, again and again."""

    async def template(self, after: bytes | None) -> Work:
        self.admits = len(self.asked) % 3 != 1
        return await super().template(after)


async def test_a_refusal_now_and_then_is_the_restart_of_a_node() -> None:
    async with mining_for([Restarted("a")]) as (pool, _):
        await trio.sleep(20 * RETRY_DELAY_S_MAX)
        assert pool.jobs[-1] is not None
