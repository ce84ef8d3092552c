"""What the writer is given to do: how long it has run, and what of its results is a failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import outcome
import pytest
import trio
import trio.testing

from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Changes, UnknownAnchorError
from unchained.node.chain.status import ChainStatus
from unchained.node.chain.writer import (
    WRITER_QUEUE_MAX,
    ChainWriter,
    Operation,
    Running,
    _failure_of,
)
from unchained.node.consensus.errors import BadMixError
from unchained.node.consensus.policy import DustError
from unchained.node.primitives.types import CoinId
from unchained.storage.errors import StoreFullError


async def test_running_time_is_what_the_clock_showed_last() -> None:
    await trio.sleep(10)
    running = Running()
    assert running.elapsed_ms() == 0
    await trio.sleep(1.5)
    assert running.elapsed_ms() == 0
    running.note()
    assert running.elapsed_ms() == 1_500
    await trio.sleep(0.25)
    running.note()
    assert running.elapsed_ms() == 1_750


async def test_an_operation_is_not_done_before_it_is() -> None:
    operation = Operation(lambda core: None)
    assert not operation.done.is_set()
    assert operation.result is None


@pytest.mark.parametrize(
    "error",
    [
        BadMixError(expected="one mix", actual="another"),
        DustError(expected="more", actual="less"),
        UnknownAnchorError(CoinId(bytes(32)), 1),
    ],
)
def test_what_is_wrong_with_what_was_submitted_is_no_failure(error: Exception) -> None:
    assert _failure_of(outcome.Error(error)) is None


def test_all_else_that_is_raised_is_a_failure() -> None:
    for error in (StoreFullError("no room"), KeyError("a bug")):
        assert _failure_of(outcome.Error(error)) is error
    assert _failure_of(outcome.Value(None)) is None


class NoListener:
    """Hears nothing: no step of these tests changes the chain."""

    def note_steps(self, steps: Sequence[Changes], status: ChainStatus) -> None:
        raise AssertionError("nothing was carried out")


async def test_who_comes_when_the_queue_is_full_waits_for_room() -> None:
    """However many ask, no more than `WRITER_QUEUE_MAX` operations are held for the writer."""
    writer = ChainWriter(
        cast("ChainCore", None),
        clock=TrioClock(0),
        runner=InlineRunner(),
        running=Running(),
        listener=NoListener(),
    )
    over = 7
    async with trio.open_nursery() as nursery:
        for _ in range(WRITER_QUEUE_MAX + over):
            nursery.start_soon(writer.call, lambda core: None)
        await trio.testing.wait_all_tasks_blocked()
        queue = writer._send.statistics()
        assert queue.current_buffer_used == WRITER_QUEUE_MAX
        assert queue.tasks_waiting_send == over
        nursery.cancel_scope.cancel()
