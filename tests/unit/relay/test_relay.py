"""What relay publishes of the chain's changes, and what it leaves to gossip."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn

import pytest
import structlog
import trio
import trio.testing

from tests.framework.forge import Forge, Forged
from unchained.node.base.fanout import Broadcast
from unchained.node.chain.results import Changes, Held, Outcome, Package
from unchained.node.consensus.errors import BadStateRootError
from unchained.node.consensus.params import REG
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.eviction import News
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import wid_of
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.relay.message_price import message_price_ms
from unchained.node.relay.relay import ANNOUNCED_BODIES_MAX, ANNOUNCED_BODY_HEDGE_S, Relay
from unchained.node.transport.contract import PeerId, TopicLimits, Validator, Verdict
from unchained.node.wire.limits import COIN_GOSSIP, TRANSFER_GOSSIP, name_of
from unchained.storage.schema import TransferEntered, TransferLeft

GENESIS = CoinId(bytes(32))
TOPIC = name_of(GENESIS, TRANSFER_GOSSIP.name)
COIN_TOPIC = name_of(GENESIS, COIN_GOSSIP.name)
PEER = PeerId("peer")
RAW = b"a transfer's bytes"


class FakeChain:
    """Takes in one transfer, when the test says so."""

    network = REG

    def __init__(self) -> None:
        self.changes: Broadcast[Changes] = Broadcast(8)
        self.queries = self
        self.may_answer = trio.Event()
        self.is_known = False
        self.held = Held(None)

    async def submit_coin(self, _coin: Coin, *, sender: object) -> Held:
        await trio.lowlevel.checkpoint()
        return self.held

    async def submit_transfer(self, raw: bytes) -> Outcome:
        await self.may_answer.wait()
        return self.enter(raw)

    def enter(self, raw: bytes) -> Outcome:
        if self.is_known:
            return Outcome.KNOWN
        self.is_known = True
        self.changes.send(Changes(0, events=[TransferEntered(wid_of(raw))]))
        return Outcome.ACCEPTED

    def proven_transfer(self, _wid: Wid) -> None:
        """Nothing is remembered decoded."""

    async def submit_package(self, _package: Package, **_: object) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise BadStateRootError(expected="a root", actual="another")

    async def transfer_bytes(self, transfer_id: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return RAW if transfer_id == wid_of(RAW) else None


class FakeTransport:
    """Keeps what is published, and hands in what is gossiped."""

    def __init__(self) -> None:
        self.validators: dict[str, Validator] = {}
        self.published: list[tuple[str, bytes]] = []

    def subscribe(self, topic: str, validator: Validator, limits: TopicLimits) -> None:
        self.validators[topic] = validator

    async def publish(self, topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.published.append((topic, data))


class FakePeers:
    def __init__(self) -> None:
        self.there: list[PeerId] = []
        self.news: list[tuple[PeerId, News]] = []
        self.dropped: Broadcast[PeerId] = Broadcast(4)
        self.reputation = self
        self.paid: list[PeerId] = []
        self.excess: list[tuple[PeerId, float]] = []

    def greeted(self) -> list[PeerId]:
        return self.there

    def penalize(self, peer: PeerId, *_: object, ms: float) -> None:
        self.paid.append(peer)

    def charge_excess(self, peer: PeerId, _why: str, ms: float) -> None:
        self.excess.append((peer, ms))

    def note_news(self, peer: PeerId, kind: News) -> None:
        self.news.append((peer, kind))


class FakeStem:
    """Has under way what the test says."""

    def __init__(self) -> None:
        self.held: set[bytes] = set()
        self.public: list[bytes] = []

    def holds(self, wid: bytes) -> bool:
        return wid in self.held

    def note_public(self, wid: bytes) -> None:
        self.public.append(wid)


class FakeFollower:
    def __init__(self) -> None:
        self.wanted: list[PeerId] = []

    def want(self, peer: PeerId, anchor_id: CoinId) -> bool:
        self.wanted.append(peer)
        return True

    def news_from(self) -> int:
        return 0


class Bench:
    def __init__(self, fetcher: object = None) -> None:
        self.chain, self.transport, self.peers = FakeChain(), FakeTransport(), FakePeers()
        parts: Any = (self.chain, self.transport, fetcher, self.peers)
        self.stem, self.follower = FakeStem(), FakeFollower()
        self.relay = Relay(
            *parts,
            self.follower,
            self.stem,
            genesis_id=GENESIS,
            rng=random.Random(1),
            log=structlog.get_logger(),
        )
        self.verdicts: list[Verdict] = []

    async def gossip(self) -> None:
        """Have a peer's message validated."""
        self.verdicts.append(await self.transport.validators[TOPIC](PEER, RAW))


@asynccontextmanager
async def relaying() -> AsyncIterator[Bench]:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: bench.relay.run(task_status=task_status))
        yield bench
        nursery.cancel_scope.cancel()


@pytest.fixture
def bench() -> AbstractAsyncContextManager[Bench]:
    return relaying()


async def test_what_is_handed_in_here_is_published_once(bench: Bench) -> None:
    assert bench.chain.enter(RAW) is Outcome.ACCEPTED
    assert bench.chain.enter(RAW) is Outcome.KNOWN
    await trio.testing.wait_all_tasks_blocked()
    assert bench.transport.published == [(TOPIC, RAW)]


async def test_what_comes_by_gossip_is_left_to_gossip(bench: Bench) -> None:
    bench.chain.may_answer.set()
    await bench.gossip()
    assert bench.verdicts == [Verdict.ACCEPT]
    assert bench.peers.news == [(PEER, News.TRANSFER)]


async def test_what_comes_in_while_gossip_validates_it_is_forwarded_by_gossip(
    bench: Bench,
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.gossip)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.chain.enter(RAW) is Outcome.ACCEPTED
        await trio.testing.wait_all_tasks_blocked()
        assert bench.transport.published == []
        bench.chain.may_answer.set()
    assert bench.verdicts == [Verdict.ACCEPT]
    assert bench.transport.published == []


async def test_what_was_known_before_is_not_forwarded(bench: Bench) -> None:
    bench.chain.enter(RAW)
    await trio.testing.wait_all_tasks_blocked()
    bench.chain.may_answer.set()
    await bench.gossip()
    assert bench.verdicts == [Verdict.IGNORE]
    assert bench.transport.published == [(TOPIC, RAW)]


async def test_what_is_of_no_use_costs_its_sender(bench: Bench) -> None:
    bench.chain.may_answer.set()
    await bench.gossip()
    assert bench.peers.excess == []
    # Else what is handed in again meanwhile counts as having come by another way.
    await trio.testing.wait_all_tasks_blocked()
    await bench.gossip()
    assert bench.verdicts == [Verdict.ACCEPT, Verdict.IGNORE]
    assert bench.peers.excess == [(PEER, message_price_ms(len(RAW)))]


async def test_a_coin_costs_each_time_that_it_comes_before_its_time(bench: Bench) -> None:
    coin = Forge(REG).coin(Forge(REG).genesis)
    for count in (1, 2):
        verdict = await bench.transport.validators[COIN_TOPIC](PEER, coin.raw)
        assert verdict is Verdict.DEFER
        assert bench.peers.excess == [(PEER, message_price_ms(len(coin.raw)))] * count
    bench.peers.excess.clear()
    bench.chain.held = Held(coin.parent)
    verdict = await bench.transport.validators[COIN_TOPIC](PEER, coin.raw)
    assert verdict is Verdict.IGNORE
    assert bench.peers.excess == [(PEER, message_price_ms(len(coin.raw)))]
    # It takes a place besides.
    assert bench.peers.paid == [PEER]


async def test_what_is_under_way_in_a_stem_is_not_published(bench: Bench) -> None:
    bench.stem.held.add(wid_of(RAW))
    assert bench.chain.enter(RAW) is Outcome.ACCEPTED
    await trio.testing.wait_all_tasks_blocked()
    assert bench.transport.published == []


async def test_the_stem_hears_of_what_gossip_brings_and_of_what_leaves_the_mempool(
    bench: Bench,
) -> None:
    bench.chain.may_answer.set()
    await bench.gossip()
    assert bench.stem.public == [wid_of(RAW)]
    bench.chain.changes.send(Changes(0, events=[TransferLeft(b"left".ljust(32), 1)]))
    await trio.testing.wait_all_tasks_blocked()
    assert bench.stem.public[1:] == [b"left".ljust(32)]


class SilentFetcher:
    """Whoever is asked for a body does not answer."""

    async def packages(self, *_: object) -> NoReturn:
        await trio.sleep_forever()
        raise AssertionError


@pytest.mark.parametrize(("after_s", "paid"), [(0.1, []), (ANNOUNCED_BODY_HEDGE_S, [PEER])])
async def test_who_announced_a_body_does_not_pay_where_it_was_not_waited_for(
    after_s: float, paid: list[PeerId]
) -> None:
    bench = Bench(SilentFetcher())
    forge = Forge(REG)
    coin = forge.coin(forge.genesis)
    header = AnchorHeader.of(coin, forge.genesis.body)

    async def fetch(peer: PeerId) -> None:
        await bench.relay._fetch_body(peer, coin, header)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, PEER)
        await trio.sleep(after_s)
        for number in range(ANNOUNCED_BODIES_MAX):
            nursery.start_soon(fetch, PeerId(f"other {number}"))
        await trio.testing.wait_all_tasks_blocked()
        assert bench.follower.wanted == [PEER]
        assert bench.peers.paid == paid
        nursery.cancel_scope.cancel()


class OneFetcher:
    """The announcer does not answer; another has a body."""

    def __init__(self, anchor: Forged) -> None:
        self._package = anchor.package()

    async def packages(self, source: PeerId, *_: object) -> list[Package]:
        if source == PEER:
            await trio.sleep_forever()
        return [self._package]


async def test_who_gave_a_body_that_breaks_a_rule_pays_for_it_and_not_its_announcer() -> None:
    forge = Forge(REG)
    anchor = forge.anchor(forge.genesis)
    bench = Bench(OneFetcher(anchor))
    bench.peers.there = [PEER, PeerId("other")]
    header = AnchorHeader.of(anchor.coin, anchor.body)
    assert await bench.relay._take_body(PEER, anchor.coin, header) is Verdict.IGNORE
    # The one pays for what did not come, the other for what it gave.
    assert bench.peers.paid == [PEER, "other"]
