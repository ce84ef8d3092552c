"""Work for miners elsewhere: what a node gives that is behind, or that has caught up."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from tests.framework.forge import BACKEND, Forge
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import TimeTooNewError
from unchained.node.consensus.params import REG
from unchained.node.mining.payout import FixedPayout
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import Lock
from unchained.node.rpc.core.errors import NotReadyError
from unchained.node.rpc.core.values import Hash, Hex
from unchained.node.rpc.methods.mining import MiningRoom, MiningTemplate
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


def mined_on(work: MiningTemplate, grade: bool) -> Coin:
    """Return a coin as a miner elsewhere finds it: of anchor grade or not."""
    return Forge().mine(CoinHeader.from_bytes(bytes(work.header)), grade=grade)


async def test_an_anchor_on_work_that_was_waited_for_has_its_body() -> None:
    chain, room = await open_room(Watch(True), REG.birth_ms)
    waited: list[MiningTemplate] = []

    async def wait(known: MiningTemplate) -> None:
        waited.append(await room.template(after=known.id))

    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        first = await room.template()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(wait, first)
            await wait_all_tasks_blocked()
            await room.submit(Hex(mined_on(first, grade=False).raw))
        (second,) = waited
        assert (second.fresh, second.id != first.id) == (1, True)
        anchor = mined_on(second, grade=True)
        assert (await room.submit(Hex(anchor.raw))).anchor
        assert chain.status.value.tip == anchor.id
        nursery.cancel_scope.cancel()


async def test_a_coin_that_comes_while_a_template_is_built_wakes_who_waits_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain, room = await open_room(Watch(True), REG.birth_ms)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        build, known = chain.template, await chain.template()
        header = known.header(lock=Lock(bytes(32)), time=chain.job_time(known))
        coins = [Forge().mine(header, grade=False)]

        async def overtaken() -> Any:
            template = await build()
            if coins:
                await chain.submit_mined(coins.pop(), None)
            return template

        monkeypatch.setattr(chain, "template", overtaken)
        began = trio.current_time()
        assert (await room.template(after=Hash(known.body_root))).fresh == 1
        assert trio.current_time() == began
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("why", ["the chain is behind", "the clock is behind"])
async def test_a_node_that_falls_behind_while_a_miner_waits_gives_no_work(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = Watch(True)
    chain, room = await open_room(level, REG.birth_ms)

    async def wait(known: MiningTemplate) -> None:
        with pytest.raises(NotReadyError, match=why):
            await room.template(after=known.id)

    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        first = await room.template()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(wait, first)
            await wait_all_tasks_blocked()
            if why == "the chain is behind":
                level.set(False)
            else:
                set_back = REG.birth_ms - REG.future_limit_ms - 1_000
                monkeypatch.setattr(TrioClock, "now_ms", lambda _clock: set_back)
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


async def test_a_benchmark_that_is_given_up_lets_the_workers_go_on() -> None:
    chain, _ = await open_room(Watch(True), REG.birth_ms)
    paused: set[str] = set()
    pool = SimpleNamespace(pause=paused.add, resume=paused.remove)
    room = MiningRoom(
        chain,
        pool=cast(Any, pool),
        payout=None,
        synced=Watch(True),
        backend=BACKEND,
        runner=InlineRunner(),
    )
    for _ in range(2):
        with trio.CancelScope() as scope:
            scope.cancel()
            await room.benchmark()
        assert scope.cancelled_caught
        assert paused == set()
