"""The chain as a service: what many tasks submit at once is carried out once, and in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar, TypeVarTuple

import msgspec
import pytest
import structlog
import trio
from structlog.testing import CapturingLogger

from tests.framework.chains import in_writer, replay_events
from tests.framework.forge import BACKEND, Forge, Forged
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Lost
from unchained.node.base.runner import InlineRunner, Runner
from unchained.node.chain import chain_intake
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Held, Outcome, Package, ProvenAnchor, ProvenCoin
from unchained.node.chain.service import ChainService
from unchained.node.chain.writer import OPERATIONS_AT_ONCE, WRITER_QUEUE_MAX
from unchained.node.consensus.errors import (
    BadMixError,
    BadSignatureError,
    BadStateRootError,
    BodyMissingError,
    ParentInvalidError,
    ProtocolError,
)
from unchained.node.consensus.params import REG
from unchained.node.consensus.policy import EXPIRY_MS, PolicyError
from unchained.node.consensus.transfers import validate_transfer
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.body import Body
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.errors import StoreFullError
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryDisk, MemoryStore

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
TIMEOUT_S = 30 * 24 * 3_600.0


class CountingBackend:
    """Counts how often each header was hashed."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}

    @property
    def name(self) -> str:
        return "counting"

    def argon2id(
        self, password: bytes, salt: bytes, *, iterations: int, mem_kib: int, length: int
    ) -> bytes:
        self.counts[password] = self.counts.get(password, 0) + 1
        return BACKEND.argon2id(
            password, salt, iterations=iterations, mem_kib=mem_kib, length=length
        )


class SlowRunner:
    """A runner whose work takes a while, so that others come in between."""

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.sleep(0.01)
        return work(*args)


class Service:
    """A running manager, its store, and what it was told to log."""

    def __init__(
        self,
        manager: ChainService,
        store: MemoryStore,
        backend: CountingBackend,
        logger: CapturingLogger,
    ) -> None:
        self.manager = manager
        self.logger = logger
        self.store = store
        self.backend = backend

    async def take(self, *anchors: Forged) -> None:
        for anchor in anchors:
            await self.manager.submit_coin(anchor.coin)
            await self.manager.submit_package(anchor.package())

    async def settled(self) -> None:
        """Wait, in virtual time, until all that was begun is done."""
        await trio.sleep(1)


async def open_service(
    store: MemoryStore,
    start_ms: int,
    backend: ProofOfWork,
    writer: Runner,
    logger: CapturingLogger | None = None,
) -> ChainService:
    return await ChainService.open(
        store,
        REG,
        clock=TrioClock(start_ms),
        writer=writer,
        verifier=SlowRunner(),
        verifiers=2,
        backend=backend,
        log=structlog.wrap_logger(
            logger or CapturingLogger(),
            processors=[],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        ),
    )


class Teller:
    """A sender that writes down what it is blamed for."""

    peer = "teller"

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def blame(self, error: ProtocolError) -> None:
        self._told.append(error.name)


@asynccontextmanager
async def running(
    forge: Forge,
    store: MemoryStore | None = None,
    start_ms: int | None = None,
    writer: Runner | None = None,
) -> AsyncIterator[Service]:
    store = store or MemoryStore()
    backend = CountingBackend()
    logger = CapturingLogger()
    manager = await open_service(
        store, start_ms or forge.now_ms, backend, writer or InlineRunner(), logger
    )
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            yield Service(manager, store, backend, logger)
            nursery.cancel_scope.cancel()


@pytest.fixture
def forge() -> Forge:
    return Forge()


async def test_a_coin_that_many_tasks_submit_is_verified_once(forge: Forge) -> None:
    async with running(forge) as service:
        coin = forge.coin(forge.genesis)
        outcomes: list[object] = []

        async def submit() -> None:
            outcomes.append(await service.manager.submit_coin(coin))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(submit)
        assert outcomes.count(Outcome.ACCEPTED) == 1
        assert outcomes.count(Outcome.KNOWN) == 19
        assert list(service.backend.counts.values()) == [1]
        assert service.manager.statistics().mixes_verified == 1


async def test_a_forged_coin_fails_for_every_task(forge: Forge) -> None:
    async with running(forge) as service:
        coin = forge.forged_mix(forge.genesis)
        for _ in range(2):
            with pytest.raises(BadMixError):
                await service.manager.submit_coin(coin)
        assert not await in_writer(service.manager, lambda core: core.knows_coin(coin.id))


async def test_orphans_wait_for_their_parents_body(forge: Forge) -> None:
    async with running(forge) as service:
        manager = service.manager
        first = forge.anchor(forge.genesis)
        second = forge.anchor(first)
        votes = [forge.coin(second) for _ in range(3)]
        for coin in (*votes, second.coin):
            assert await manager.submit_coin(coin) == Held(coin.parent)
        assert set(manager.awaited_anchors()) == {first.id, second.id}
        assert manager.statistics().orphans == 4
        assert service.backend.counts == {}
        await manager.submit_coin(first.coin)
        assert manager.statistics().orphans == 4
        await manager.submit_package(first.package())
        await service.settled()
        assert manager.awaited_anchors() == [second.id]
        await manager.submit_package(second.package())
        await service.settled()
        assert manager.statistics().orphans == 0
        assert manager.status.value.tip == second.id
        assert await in_writer(manager, lambda core: core.tip.votes) == 3


async def test_no_orphan_waits_for_an_anchor_that_is_invalid(forge: Forge) -> None:
    async with running(forge) as service:
        manager = service.manager
        first = forge.anchor(forge.genesis, body_fields={"history_root": bytes(32)})
        second = forge.anchor(first)
        await manager.submit_coin(first.coin)
        for coin in (second.coin, forge.coin(second)):
            assert await manager.submit_coin(coin) == Held(coin.parent)
        assert manager.awaited_anchors() == [first.id, second.id]
        with pytest.raises(ProtocolError):
            await manager.submit_package(first.package())
        await service.settled()
        assert manager.awaited_anchors() == []


async def test_what_waits_for_an_anchor_above_a_dead_one_counts_at_last(
    forge: Forge,
) -> None:
    async with running(forge) as service:
        manager = service.manager
        good = forge.anchor(forge.genesis)
        await service.take(good)
        for _ in range(3):
            await manager.submit_coin(forge.coin(good))
        bad = forge.anchor(forge.genesis, body_fields={"state_root": bytes(32)})
        child = forge.anchor(bad)
        await service.take(bad)
        await manager.submit_coin(child.coin)
        vote = forge.coin(child)
        await manager.submit_coin(vote)
        for _ in range(4):
            await manager.submit_coin(forge.coin(bad))
        await service.settled()
        assert manager.status.value.tip == good.id
        assert manager.awaited_anchors() == [child.id]
        await manager.submit_package(child.package())
        await service.settled()
        assert manager.awaited_anchors() == []
        assert await manager.submit_coin(vote) is Outcome.KNOWN


async def test_who_sent_a_held_coin_answers_for_it(forge: Forge) -> None:
    start_ms = forge.network.birth_ms
    async with running(forge, start_ms=start_ms) as service:
        manager = service.manager
        told: list[str] = []
        anchor = forge.anchor(forge.genesis)
        forged = forge.forged_mix(anchor)
        ahead = start_ms + REG.future_limit_ms + 1_000
        early = forge.forged_mix(forge.genesis, time=ahead)
        for coin in (forged, forge.coin(anchor)):
            await manager.submit_coin(coin, sender=Teller(told))
        assert told == []
        await service.take(anchor)
        await service.settled()
        assert told == ["BAD_MIX"]
        # What waits for the clock alone is proven as it comes, and nothing of its sender stays.
        await manager.submit_coin(forge.coin(forge.anchor(anchor)), sender=Teller(told))
        assert manager.statistics().orphans == 1
        with pytest.raises(BadMixError):
            await manager.submit_coin(early, sender=Teller(told))
        assert manager.statistics().orphans == manager.statistics().early == 0


async def test_no_orphan_is_held_past_its_parent(forge: Forge) -> None:
    async with running(forge, writer=SlowRunner()) as service:
        manager = service.manager
        anchor = forge.anchor(forge.genesis)
        coin = forge.coin(anchor)
        await manager.submit_coin(anchor.coin)
        package = anchor.package()
        async with trio.open_nursery() as nursery:
            # while the writer is busy, first the coin and then its parent's body queue up
            nursery.start_soon(in_writer, manager, ChainCore.running_ms)
            await trio.sleep(0.001)
            nursery.start_soon(manager.submit_coin, coin)
            await trio.sleep(0.001)
            nursery.start_soon(
                in_writer,
                manager,
                lambda core: core.submit_proven_anchor(ProvenAnchor(package)),
            )
        await service.settled()
        assert manager.statistics().orphans == 0
        assert await in_writer(manager, lambda core: core.knows_coin(coin.id))


async def test_a_coin_ahead_of_the_clock_is_taken_in_when_its_time_comes(forge: Forge) -> None:
    start_ms = forge.network.birth_ms
    async with running(forge, start_ms=start_ms) as service:
        limit_ms = REG.future_limit_ms
        coins = [
            forge.coin(forge.genesis, time=start_ms + limit_ms + ahead)
            for ahead in (60_000, 1_000, 30_000)
        ]
        for coin in coins:
            assert await service.manager.submit_coin(coin) == Held(None)
        assert service.manager.statistics().early == 3
        for coin, after_s in ((coins[1], 2), (coins[2], 30), (coins[0], 30)):
            assert not await in_writer(service.manager, lambda core, c=coin: core.knows_coin(c.id))
            await trio.sleep(after_s)
            await service.settled()
            assert await in_writer(service.manager, lambda core, c=coin: core.knows_coin(c.id))
        assert service.manager.statistics().early == 0


async def test_a_package_is_condemned_for_a_forged_coin_only(forge: Forge) -> None:
    async with running(forge) as service:
        manager = service.manager
        forged = forge.forged_mix(forge.genesis)
        anchor = forge.anchor(forge.genesis, [forged, forge.coin(forge.genesis)])
        await manager.submit_coin(anchor.coin)
        with pytest.raises(BodyMissingError):
            await manager.submit_package(Package(anchor.coin, anchor.body, {}, {}))
        with pytest.raises(BadMixError):
            await manager.submit_package(anchor.package())
        with pytest.raises(ParentInvalidError):
            await manager.submit_coin(forge.coin(anchor))
        assert manager.status.value.height == 0


async def test_a_body_that_has_passed_is_told_before_its_anchor_is_connected(forge: Forge) -> None:
    async with running(forge, writer=SlowRunner()) as service:
        manager = service.manager
        anchor = forge.anchor(forge.genesis, [forge.coin(forge.genesis)])
        await manager.submit_coin(anchor.coin)
        with manager.changes.subscribe() as changes:
            outcome = await manager.submit_package(anchor.package(), connected=False)
            assert outcome is Outcome.ACCEPTED
            assert manager.recent_body(anchor.id) == (anchor.coin, anchor.body)
            assert manager.status.value.height == 0
            # Known from here on, whoever else hands it in.
            assert await manager.submit_package(anchor.package()) is Outcome.KNOWN
            await manager.status.wait_for(lambda status: status.tip == anchor.id)
            async for step in changes:
                assert not isinstance(step, Lost)
                assert not step.connected
                if [counted.coin.id for counted in step.counted] == [anchor.id]:
                    break
        second = forge.anchor(anchor)
        await manager.submit_coin(second.coin)
        await manager.submit_package(second.package())
        assert manager.status.value.tip == second.id


async def test_what_has_passed_is_connected_though_who_submitted_it_is_cancelled(
    forge: Forge,
) -> None:
    async with running(forge, writer=SlowRunner()) as service:
        manager = service.manager
        anchor = forge.anchor(forge.genesis)
        await manager.submit_coin(anchor.coin)
        with manager.changes.subscribe() as changes, trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(manager.submit_package, anchor.package())
                while manager.recent_body(anchor.id) is None:
                    await changes.receive()
                assert manager.status.value.height == 0
                scope.cancel()
        await manager.status.wait_for(lambda status: status.tip == anchor.id)


async def test_what_fails_when_it_is_connected_goes_on_counting(forge: Forge) -> None:
    async with running(forge, writer=SlowRunner()) as service:
        manager = service.manager
        wrong = forge.anchor(forge.genesis, body_fields={"state_root": bytes(32)})
        await manager.submit_coin(wrong.coin)
        await manager.submit_package(wrong.package(), connected=False)
        assert manager.recent_body(wrong.id) is not None
        await service.settled()
        assert manager.status.value.tip == forge.genesis.id
        # It counts, dead as it is: others ask for its body.
        assert manager.recent_body(wrong.id) is not None
        assert await manager.submit_coin(forge.coin(wrong)) is Outcome.ACCEPTED


async def test_a_chain_is_told_which_rule_it_breaks_though_a_choice_is_still_to_be_made(
    forge: Forge,
) -> None:
    async with running(forge, writer=SlowRunner()) as service:
        manager = service.manager
        first = forge.anchor(forge.genesis)
        wrong = forge.anchor(first, body_fields={"state_root": bytes(32)})
        await manager.submit_coin(first.coin)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(manager.submit_package, first.package()))
            done, error = await manager.submit_chain([first.package(), wrong.package()])
        assert done == 1
        assert isinstance(error, BadStateRootError)
        assert manager.status.value.tip == first.id


async def test_a_long_chain_ends_before_the_first_anchor_with_a_forged_proof(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_intake, "RUN_ANCHORS", 2)
    anchors = [forge.anchor(forge.genesis)]
    for _ in range(6):
        anchors.append(forge.anchor(anchors[-1]))
    forged = forge.forged_mix(anchors[3])
    packages = [anchor.package() for anchor in anchors]
    packages[4] = msgspec.structs.replace(packages[4], anchor=forged)
    async with running(forge, writer=SlowRunner()) as service:
        done, error = await service.manager.submit_chain(packages)
        assert (done, type(error)) == (4, BadMixError)
        assert service.manager.status.value.tip == anchors[3].id


async def test_a_long_chain_ends_at_the_first_anchor_that_breaks_a_rule(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_intake, "RUN_ANCHORS", 2)
    first = forge.anchor(forge.genesis)
    wrong = forge.anchor(first, body_fields={"state_root": bytes(32)})
    beyond = forge.anchor(wrong)
    async with running(forge, writer=SlowRunner()) as service:
        packages = [anchor.package() for anchor in (first, wrong, beyond, forge.anchor(beyond))]
        done, error = await service.manager.submit_chain(packages)
        assert (done, type(error)) == (1, BadStateRootError)
        # what was verified meanwhile was not taken in
        assert not await service.manager.queries.is_known(beyond.id)


async def test_a_long_chain_is_verified_ahead_of_the_writer(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_intake, "RUN_ANCHORS", 1)
    first = forge.anchor(forge.genesis)
    second = forge.anchor(first)
    async with running(forge, writer=SlowRunner()) as service, trio.open_nursery() as nursery:
        packages = [first.package(), second.package()]
        nursery.start_soon(service.manager.submit_chain, packages)
        await service.manager.status.wait_for(lambda status: status.height == 1)
        assert service.manager.statistics().mixes_verified == 2


async def test_a_restart_connects_what_had_passed(forge: Forge) -> None:
    store = MemoryStore()
    anchor = forge.anchor(forge.genesis)
    async with running(forge, store, writer=SlowRunner()) as service:
        await service.manager.submit_coin(anchor.coin)
        await service.manager.submit_package(anchor.package(), connected=False)
        assert service.manager.status.value.height == 0
    manager = await open_service(store, forge.now_ms, BACKEND, InlineRunner())
    assert manager.status.value.tip == anchor.id


async def ripe_coin(forge: Forge, service: Service) -> tuple[Forged, SizedTransfer]:
    first = forge.anchor(forge.genesis)
    await service.take(first)
    sized = forge.transfer([(first.id, 0)], [(REG.subsidy - 20_000, 1)], fee=20_000)
    return first, sized


async def test_a_transfer_is_verified_and_waits_across_restarts(forge: Forge) -> None:
    disk = MemoryDisk()
    async with running(forge, MemoryStore(disk)) as service:
        first, sized = await ripe_coin(forge, service)
        flipped = bytearray(sized.raw)
        flipped[-40] ^= 1
        with pytest.raises(BadSignatureError):
            await service.manager.submit_transfer(bytes(flipped))
        assert await service.manager.submit_transfer(sized.raw) is Outcome.ACCEPTED
        assert await service.manager.submit_transfer(sized.raw) is Outcome.KNOWN
        dust = forge.transfer([(first.id, 0)], [(1, 1)], fee=REG.subsidy - 1)
        with pytest.raises(PolicyError):
            await service.manager.submit_transfer(dust.raw)
        template = await service.manager.template()
        assert template.body.transfers == (sized.wid,)
    async with running(forge, MemoryStore(disk)) as service:
        assert service.manager.status.value.mempool.transfers == 1
        assert (await service.manager.template()).body.transfers == (sized.wid,)
        anchor = forge.anchor(first, (), (), [sized])
        await service.take(anchor)
        assert service.manager.status.value.tip == anchor.id
        assert service.manager.status.value.mempool.transfers == 0
        assert await service.manager.submit_transfer(sized.raw) is Outcome.KNOWN


async def test_a_hidden_transfer_is_shown_to_no_peer_until_it_comes_openly(forge: Forge) -> None:
    async with running(forge) as service:
        _, sized = await ripe_coin(forge, service)
        manager, wid = service.manager, sized.wid
        assert await manager.submit_transfer(sized.raw, hidden=True) is Outcome.ACCEPTED
        for _ in range(2):
            assert await manager.queries.transfers([wid], 1 << 20) == [b""]
            assert (await manager.template()).body.transfers == ()
            # Whoever asks for itself is told; and to be handed it in once more changes nothing.
            assert await manager.queries.waiting_transfer(wid) is not None
            assert await manager.submit_transfer(sized.raw, hidden=True) is Outcome.KNOWN
        assert await manager.submit_transfer(sized.raw) is Outcome.ACCEPTED
        assert await manager.submit_transfer(sized.raw) is Outcome.KNOWN
        assert not await manager.reveal_transfer(wid)
        assert await manager.queries.transfers([wid], 1 << 20) == [sized.raw]
        assert (await manager.template()).body.transfers == (wid,)


async def test_what_a_body_is_asked_for_does_not_tell_what_is_hidden(forge: Forge) -> None:
    async with running(forge) as service:
        _, sized = await ripe_coin(forge, service)
        manager = service.manager
        body = Body((), (), (sized.wid, b"y" * 32), bytes(32), bytes(32))
        unknown = await manager.queries.lacking([body])
        assert unknown.transfers == [sized.wid, b"y" * 32]
        await manager.submit_transfer(sized.raw, hidden=True)
        assert await manager.queries.lacking([body]) == unknown
        await manager.reveal_transfer(sized.wid)
        found = await manager.queries.lacking([body])
        assert found.transfers == [b"y" * 32]
        assert found.lengths == {sized.wid: len(sized.raw)}


async def test_a_hidden_transfer_is_shown_once_it_is_revealed_or_an_anchor_lists_it(
    forge: Forge,
) -> None:
    async with running(forge) as service:
        first, sized = await ripe_coin(forge, service)
        manager, wid = service.manager, sized.wid
        await manager.submit_transfer(sized.raw, hidden=True)
        listing = forge.anchor(first, (), (), [sized])
        await manager.submit_coin(listing.coin)
        # Not connected yet: what lists it is asked for by peers from here on.
        await manager.submit_package(listing.package(), connected=False)
        assert await manager.queries.transfers([wid], 1 << 20) == [sized.raw]
    async with running(forge) as service:
        await service.take(first)
        await service.manager.submit_transfer(sized.raw, hidden=True)
        assert await service.manager.reveal_transfer(wid)
        assert await service.manager.queries.transfers([wid], 1 << 20) == [sized.raw]


async def test_a_transfer_that_was_proven_where_it_was_made_is_not_verified_again(
    forge: Forge,
) -> None:
    async with running(forge) as service:
        first, sized = await ripe_coin(forge, service)
        proven = validate_transfer(sized.raw, REG).proven()
        before = service.manager.statistics()
        assert await service.manager.submit_transfer(proven) is Outcome.ACCEPTED
        after = service.manager.statistics()
        assert after.operations == before.operations + 1
        await service.take(forge.anchor(first, (), (), [sized]))
        assert service.manager.status.value.mempool.transfers == 0
        assert service.manager.statistics().transfers_validated == before.transfers_validated == 0
        # What the chain does not allow is refused all the same.
        dust = forge.transfer([(first.id, 0)], [(1, 1)], fee=REG.subsidy - 1)
        with pytest.raises(PolicyError):
            await service.manager.submit_transfer(validate_transfer(dust.raw, REG).proven())


async def test_transfers_expire(forge: Forge) -> None:
    async with running(forge) as service:
        _, sized = await ripe_coin(forge, service)
        await service.manager.submit_transfer(sized.raw)
        await trio.sleep(EXPIRY_MS / 1000 - 60)
        assert service.manager.status.value.mempool.transfers == 1
        await trio.sleep(1_200)
        assert service.manager.status.value.mempool.transfers == 0


async def test_in_bulk_a_batch_logs_its_last_anchor_alone(forge: Forge) -> None:
    anchors = [forge.anchor(forge.genesis)]
    for _ in range(3):
        anchors.append(forge.anchor(anchors[-1]))
    async with running(forge) as service:
        async with service.manager.bulk():
            await service.manager.submit_chain([anchor.package() for anchor in anchors[:3]])
        await service.manager.submit_chain([anchors[3].package()])
        said = [call.kwargs for call in service.logger.calls]
        heights = [told["height"] for told in said if told["event"] == "anchor.connected"]
        assert heights == [3, 4]


async def test_changes_tell_every_event_once(forge: Forge) -> None:
    async with running(forge) as service:
        manager = service.manager
        with manager.changes.subscribe() as subscription:
            first = forge.anchor(forge.genesis)
            other = forge.anchor(forge.genesis)
            await service.take(first, other)
            async with manager.bulk():
                tip = first
                for _ in range(3):
                    tip = forge.anchor(tip)
                    await service.take(tip)
            for _ in range(6):
                await manager.submit_coin(forge.coin(other))
            assert manager.status.value.tip == other.id
            events = []
            while len(events) < manager.status.value.next_event:
                step = await subscription.receive()
                assert not isinstance(step, Lost)
                if step.events:
                    assert step.first_event == len(events)
                events.extend(step.events)
        main, _, _ = replay_events(service.store, forge.genesis.id)
        assert main == [forge.genesis.id, other.id]


class FullStore(MemoryStore):
    """Has no space left once it is told so."""

    full = False

    def write(self, batch: Batch, *, sync: bool) -> None:
        if self.full:
            raise StoreFullError("no space left")
        super().write(batch, sync=sync)


async def test_a_failing_store_ends_the_service_and_leaves_a_chain_to_open(forge: Forge) -> None:
    disk = MemoryDisk()
    first = forge.anchor(forge.genesis)
    second = forge.anchor(first)
    store = FullStore(disk)
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - it fails as it is left
        async with running(forge, store) as service:
            await service.take(first)
            store.full = True
            await service.take(second)
    assert caught.group_contains(StoreFullError)
    async with running(forge, MemoryStore(disk)) as service:
        assert service.manager.status.value.tip == first.id
        await service.take(second)
        assert service.manager.status.value.tip == second.id


async def test_nobody_waits_for_a_service_that_has_ended(forge: Forge) -> None:
    store = FullStore()
    manager = await open_service(store, forge.now_ms, CountingBackend(), SlowRunner())
    anchor = forge.anchor(forge.genesis)
    turned_away = 0

    async def ask() -> None:
        nonlocal turned_away
        with pytest.raises(trio.ClosedResourceError):
            await in_writer(manager, ChainCore.running_ms)
        turned_away += 1

    async def fail() -> None:
        with pytest.raises(StoreFullError):
            await in_writer(
                manager,
                lambda core: core.submit_proven_coin(ProvenCoin(anchor.coin), forge.now_ms),
            )

    store.full = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await trio.testing.wait_all_tasks_blocked()
        # More than there is room for: some wait in the queue, and some before it.
        for _ in range(WRITER_QUEUE_MAX + 10):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ExceptionGroup) as caught:
            await manager.run()
    assert caught.group_contains(StoreFullError)
    assert turned_away >= WRITER_QUEUE_MAX + 10 - OPERATIONS_AT_ONCE
    with pytest.raises(trio.ClosedResourceError):
        await in_writer(manager, ChainCore.running_ms)


async def test_what_breaks_a_rule_does_not_end_the_service(forge: Forge) -> None:
    async with running(forge) as service:
        first = forge.anchor(forge.genesis, body_fields={"history_root": bytes(32)})
        await service.manager.submit_coin(first.coin)
        with pytest.raises(ProtocolError):
            await service.manager.submit_package(first.package())
        with pytest.raises(ProtocolError):
            await service.manager.submit_transfer(b"")
        await service.take(forge.anchor(forge.genesis))
        assert service.manager.status.value.height == 1


async def test_a_cancelled_task_leaves_no_coin_in_flight(forge: Forge) -> None:
    async with running(forge) as service:
        coin = forge.coin(forge.genesis)
        with trio.move_on_after(0.005):
            await service.manager.submit_coin(coin)
        assert await service.manager.submit_coin(coin) is Outcome.ACCEPTED


async def test_a_bug_of_ours_is_not_swallowed(forge: Forge) -> None:
    def broken(_core: ChainCore) -> CoinId:
        raise RuntimeError("a bug")

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - it fails as it is left
        async with running(forge) as service:
            with pytest.raises(RuntimeError):
                await in_writer(service.manager, broken)
            await trio.sleep_forever()
    assert caught.group_contains(RuntimeError, match="a bug")


async def test_what_changes_nothing_wakes_nobody(forge: Forge) -> None:
    async with running(forge) as service:
        before = service.manager.status.version
        await service.manager.queries.anchor_at(0)
        assert service.manager.status.version == before
        await service.manager.submit_coin(forge.coin(forge.genesis))
        assert service.manager.status.version > before


async def test_the_end_of_a_bulk_wakes_who_waits_for_its_events(forge: Forge) -> None:
    async with running(forge) as service:
        manager = service.manager
        async with manager.bulk():
            await manager.submit_chain([forge.anchor(forge.genesis).package()])
            seen, status = manager.status.version, manager.status.value
            assert len(list(schema.EVENT.scan(service.store))) < status.next_event
        # Nothing else has happened, and the events are on disk only now.
        await manager.status.wait_newer(seen)
        assert manager.status.value == status
        assert len(list(schema.EVENT.scan(service.store))) == status.next_event


async def test_a_bulk_that_is_cut_short_is_written(forge: Forge) -> None:
    async with running(forge) as service:
        with trio.CancelScope() as cut_short:
            async with service.manager.bulk():
                await service.manager.submit_chain([forge.anchor(forge.genesis).package()])
                cut_short.cancel()
        events = list(schema.EVENT.scan(service.store))
        assert len(events) == service.manager.status.value.next_event > 0
