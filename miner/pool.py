"""The mining pool: a service that keeps worker processes hashing the newest job.

Orders go down through one shared page per worker and a wake pipe, coins come up through a pipe
(page.py, results.py). There is no queue of jobs: a newer one overwrites the older.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from unchained.miner import page as shared
from unchained.miner.errors import (
    BadFrameError,
    CorruptResultError,
    JobNotNewerError,
    WorkerDiedError,
    WorkerError,
    WorkerNotStartedError,
)
from unchained.miner.frames import READY, Frame, believe
from unchained.miner.jobs import NONCES, Job, PoolStatistics, Solution, WorkerStatistics
from unchained.miner.losses import LossListener
from unchained.miner.page import NO_JOB, Orders, Page, make_page_file
from unchained.miner.process import Spawn, WorkerHandle, WorkerProcess
from unchained.miner.settings import (
    apply_affinity,
    apply_nice,
    check_affinity,
    check_cpu_cap,
    check_nice,
    check_workers,
)
from unchained.node.base.counted import ChannelStatistics
from unchained.node.crypto.pow import POW_BACKEND_VARIABLE, default_backend

BACKOFF_FIRST_S: Final = 1.0
"""Seconds before a worker that crashed is started again, the first time; then doubling."""

BACKOFF_MOST_S: Final = 60.0
"""The longest that a worker stays down, and how long one must hold to count as sound again."""

REMEMBERED_JOBS: Final = 256
"""Newest jobs whose results are still checked and passed on."""

RATE_WINDOW_S: Final = 10
"""Seconds that a worker's rate is taken over; hashes are sampled once a second."""

BY_HAND: Final = "by hand"
"""The reason of a pause that a person asked for."""

MINUTE_S: Final = 60
QUARTER_S: Final = 900
"""Seconds that the pool's slower rates are taken over."""


class _Issued:
    """A job, into how many shares its nonces are cut, and when it was set."""

    __slots__ = ("at_ns", "job", "parts")

    def __init__(self, job: Job, workers: int) -> None:
        self.job = job
        self.parts = job.parts(workers)
        # Compared with what a worker reads from the same clock in another process.
        self.at_ns = time.monotonic_ns()


class _Slot:
    """One worker's place: it outlives the processes that fill it one after the other."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.turn = trio.Lock()
        self.scope = trio.CancelScope()
        self.wanted = False
        self.process: WorkerHandle | None = None
        self.page: Page | None = None
        self.ready = trio.Event()
        self.opened_at_ns = 0
        self.recycled = False
        self.resting = False
        self.restarts = 0
        self.solutions = 0
        self.last_failure: str | None = None
        self.samples: deque[tuple[float, int]] = deque(maxlen=RATE_WINDOW_S + 1)
        self._hashes_before = 0
        self._resume_job = 0
        self._resume_nonce = 0

    @property
    def hashes(self) -> int:
        return self._hashes_before + (self.page.words[shared.HASHES] if self.page else 0)

    def rate(self, now: float) -> float:
        if not self.samples:
            return 0.0
        since, hashes = self.samples[0]
        return (self.hashes - hashes) / (now - since) if now > since else 0.0

    def first_nonce(self, job_number: int, share: range) -> int:
        """Return where a worker begins: after what the one before it hashed of this job."""
        if job_number != self._resume_job:
            return share.start
        return min(max(share.start, self._resume_nonce), share.stop)

    def open_page(self, page: Page) -> None:
        self.page = page
        self.opened_at_ns = time.monotonic_ns()
        self.recycled = False

    def close_page(self) -> None:
        """Keep what the worker counted, and let the page go."""
        page, self.page = self.page, None
        if page is None:
            return
        words = page.words
        if words[shared.TAKEN_JOB] != 0:
            self._resume_job = words[shared.TAKEN_JOB]
            done = words[shared.HASHES] - words[shared.TAKEN_HASHES]
            self._resume_nonce = words[shared.TAKEN_NONCE] + done
        self._hashes_before += words[shared.HASHES]
        page.close()
        if self.ready.is_set():
            self.ready = trio.Event()


class MiningPool:
    """Worker processes that search coins for the newest job.

    `backend` names a proof-of-work backend (None: the fastest of this machine). `nice` is the
    workers' level, from the node's own (None) to 19. `affinity` lists CPUs: worker i is pinned to
    the one at i modulo their number; None: the system chooses. `cpu_cap` is the CPU time that a
    worker may use, in percent of one CPU. `huge_pages`: whether they are asked for. `losses` is
    notified of every worker lost. At most `buffer` solutions wait; beyond that the workers wait.
    Raises SettingError; ValueError for an unknown backend.
    """

    def __init__(
        self,
        *,
        workers: int,
        backend: str | None = None,
        nice: int | None = None,
        affinity: Sequence[int] | None = None,
        cpu_cap: int = 100,
        huge_pages: bool = True,
        buffer: int = 256,
        losses: LossListener | None = None,
        spawn: Spawn = WorkerProcess,
    ) -> None:
        environ = os.environ if backend is None else {POW_BACKEND_VARIABLE: backend}
        self._backend = default_backend(environ).name
        self._workers = check_workers(workers)
        self._nice = check_nice(nice)
        self._affinity = check_affinity(affinity)
        self._cpu_cap = check_cpu_cap(cpu_cap)
        self._huge_pages = huge_pages
        self._losses = losses
        self._spawn = spawn
        self._send, self.solutions = trio.open_memory_channel[Solution](buffer)
        self._slots: dict[int, _Slot] = {}
        self._nursery: trio.Nursery | None = None
        self._pauses: set[str] = set()
        self._last_number = 0
        self._current: _Issued | None = None
        self._issued: dict[int, _Issued] = {}
        self._stale = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=QUARTER_S + 1)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the workers until cancelled; reports started once they are being started.

        Once it returns, no worker is left: each is asked to end, and killed where it has not
        after a second.
        """
        if self._nursery is not None:
            raise RuntimeError("the mining pool runs already")
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._fill()
                task_status.started()
                while True:
                    self._sample()
                    await trio.sleep(1)
        finally:
            self._nursery = None
            for slot in self._slots.values():
                slot.wanted = False

    async def wait_ready(self) -> None:
        """Return once each of the running pool's workers has read its orders."""
        for slot in list(self._slots.values()):
            if slot.wanted:
                await slot.ready.wait()

    def set_job(self, job: Job | None) -> None:
        """Supersede what the workers do, at once; None leaves them idle.

        Numbers rise from job to job: raises JobNotNewerError.
        """
        if job is None:
            self._current = None
        else:
            if job.number <= self._last_number:
                raise JobNotNewerError(job.number, self._last_number)
            self._last_number = job.number
            self._current = self._issued[job.number] = _Issued(job, self._workers)
            if len(self._issued) > REMEMBERED_JOBS:
                del self._issued[next(iter(self._issued))]
        self._order_all()

    def pause(self, reason: str = BY_HAND) -> None:
        """Have the workers idle after the hash in hand; they keep their place in the job."""
        self._pauses.add(reason)
        self._order_all()

    def resume(self, reason: str = BY_HAND) -> None:
        """Let a reason to pause go; the workers go on when none is left."""
        self._pauses.discard(reason)
        self._order_all()

    def set_workers(self, workers: int) -> None:
        """Start or end workers so that there are so many. Raises BadWorkerCountError."""
        self._workers = check_workers(workers)
        for slot in self._slots.values():
            if slot.wanted and slot.index >= workers:
                slot.wanted = False
                slot.scope.cancel()
                # Nobody shall wait for a worker that does not come.
                slot.ready.set()
        self._fill()

    def set_nice(self, nice: int) -> None:
        """Change the workers' nice level. Raises BadNiceError.

        Where the system lets a process only become nicer, the workers are replaced.
        """
        self._nice = check_nice(nice)
        for slot in self._slots.values():
            if slot.process is not None and not apply_nice(slot.process.pid, self._nice):
                slot.recycled = True
                slot.process.terminate()

    def set_affinity(self, affinity: Sequence[int] | None) -> None:
        """Change the CPUs that the workers are pinned to; None frees them.

        Raises BadAffinityError.
        """
        self._affinity = check_affinity(affinity)
        for slot in self._slots.values():
            if slot.process is not None:
                apply_affinity(slot.process.pid, self._affinity, slot.index)

    def set_cpu_cap(self, percent: int) -> None:
        """Change the CPU time that each worker may use, 1 to 100 percent. Raises BadCpuCapError."""
        self._cpu_cap = check_cpu_cap(percent)
        self._order_all()

    def set_huge_pages(self, wanted: bool) -> None:
        """Have the workers ask for huge pages or not; they take other memory at once."""
        self._huge_pages = wanted
        self._order_all()

    def statistics(self) -> PoolStatistics:
        """Return a snapshot. Call it in Trio."""
        now = trio.current_time()
        slots = [slot for _, slot in sorted(self._slots.items())]
        workers = tuple(self._describe(slot, now) for slot in slots if slot.wanted)
        hashes = sum(slot.hashes for slot in slots)
        return PoolStatistics(
            workers=workers,
            backend=self._backend,
            paused=bool(self._pauses),
            pauses=tuple(sorted(self._pauses)),
            nice=self._nice,
            affinity=self._affinity,
            cpu_cap=self._cpu_cap,
            huge_pages=self._huge_pages,
            job_number=self._current.job.number if self._current else 0,
            hashes=hashes,
            rate=sum(worker.rate for worker in workers),
            rate_1m=self._rate_over(MINUTE_S, now, hashes),
            rate_15m=self._rate_over(QUARTER_S, now, hashes),
            solutions=sum(slot.solutions for slot in slots),
            stale=self._stale,
            restarts=sum(slot.restarts for slot in slots),
            found=self._found(),
        )

    def _found(self) -> ChannelStatistics:
        queue = self.solutions.statistics()
        return ChannelStatistics(queue.current_buffer_used, int(queue.max_buffer_size))

    def _describe(self, slot: _Slot, now: float) -> WorkerStatistics:
        state, job_number, delay_ms = "backing-off" if slot.resting else "starting", 0, None
        if slot.page is not None:
            words = slot.page.words
            code = words[shared.ACTIVITY]
            state = shared.ACTIVITIES[code] if code < len(shared.ACTIVITIES) else "unknown"
            job_number = words[shared.TAKEN_JOB]
            current = self._current
            if current is not None and current.job.number == job_number:
                set_at_ns = max(current.at_ns, slot.opened_at_ns)
                delay_ms = (words[shared.TAKEN_AT_NS] - set_at_ns) / 1e6
        return WorkerStatistics(
            worker=slot.index,
            pid=slot.process.pid if slot.process else None,
            state=state,
            hashes=slot.hashes,
            rate=slot.rate(now),
            solutions=slot.solutions,
            restarts=slot.restarts,
            last_failure=slot.last_failure,
            job_number=job_number,
            job_delay_ms=delay_ms,
        )

    def _sample(self) -> None:
        now = trio.current_time()
        for slot in self._slots.values():
            slot.samples.append((now, slot.hashes))
        self._samples.append((now, sum(slot.hashes for slot in self._slots.values())))

    def _rate_over(self, seconds: int, now: float, hashes: int) -> float:
        """Return hashes per second over so many seconds, or as long as there are samples."""
        if not self._samples:
            return 0.0
        since, before = self._samples[max(0, len(self._samples) - 1 - seconds)]
        return (hashes - before) / (now - since) if now > since else 0.0

    def _fill(self) -> None:
        """Start serving every wanted slot that is not served."""
        if self._nursery is None:
            return
        for index in range(self._workers):
            slot = self._slots.setdefault(index, _Slot(index))
            if not slot.wanted:
                slot.wanted = True
                slot.scope = trio.CancelScope()
                self._nursery.start_soon(self._serve, slot, slot.scope)

    async def _serve(self, slot: _Slot, scope: trio.CancelScope) -> None:
        """Keep one worker running until cancelled; a crash costs it a growing pause."""
        with scope:
            async with slot.turn:
                delay = BACKOFF_FIRST_S
                while True:
                    begun = trio.current_time()
                    failure = await self._attend(slot)
                    if failure is None:
                        continue
                    if trio.current_time() - begun >= BACKOFF_MOST_S:
                        delay = BACKOFF_FIRST_S
                    slot.restarts += 1
                    slot.last_failure = str(failure)
                    if self._losses is not None:
                        self._losses.worker_lost(slot.index, failure, delay)
                    slot.resting = True
                    try:
                        await trio.sleep(delay)
                    finally:
                        slot.resting = False
                    delay = min(2 * delay, BACKOFF_MOST_S)

    async def _attend(self, slot: _Slot) -> WorkerError | None:
        """Run one process until it fails; return why, None if it was to be replaced."""
        try:
            process = self._start(slot)
        except OSError as reason:
            slot.close_page()
            return WorkerNotStartedError(reason)
        slot.process = process
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.drain_errors)
                try:
                    apply_nice(process.pid, self._nice)
                    apply_affinity(process.pid, self._affinity, slot.index)
                    failure = await self._collect(slot, process)
                finally:
                    await process.end()
        finally:
            slot.process = None
            slot.close_page()
            process.close()
        if slot.recycled:
            return None
        return failure or WorkerDiedError(process.describe_end())

    def _start(self, slot: _Slot) -> WorkerHandle:
        page_fd = make_page_file()
        try:
            slot.open_page(Page(page_fd))
            self._order(slot)
            return self._spawn(page_fd, self._backend)
        finally:
            os.close(page_fd)

    async def _collect(self, slot: _Slot, process: WorkerHandle) -> CorruptResultError | None:
        """Pass on what a worker finds, until it ends or sends what is not to be believed."""
        while raw := await process.receive():
            try:
                solution = self._validate(Frame.from_bytes(raw), slot)
            except CorruptResultError as failure:
                return failure
            if solution is not None:
                slot.solutions += 1
                await self._send.send(solution)
        return None

    def _validate(self, frame: Frame, slot: _Slot) -> Solution | None:
        if frame.kind == READY:
            slot.ready.set()
            return None
        issued = self._issued.get(frame.job_number)
        if issued is None:
            if not 0 < frame.job_number <= self._last_number:
                raise BadFrameError(f"job {frame.job_number}, which was never set")
            self._stale += 1
            return None
        share = issued.job.share(slot.index, issued.parts)
        return believe(frame, issued.job, share, slot.index)

    def _order_all(self) -> None:
        for slot in self._slots.values():
            self._order(slot)

    def _order(self, slot: _Slot) -> None:
        """Write what a worker has to do into its page, and have it look."""
        if slot.page is None:
            return
        orders = NO_JOB
        if self._current is not None:
            job = self._current.job
            share = job.share(slot.index, self._current.parts)
            first = slot.first_nonce(job.number, share)
            orders = Orders(
                paused=0,
                cpu_cap=100,
                job_number=job.number,
                mem_kib=job.mem_kib,
                nonce_first=min(first, NONCES - 1),
                nonce_count=share.stop - first,
                max_coins=job.max_coins,
                target=job.target.to_bytes(32, "big"),
                header_prefix=job.header_prefix,
            )
        slot.page.write(
            orders._replace(
                paused=int(bool(self._pauses)),
                cpu_cap=self._cpu_cap,
                huge_pages=int(self._huge_pages),
            )
        )
        if slot.process is not None:
            slot.process.wake()
