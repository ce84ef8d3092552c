"""What goes into the pool and what comes out: jobs, solutions, statistics."""

from __future__ import annotations

from typing import Final

import msgspec

from unchained.miner.errors import BadJobError
from unchained.node.base.counted import ChannelStatistics
from unchained.node.crypto.pow import MAX_MEM_KIB, MIN_MEM_KIB
from unchained.node.primitives.coin import NONCE_OFFSET

MAX_WORKERS: Final = 1024
"""Most workers of one pool, and the number of shares that a wide nonce range is cut into."""

WIDE_RANGE: Final = 2**32
"""Nonces from which a range is wide: each share outlasts any job, so shares can lie idle."""

NONCES: Final = 2**64
"""Number of nonces of a header."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One header to search a nonce for.

    `number` rises from job to job. `header_prefix` is the header without its nonce (158 bytes).
    `mem_kib` is the network's MEM. The nonces to try are `nonce_count` from `nonce_start` on.
    A worker that found `max_coins` of the job waits for the next one; 0: no bound. Raises
    BadJobError.
    """

    number: int
    header_prefix: bytes
    target: int
    mem_kib: int
    nonce_start: int = 0
    nonce_count: int = NONCES
    max_coins: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.number < 2**64:
            raise BadJobError("number", "1 to 2**64 - 1", self.number)
        if len(self.header_prefix) != NONCE_OFFSET:
            raise BadJobError("header prefix", f"{NONCE_OFFSET} bytes", len(self.header_prefix))
        if not 0 <= self.target < 2**256:
            raise BadJobError("target", "0 to 2**256 - 1", self.target)
        if not MIN_MEM_KIB <= self.mem_kib <= MAX_MEM_KIB:
            raise BadJobError("memory", f"{MIN_MEM_KIB} to {MAX_MEM_KIB} KiB", self.mem_kib)
        if not 0 <= self.nonce_start < NONCES:
            raise BadJobError("first nonce", "0 to 2**64 - 1", self.nonce_start)
        if not 1 <= self.nonce_count <= NONCES - self.nonce_start:
            raise BadJobError("nonce count", f"1 to {NONCES - self.nonce_start}", self.nonce_count)
        if not 0 <= self.max_coins < 2**64:
            raise BadJobError("bound of coins", "0 to 2**64 - 1", self.max_coins)

    def parts(self, workers: int) -> int:
        """Return the number of shares to cut the nonces into, with so many workers present.

        A wide range is cut for the most workers that there can be, so that one that joins finds
        a share of its own; of a small one the workers present leave nothing over.
        """
        return MAX_WORKERS if self.nonce_count >= WIDE_RANGE else workers

    def share(self, worker: int, parts: int) -> range:
        """Return a worker's nonces when they are cut into `parts`: empty from that number on."""
        if worker >= parts:
            return range(self.nonce_start, self.nonce_start)
        size, rest = divmod(self.nonce_count, parts)
        first = self.nonce_start + worker * size + min(worker, rest)
        return range(first, first + size + (worker < rest))


class Solution(msgspec.Struct, frozen=True, gc=False):
    """A coin found: header (166 bytes), mix and id (32 bytes each), the worker's index."""

    job_number: int
    header: bytes
    mix: bytes
    coin_id: bytes
    worker: int


class WorkerStatistics(msgspec.Struct, frozen=True, gc=False):
    """One worker. `rate` in hashes per second over the last ten.

    `state` is starting, idle (no job, or nothing left of it), mining, paused or backing-off.
    `hashes` and `solutions` include those of the processes that this one replaced. `restarts`
    counts crashes, `last_failure` describes the last. `job_number` is the job that it took last (0:
    none), `job_delay_ms` the time that the pool's present job took to reach it, or its process to
    start and take it (None: not yet).
    """

    worker: int
    pid: int | None
    state: str
    hashes: int
    rate: float
    solutions: int
    restarts: int
    last_failure: str | None
    job_number: int
    job_delay_ms: float | None


class PoolStatistics(msgspec.Struct, frozen=True):
    """The pool. Totals never fall: they include workers that are gone. `rate` as of a worker's.

    `rate_1m` and `rate_15m` are taken over the last minute and the last fifteen, or since the pool
    was started. `pauses`: why the workers are paused, `huge_pages` whether they are asked
    for. `stale` counts results of jobs so old that they could not be checked any more and were
    dropped. `job_number` is 0 without a job. `found` is the queue of solutions.
    """

    workers: tuple[WorkerStatistics, ...]
    backend: str
    paused: bool
    pauses: tuple[str, ...]
    nice: int
    affinity: tuple[int, ...] | None
    cpu_cap: int
    huge_pages: bool
    job_number: int
    hashes: int
    rate: float
    rate_1m: float
    rate_15m: float
    solutions: int
    stale: int
    restarts: int
    found: ChannelStatistics = ChannelStatistics(0, 0)
