"""However a pool's process dies, its workers die with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psutil
import pytest
import trio

from unchained.miner.page import ACTIVITY, MINING, Orders, Page, make_page_file
from unchained.miner.process import WorkerProcess

pytestmark = pytest.mark.real_time

DRIVER: Final = """
import sys
import trio
from unchained.miner.jobs import Job
from unchained.miner.pool import MiningPool

async def main():
    pool = MiningPool(workers=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        await pool.wait_ready()
        state = sys.argv[1]
        if state != "idle":
            target = 2**256 - 1 if state == "blocked" else 0
            pool.set_job(Job(number=1, header_prefix=bytes(158), target=target, mem_kib=8))
        if state == "paused":
            pool.pause()
        wanted = {"blocked": "mining"}.get(state, state)
        while {worker.state for worker in pool.statistics().workers} != {wanted}:
            await trio.sleep(0.005)
        while state == "blocked" and pool.solutions.statistics().current_buffer_used < 256:
            await trio.sleep(0.005)
        print(*(worker.pid for worker in pool.statistics().workers), flush=True)
        await trio.sleep_forever()

try:
    trio.run(main)
except* KeyboardInterrupt:
    print("stopped")
"""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited for a minute in vain"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def driver(state: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process of its own group that runs a pool, and its workers' ids."""
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, state],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            workers = [int(pid) for pid in process.stdout.readline().split()]
            assert len(workers) == 2
            assert all(is_running(pid) for pid in workers)
            yield process, workers
        finally:
            process.kill()


@pytest.mark.parametrize("state", ["idle", "paused", "mining", "blocked"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_workers_die_with_a_parent_that_is_killed(state: str, number: signal.Signals) -> None:
    with driver(state) as (process, workers):
        process.send_signal(number)
        process.wait(60)
        until(lambda: not any(is_running(pid) for pid in workers))


def test_a_stopped_worker_dies_with_its_parent() -> None:
    with driver("mining") as (process, workers):
        os.kill(workers[0], signal.SIGSTOP)
        process.kill()
        process.wait(60)
        if sys.platform == "linux":
            until(lambda: not any(is_running(pid) for pid in workers))


def test_an_interrupt_from_the_terminal_is_the_parents_business() -> None:
    with driver("mining") as (process, workers):
        for pid in workers:
            os.kill(pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (out, err) == ("stopped\n", "")
        assert process.returncode == 0
        assert not any(is_running(pid) for pid in workers)


async def test_a_worker_ends_when_its_pipe_does() -> None:
    """Where no signal reports the parent's death, the end of the wake pipe does."""

    fd = make_page_file()
    process = WorkerProcess(fd, "cryptography")
    page = Page(fd)
    os.close(fd)
    page.write(Orders(0, 100, 1, 8, 0, 2**54, 0, bytes(32), bytes(158)))
    with trio.fail_after(60):
        await process.receive()
        while page.words[ACTIVITY] != MINING:  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.005)
        process.close_wake()
        assert await process.receive() == b""
    await process.end()
    assert process.describe_end() == "exit status 0"
    process.close()
    page.close()


def test_a_worker_of_another_parent_ends_at_once() -> None:
    fd = make_page_file()
    ended = subprocess.run(
        [sys.executable, "-m", "unchained.miner.worker", str(fd), "1", "cryptography"],
        pass_fds=(fd,),
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    os.close(fd)
    assert ended.returncode == 0


async def test_what_ended_a_worker_is_reported_by_its_last_line() -> None:
    fd = make_page_file()
    process = WorkerProcess(fd, "abacus")
    os.close(fd)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.drain_errors)
            assert await process.receive() == b""
            await process.end()
    assert process.describe_end().startswith("exit status 1: ValueError: UNCHAINED_POW_BACKEND")
    process.close()
