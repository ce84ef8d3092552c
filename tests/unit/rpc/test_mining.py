"""Work for miners elsewhere: what a node gives that is behind, or that has caught up."""

from __future__ import annotations

import threading

import msgspec
import pytest
import structlog
import trio

from tests.framework.forge import BACKEND, Forge
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import TimeTooNewError
from unchained.node.consensus.params import REG
from unchained.node.mining.payout import FixedPayout
from unchained.node.primitives.coin import CoinHeader
from unchained.node.primitives.types import Lock
from unchained.node.rpc.core.errors import NotReadyError
from unchained.node.rpc.core.values import Hex
from unchained.node.rpc.methods.mining import MiningRoom
from unchained.storage.memory import MemoryStore


async def open_room(level: Watch[bool], now_ms: int) -> tuple[ChainService, MiningRoom]:
    """Return a chain at a time, and the room of its miners; it is level where that says so."""
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
        payout=FixedPayout(Lock(bytes(32))),
        synced=level,
        backend=BACKEND,
        runner=InlineRunner(),
    )
    return chain, room


async def test_a_node_that_is_behind_gives_no_work() -> None:
    level = Watch(False)
    chain, room = await open_room(level, REG.birth_ms)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        with pytest.raises(NotReadyError, match="is behind"):
            await room.template()
        level.set(True)
        assert (await room.template()).height == 1
        nursery.cancel_scope.cancel()


async def test_a_node_whose_clock_is_behind_gives_no_work_until_it_is_not() -> None:
    level = Watch(True)
    chain, room = await open_room(level, REG.birth_ms - REG.future_limit_ms - 10_000)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        with pytest.raises(NotReadyError, match="the clock is behind"):
            await room.template()
        with pytest.raises(NotReadyError, match="the clock is behind"):
            await room.generate()
        await trio.sleep(11)
        assert (await room.template()).height == 1
        nursery.cancel_scope.cancel()


async def test_an_anchor_that_is_too_new_becomes_one_when_its_time_has_come() -> None:
    forge = Forge()
    chain, room = await open_room(Watch(True), REG.birth_ms)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        header = CoinHeader.from_bytes(bytes((await room.template()).header))
        latest = REG.birth_ms + REG.future_limit_ms
        for ahead_ms, grade in ((20_000, False), (10_000, True)):
            mined = forge.mine(msgspec.structs.replace(header, time=latest + ahead_ms), grade=grade)
            for _ in range(2):
                handed_in = await room.submit(Hex(mined.raw))
                assert (handed_in.status, handed_in.anchor) == ("held", grade)
        assert chain.status.value.height == 0
        await trio.sleep(11)
        assert chain.status.value.tip == mined.id
        handed_in = await room.submit(Hex(mined.raw))
        assert (handed_in.status, handed_in.anchor) == ("known", True)
        # Further ahead nothing is held, and it says so.
        far = msgspec.structs.replace(header, time=latest + REG.future_limit_ms + 20_000)
        with pytest.raises(TimeTooNewError):
            await room.submit(Hex(forge.mine(far, grade=True).raw))
        nursery.cancel_scope.cancel()


class NoThreads:
    """The threads of RPC, all of which are taken for good."""

    async def run(self, work: object, *args: object) -> object:
        raise AssertionError("the threads of RPC are for reading")


@pytest.mark.real_time
async def test_a_benchmark_has_threads_of_its_own_and_all_at_once() -> None:
    chain, _ = await open_room(Watch(True), REG.birth_ms)
    at_once: set[int] = set()
    all_here = threading.Barrier(6)

    class Backend:
        name = "together"

        def argon2id(self, *args: object, **kwargs: object) -> bytes:
            if threading.get_ident() not in at_once:
                at_once.add(threading.get_ident())
                all_here.wait(60)
            return bytes(32)

    room = MiningRoom(
        chain,
        pool=None,
        payout=None,
        synced=Watch(True),
        backend=Backend(),
        runner=NoThreads(),  # type: ignore[arg-type]
    )
    found = await room.benchmark(seconds=0.1, threads=6)
    assert found.threads == 6
    assert len(at_once) == 6
