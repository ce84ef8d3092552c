"""The one task that touches the chain: operations from a queue, in one thread, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar, cast

import outcome
import trio

from unchained.node.base.clock import Clock
from unchained.node.base.counted import ChannelStatistics
from unchained.node.base.latency import Latency
from unchained.node.base.runner import Runner
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Changes, UnknownAnchorError
from unchained.node.chain.status import ChainStatus
from unchained.node.chain.view import ChainView
from unchained.node.consensus.policy import PolicyError
from unchained.node.primitives.errors import ProtocolError

T = TypeVar("T")

WRITER_QUEUE_MAX: Final = 256
"""Operations that wait for the writer at most; who submits more waits."""

OPERATIONS_AT_ONCE: Final = 32
"""Operations that the writer carries out in one hop to its thread."""


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


class StepListener(Protocol):
    """Hears of every step of the chain, before those who asked for it get their results."""

    def note_steps(self, steps: Sequence[Changes], status: ChainStatus) -> None:
        """Take note of what happened, in order, and of the present after it."""


class ChainWriter:
    """Carries out operations on a `ChainCore`, and makes the choices of the tip that are put off.

    `runner` runs them one at a time, under a virtual clock in place.
    """

    def __init__(
        self,
        core: ChainCore,
        *,
        clock: Clock,
        runner: Runner,
        running: Running,
        listener: StepListener,
    ) -> None:
        self._core = core
        self._clock = clock
        self._runner = runner
        self._running = running
        self._listener = listener
        self._send, self._receive = trio.open_memory_channel[Operation](WRITER_QUEUE_MAX)
        self._choices: list[Operation] = []
        """Choices of the tip that bodies which have come make necessary, still to be made."""
        self._has_ended = False
        self.operations = 0
        """Operations carried out since the start."""
        self.latency = Latency()
        """How long the thread takes for the operations of one hop."""

    async def run(self) -> None:
        """Carry out what is submitted, until cancelled; the operation in hand is finished first.

        Raises a `StoreError` when the store fails.
        """
        while True:
            choices = tuple(self._choices)
            operations = [] if choices else [await self._receive.receive()]
            while len(operations) < OPERATIONS_AT_ONCE:
                try:
                    operations.append(self._receive.receive_nowait())
                except trio.WouldBlock:
                    break
            # What has begun is finished and reported, if who asked is cancelled too.
            with trio.CancelScope(shield=True):
                if operations:
                    await self._carry_out(operations)
                if choices:
                    # By now others have been told what is to be chosen from, and have had a turn.
                    await self._carry_out(choices)
                    del self._choices[: len(choices)]

    def end(self) -> None:
        """Answer all who wait for their turn, and who come from here on: nobody will serve them."""
        self._has_ended = True
        with suppress(trio.WouldBlock):
            while True:
                # Those who wait for room in the queue come after those who are in it.
                self._receive.receive_nowait().done.set()
        for choice in self._choices:
            choice.done.set()

    async def _carry_out(self, operations: Sequence[Operation]) -> None:
        self._running.note()
        now_ms = self._clock.now_ms()

        def work() -> tuple[list[Changes], ChainStatus]:
            with self.latency.measured():
                return carry_out()

        def carry_out() -> tuple[list[Changes], ChainStatus]:
            self._core.note_clock(now_ms)
            steps = []
            for operation in operations:
                operation.result = outcome.capture(operation.work, self._core)
                if _failure_of(operation.result) is not None:
                    break
                step = self._core.take_changes()
                if step != Changes(step.first_event):
                    steps.append(step)
            return steps, self._core.status(now_ms)

        try:
            steps, status = await self._runner.run(work)
            self.operations += len(operations)
            self._listener.note_steps(steps, status)
        finally:
            for operation in operations:
                operation.done.set()
        for operation in operations:
            failure = None if operation.result is None else _failure_of(operation.result)
            if failure is not None:
                # The asking task gets it too.
                raise failure

    def queue(self) -> ChannelStatistics:
        """Return how many operations wait."""
        return ChannelStatistics(self._send.statistics().current_buffer_used, WRITER_QUEUE_MAX)

    async def call(self, work: Callable[[ChainCore], T]) -> T:
        """Return ``work(core)``, carried out between other operations.

        Cancelled while it waits for its turn, the work may still be done. Raises
        `trio.ClosedResourceError` once `run` has ended.
        """
        if self._has_ended:
            raise trio.ClosedResourceError("the chain has stopped")
        operation = Operation(work)
        await self._send.send(operation)
        return cast("T", await self.result_of(operation))

    async def read(self, work: Callable[[ChainView], T]) -> T:
        """Return ``work(view)``, as `call` does; the work changes nothing."""
        return await self.call(lambda core: work(core.view))

    async def result_of(self, operation: Operation) -> object:
        """Return what an operation led to, once it has been carried out."""
        await operation.done.wait()
        if operation.result is None:
            raise trio.ClosedResourceError("the chain has stopped")
        return operation.result.unwrap()

    # In the writer's thread

    def choose_later(self) -> Operation:
        """Put off a choice of the tip; return the operation that will make it."""
        choice = Operation(ChainCore.advance)
        self._choices.append(choice)
        return choice

    def choose_now(self) -> None:
        """Make the choices that were put off."""
        for choice in self._choices:
            choice.work(self._core)


def _failure_of(result: outcome.Outcome[object]) -> BaseException | None:
    """Return what is a failure of ours or of the store, and nothing wrong with what was
    submitted."""
    if isinstance(result, outcome.Error) and not isinstance(
        result.error, ProtocolError | PolicyError | UnknownAnchorError
    ):
        return result.error
    return None
