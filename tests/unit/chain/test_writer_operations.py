"""What the writer is given to do: how long it has run, and what of its results is a failure."""

from __future__ import annotations

import outcome
import pytest
import trio

from unchained.node.chain.results import UnknownAnchorError
from unchained.node.chain.writer import Operation, Running, _failure_of
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
