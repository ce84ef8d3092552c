"""What the chain's writer has to do, one thing after the other."""

from __future__ import annotations

from collections.abc import Callable

import outcome
import trio

from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import UnknownAnchorError
from unchained.node.consensus.policy import PolicyError
from unchained.node.primitives.errors import ProtocolError


class Operation:
    """Something for the writer to do, and where its result goes."""

    __slots__ = ("done", "result", "work")

    def __init__(self, work: Callable[[ChainCore], object]) -> None:
        self.work = work
        self.done = trio.Event()
        self.result: outcome.Outcome[object] | None = None


class Running:
    """How long this process has had the store, readable from the writer's thread."""

    def __init__(self) -> None:
        self._began = trio.current_time()
        self._elapsed_ms = 0

    def note(self) -> None:
        """Look at Trio's clock."""
        self._elapsed_ms = int((trio.current_time() - self._began) * 1000)

    def elapsed_ms(self) -> int:
        """Return what the clock showed when it was last looked at, ms."""
        return self._elapsed_ms


def failure_of(result: outcome.Outcome[object]) -> BaseException | None:
    """Return what is a failure of ours or of the store, and nothing wrong with what was
    submitted."""
    if isinstance(result, outcome.Error) and not isinstance(
        result.error, ProtocolError | PolicyError | UnknownAnchorError
    ):
        return result.error
    return None
