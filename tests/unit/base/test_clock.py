"""A node whose clock is behind its chain does not start, and says why."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import trio

from unchained.node.app import ClockError, build
from unchained.node.base.logs import open_logs
from unchained.node.base.settings import load
from unchained.node.consensus.params import REG


class FixedClock:
    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


async def open_at(directory: Path, now_ms: int) -> None:
    settings = load(
        {"node.network": ("test", "reg"), "mining.enabled": ("test", False)}, {}, home=directory
    )
    clock = FixedClock(now_ms)
    with open_logs(clock=clock, stream=io.StringIO()) as logs:
        node = await build(settings, directory, clock=clock, log=logs.log)
        await trio.to_thread.run_sync(node.store.close)


async def test_a_clock_set_back_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    earliest = REG.birth_ms - REG.future_limit_ms
    with pytest.raises(ClockError) as caught:
        await open_at(tmp_path, earliest - 1)
    text = str(caught.value)
    assert text.startswith("this machine's clock says ")
    assert "set the clock" in text
    assert "\n" not in text
    # The store was let go, and opens once the clock is right.
    await open_at(tmp_path, earliest)
