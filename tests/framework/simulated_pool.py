"""The statistics of a mining pool whose workers live in virtual time, with what befalls workers."""

from __future__ import annotations

import trio

from unchained.miner.jobs import PoolStatistics, WorkerStatistics


class SimulatedPool:
    """Two workers that hash at a steady rate until they hang or crash."""

    def __init__(self, rate: float = 100.0) -> None:
        self.rate = rate
        self.hangs = False
        self.restarts = 0
        self._hashes = 0.0
        self._at = trio.current_time()

    def hang(self, hangs: bool) -> None:
        """Let the workers stand still, or go on."""
        self._advance()
        self.hangs = hangs

    async def crash_every(self, seconds: float) -> None:
        """Let a worker crash again and again, until cancelled."""
        while True:
            await trio.sleep(seconds)
            self.restarts += 1

    def _advance(self) -> None:
        now = trio.current_time()
        if not self.hangs:
            self._hashes += self.rate * (now - self._at)
        self._at = now

    def statistics(self) -> PoolStatistics:
        """Return what a pool would say."""
        self._advance()
        rate = 0.0 if self.hangs else self.rate
        workers = tuple(
            WorkerStatistics(n, 100 + n, "mining", 0, rate / 2, 0, 0, None, 1, 0.5) for n in (0, 1)
        )
        return PoolStatistics(
            workers=workers,
            backend="simulated",
            paused=False,
            pauses=(),
            nice=10,
            affinity=None,
            cpu_cap=100,
            huge_pages=False,
            job_number=1,
            hashes=int(self._hashes),
            rate=rate,
            rate_1m=rate,
            rate_15m=rate,
            solutions=0,
            stale=0,
            restarts=self.restarts,
        )
