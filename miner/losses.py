"""Workers of a pool that were lost: who is notified of them, and the log that is."""

from __future__ import annotations

from typing import Protocol

from structlog.typing import FilteringBoundLogger

from unchained.miner.errors import WorkerError


class LossListener(Protocol):
    """Who is notified of lost workers."""

    def worker_lost(self, index: int, why: WorkerError, restart_in_s: float) -> None:
        """Note that the worker at `index` was lost, and is replaced after so many seconds."""


class LossLog:
    """Writes lost workers to a log."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log

    def worker_lost(self, index: int, why: WorkerError, restart_in_s: float) -> None:
        """Log that a worker was lost."""
        self._log.warning(
            "miner.worker_lost", worker=index, why=str(why), restart_in_s=restart_in_s
        )
