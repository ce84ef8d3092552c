"""Work for miners elsewhere: what a node gives that is behind, or that has caught up."""

from __future__ import annotations

import pytest
import structlog
import trio

from tests.framework.forge import BACKEND
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.service import ChainService
from unchained.node.consensus.params import REG
from unchained.node.mining.payout import FixedPayout
from unchained.node.primitives.types import Lock
from unchained.node.rpc.core.errors import NotReadyError
from unchained.node.rpc.methods.mining import MiningRoom
from unchained.storage.memory import MemoryStore


async def test_a_node_that_is_behind_gives_no_work() -> None:
    level = Watch(False)
    clock = TrioClock(1_700_000_000_000)
    chain = await ChainService.open(
        MemoryStore(),
        REG,
        clock=clock,
        writer=InlineRunner(),
        verifier=InlineRunner(),
        verifiers=1,
        backend=BACKEND,
        log=structlog.get_logger(),
    )
    room = MiningRoom(
        chain,
        pool=None,
        payout=FixedPayout(Lock(bytes(32))),
        synced=level,
        backend=BACKEND,
        runner=InlineRunner(),
        clock=clock,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        with pytest.raises(NotReadyError, match="is behind"):
            await room.template()
        level.set(True)
        assert (await room.template()).height == 1
        nursery.cancel_scope.cancel()
