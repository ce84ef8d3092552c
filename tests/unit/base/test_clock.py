"""A node whose clock is behind its chain does not start, and says why."""

from __future__ import annotations

import io
from pathlib import Path

import trio

from unchained.node.app import build
from unchained.node.base.logs import open_logs
from unchained.node.base.settings import load
from unchained.node.consensus.params import REG


class FixedClock:
    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


async def behind_ms(directory: Path, now_ms: int) -> int:
    """Return by how much a node that is opened at a time finds its clock behind, ms."""
    settings = load(
        {"node.network": ("test", "reg"), "mining.enabled": ("test", False)}, {}, home=directory
    )
    clock = FixedClock(now_ms)
    with open_logs(clock=clock, stream=io.StringIO()) as logs:
        node = await build(settings, directory, clock=clock, log=logs.log)
        await trio.to_thread.run_sync(node.store.close)
    return node.chain.status.value.clock_behind_ms


async def test_a_node_whose_clock_is_behind_its_chain_opens(tmp_path: Path) -> None:
    earliest = REG.birth_ms - REG.future_limit_ms
    assert await behind_ms(tmp_path, earliest - 1) == REG.future_limit_ms + 1
    assert await behind_ms(tmp_path, earliest) == 0
