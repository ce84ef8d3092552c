"""The bounds of the pool's settings, and how they are passed to the system."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from unchained.miner.errors import (
    BadAffinityError,
    BadCpuCapError,
    BadNiceError,
    BadWorkerCountError,
)
from unchained.miner.jobs import MAX_WORKERS


def check_workers(workers: int) -> int:
    """Return a number of workers that is in bounds. Raises BadWorkerCountError."""
    if not 1 <= workers <= MAX_WORKERS:
        raise BadWorkerCountError(workers, MAX_WORKERS)
    return workers


def check_nice(nice: int | None) -> int:
    """Return a nice level from this process's own, which None stands for, to 19. Raises
    BadNiceError.

    Any process may become nicer than the one that started it, none needs a privilege for it.
    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if nice is None:
        return own
    if not own <= nice <= 19:
        raise BadNiceError(nice, own)
    return nice


def raised_nice(nice: int) -> int:
    """Return a nice level, raised to this process's own: who started it with a lower priority
    means what it starts to have no higher one."""
    return max(nice, os.getpriority(os.PRIO_PROCESS, 0))


def check_affinity(affinity: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return CPUs that this process may use, None for no choice. Raises BadAffinityError."""
    if affinity is None:
        return None
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not affinity or not set(affinity) <= set(usable):
        raise BadAffinityError(tuple(affinity), tuple(usable))
    return tuple(affinity)


def check_cpu_cap(percent: int) -> int:
    """Return a CPU-time cap from 1 to 100 percent. Raises BadCpuCapError."""
    if not 1 <= percent <= 100:
        raise BadCpuCapError(percent)
    return percent


def apply_nice(pid: int, nice: int) -> bool:
    """Set a process's nice level, raised to that of this one. False where the system refuses to
    lower it."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, raised_nice(nice))
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def apply_affinity(pid: int, cpus: tuple[int, ...] | None, index: int) -> None:
    """Pin a process to the CPU at `index` modulo their number; free it where there are none."""
    if hasattr(os, "sched_setaffinity"):
        chosen = os.sched_getaffinity(0) if cpus is None else {cpus[index % len(cpus)]}
        # A process that ended needs no CPU; one taken from this machine cannot be had.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, chosen)
