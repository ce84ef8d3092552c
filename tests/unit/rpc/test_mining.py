"""Work for miners elsewhere: what a node gives that is behind, or that has caught up."""

from __future__ import annotations

import pytest
import structlog
import trio

from tests.framework.forge import BACKEND
from unchained.node.base.runtime import InlineRunner, TrioClock
from unchained.node.chain.service import ChainService
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import Lock
from unchained.node.rpc.core.errors import NotReady
from unchained.node.rpc.methods.mining import MiningRoom
from unchained.storage.memory import MemoryStore


async def open_room(level: trio.Event, now_ms: int) -> tuple[ChainService, MiningRoom]:
    """Return a chain at a time, and the room of its miners; it is level once the event is set."""
    clock = TrioClock(now_ms)
    chain = await ChainService.open(
        MemoryStore(),
        REG,
        clock=clock,
        writer=InlineRunner(),
        verifier=InlineRunner(),
        verifiers=1,
        backend=BACKEND,
        log=structlog.wrap_logger(structlog.ReturnLogger(), processors=[lambda *_: ""]),
    )
    room = MiningRoom(
        chain,
        pool=None,
        own_lock=lambda _parent, _time: Lock(bytes(32)),
        synced=level.is_set,
        backend=BACKEND,
        runner=InlineRunner(),
        clock=clock,
    )
    return chain, room


async def test_a_node_that_is_behind_gives_no_work() -> None:
    level = trio.Event()
    chain, room = await open_room(level, REG.birth_ms)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        with pytest.raises(NotReady, match="is behind"):
            await room.template()
        level.set()
        assert (await room.template()).height == 1
        nursery.cancel_scope.cancel()


async def test_a_node_whose_clock_is_behind_gives_no_work_until_it_is_not() -> None:
    level = trio.Event()
    level.set()
    chain, room = await open_room(level, REG.birth_ms - REG.future_limit_ms - 10_000)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        with pytest.raises(NotReady, match="the clock is behind"):
            await room.template()
        with pytest.raises(NotReady, match="the clock is behind"):
            await room.generate()
        await trio.sleep(11)
        assert (await room.template()).height == 1
        nursery.cancel_scope.cancel()
