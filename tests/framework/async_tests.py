"""How an async test runs: in virtual time from a seed, or in real time.

`tests/conftest.py` runs every `async def test_…` through here; a test calls none of it, but for one
that compares whole runs with each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
import trio._core._run as trio_run
import trio.testing

T = TypeVar("T")

_is_quiet = False

SEED = 1
"""From which tasks are scheduled where a test does not say otherwise."""


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Let Trio choose the order of its tasks from a seed, so that a run can be repeated."""
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    state = trio_run._r.getstate()
    # Trio has no other way to be told, and calls it final.
    vars(trio_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        vars(trio_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = before
        trio_run._r.setstate(state)


@contextmanager
def quiet_seeds() -> Iterator[None]:
    """Let no seed be printed: by somebody who tells of it in another way."""
    global _is_quiet  # noqa: PLW0603
    before, _is_quiet = _is_quiet, True
    try:
        yield
    finally:
        _is_quiet = before


def reseed_scheduler(seed: int) -> None:
    """Choose the order of tasks from this seed on; for a network that has a seed of its own."""
    print(f"seed {seed}")
    trio_run._r.seed(seed)


def run_virtual(
    main: Callable[[], Awaitable[T]],
    *,
    seed: int = SEED,
    clock: trio.testing.MockClock | None = None,
) -> T:
    """Run `main` under a clock that jumps while all tasks wait; the seed is printed."""
    if not _is_quiet:
        print(f"seed {seed}")
    with seeded_scheduler(seed):
        return trio.run(main, clock=clock or trio.testing.MockClock(autojump_threshold=0))


def run_real(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` under the machine's clock."""
    return trio.run(main)
