"""A hostile peer among whole nodes: it is banned or ignored as the table says, and they go on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest
import trio

from tests.framework.simulation.memory_network import MemoryTransport
from tests.framework.simulation.simnet import (
    EPOCH_S,
    SIM,
    SimNet,
    SimNode,
    lengthen,
    simulate,
    solve,
)
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Package, ProvenAnchor, ProvenCoin
from unchained.node.chain.template import Template, build_template
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.node.crypto.anchor_header import AnchorHeader, ListDigest
from unchained.node.peers.address_book import BUCKET_SIZE, NEW_BUCKETS_OF_SOURCE
from unchained.node.peers.reputation import GONE_PEERS_MAX
from unchained.node.primitives.body import Body
from unchained.node.primitives.codec import encode
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.relay.relay import ANNOUNCED_BODIES_MAX, ANNOUNCED_BODY_HEDGE_S
from unchained.node.sync.comparison_limits import COMPARISONS_BURST, COMPARISONS_PER_EPOCH
from unchained.node.sync.long_sync import LITTLE_WORK
from unchained.node.sync.service import (
    LONG_SYNC_ANCHORS,
    USELESS_HEADER_PRICE_MS,
    USELESS_TIP_PRICE_MS,
)
from unchained.node.transport.contract import PeerId, ServeLimits, TopicLimits, Verdict
from unchained.node.wire import limits
from unchained.node.wire import messages as wire
from unchained.node.wire.limits import ANCHOR_GOSSIP, name_of

LOCK = Lock(b"hostile".ljust(32, b"."))


class Hostile:
    """A bare transport that serves what it is asked to and gossips what it likes."""

    def __init__(self, net: SimNet, ip: str = "66.6.0.6", name: str = "hostile") -> None:
        self.net = net
        self.transport: MemoryTransport = net.transport(name, ip)
        self.genesis = genesis_of(net.params).id
        self.tip = self.genesis
        self.height = 0
        self.work = bytes(32)
        self.asked: list[str] = []
        self.payloads: list[tuple[str, bytes]] = []
        self.answers: dict[str, bytes] = {}
        self.stalls: set[str] = set()
        for topic in limits.TOPICS:
            self.transport.subscribe(
                name_of(self.genesis, topic.name), self._validate, TopicLimits(max_size=1 << 20)
            )
        for exchange in limits.EXCHANGES:
            self.transport.serve(
                name_of(self.genesis, exchange.name),
                self._answerer(exchange.name),
                ServeLimits(1 << 20, 64, 64),
            )

    async def _validate(self, _peer: PeerId, _data: bytes) -> Verdict:
        return Verdict.IGNORE

    def _answerer(self, name: str) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
        async def answer(_peer: PeerId, payload: bytes) -> bytes:
            self.asked.append(name)
            self.payloads.append((name, payload))
            if name in self.stalls:
                await trio.sleep_forever()
            if name == "status" and name not in self.answers:
                return wire.STATUS_EXCHANGE.answer(self.status())
            return self.answers.get(name, wire.refusal(wire.Code.NOT_FOUND))

        return answer

    async def join(self, nodes: list[SimNode]) -> None:
        await self.net.run_transport(self.transport)
        for node in nodes:
            await self.transport.connect(node.transport.address)
        await trio.sleep(2)

    def status(self) -> wire.Status:
        clock = self.net.start_ms + int(trio.current_time() * 1000)
        return wire.Status(self.genesis, self.tip, self.height, self.work, 1, clock)

    async def tell_status(self, node: SimNode) -> None:
        """Say how it stands without being asked."""
        await self.transport.request(
            node.transport.id,
            name_of(self.genesis, "status"),
            encode(self.status()),
            max_response=1024,
            timeout=5,
        )

    async def gossip(self, kind: str, data: bytes) -> None:
        await self.transport.publish(name_of(self.genesis, kind), data)

    def is_banned_by(self, node: SimNode) -> bool:
        groups = [ban.group for ban in node.network.peers.reputation.active_bans()]
        return groups == [self.transport.ip]

    def is_connected_to(self, node: SimNode) -> bool:
        return any(info.peer == self.transport.id for info in node.transport.peers())


@asynccontextmanager
async def against(
    seed: int, params: Network = SIM
) -> AsyncIterator[tuple[SimNet, list[SimNode], Hostile]]:
    """Give three honest miners and a hostile peer of the first; they go on."""
    async with simulate(seed, params=params) as net:
        nodes = await net.grow(3)
        await net.until(lambda: nodes[0].height >= 2, "under way", 200)
        hostile = Hostile(net)
        yield net, nodes, hostile
        height = nodes[0].height
        await net.until(lambda: min(node.height for node in nodes) >= height + 2, "going on", 200)
        await net.agree(within_s=EPOCH_S)
        for node in nodes:
            statistics = node.network.statistics()
            assert statistics.transport.faults == 0
            assert not any(
                ban.group == other.ip
                for ban in node.network.peers.reputation.active_bans()
                for other in nodes
            )


async def template_of(node: SimNode) -> Template:
    template: Template = await node.core(lambda core: build_template(core, core.admission.now_ms))
    return template


def forged(template: Template, nonce: int) -> Coin:
    """Return a coin whose id is below the target and whose mix is made up."""
    header = template.header(lock=LOCK, time=template.parent_time + 1, nonce=nonce)
    while True:
        coin = Coin.assemble(header, os.urandom(32))
        if int.from_bytes(coin.id, "big") <= header.target:
            return coin


async def test_forged_proofs_ban_at_once_and_two_at_most_are_verified() -> None:
    async with against(21) as (net, nodes, hostile):
        await hostile.join(nodes[:1])
        before = nodes[0].chain.statistics()
        template = await template_of(nodes[0])
        for nonce in range(50):
            await hostile.gossip("coin", forged(template, nonce).raw)
        await net.until(lambda: hostile.is_banned_by(nodes[0]), "banned", 5)
        after = nodes[0].chain.statistics()
        assert after.mixes_verified - after.coins - (before.mixes_verified - before.coins) <= 2
        await net.until(lambda: not hostile.is_connected_to(nodes[0]), "gone", 5)
        assert nodes[0].network.relay.statistics().rules["BAD_MIX"] <= 2
        assert not hostile.is_banned_by(nodes[1])


async def test_forged_proofs_ban_who_has_stayed_while_thousands_came_and_went() -> None:
    async with against(21) as (net, nodes, hostile):
        node = nodes[0]
        net.pause_mining()
        await hostile.join([node])
        for number in range(GONE_PEERS_MAX):
            visitor = net.transport(f"visitor {number}", "77.7.0.7")
            async with trio.open_nursery() as nursery:
                await nursery.start(visitor.run)
                await visitor.connect(node.transport.address)
                nursery.cancel_scope.cancel()
        assert hostile.is_connected_to(node)
        before = node.chain.statistics().mixes_verified
        template = await template_of(node)
        for nonce in range(100):
            await hostile.gossip("coin", forged(template, nonce).raw)
        await net.until(lambda: hostile.is_banned_by(node), "banned", 5)
        await net.until(lambda: not hostile.is_connected_to(node), "gone", 5)
        assert node.chain.statistics().mixes_verified - before <= 2
        net.resume_mining()


async def test_a_forged_proof_bans_even_when_the_coin_had_to_wait() -> None:
    async with against(31) as (net, nodes, hostile):
        net.pause_mining()
        await net.agree(within_s=EPOCH_S)
        hidden = await hidden_chain(net, nodes[0], 1)
        await hostile.join(nodes[:1])
        await hostile.gossip("coin", forged(await template_of(hidden), 0).raw)
        await net.until(lambda: nodes[0].chain.statistics().orphans == 1, "held", 5)
        assert not hostile.is_banned_by(nodes[0])
        await hidden.transport.connect(nodes[0].transport.address)
        await net.until(lambda: hostile.is_banned_by(nodes[0]), "banned", 60)
        assert nodes[0].chain.statistics().orphans == 0
        net.resume_mining()


async def test_garbage_on_each_topic_bans() -> None:
    async with against(22) as (net, nodes, hostile):
        await net.run_transport(hostile.transport)
        for kind, node in zip(("coin", "anchor", "transfer"), nodes, strict=True):
            await hostile.transport.connect(node.transport.address)
            await trio.sleep(2)
            await hostile.gossip(kind, b"\xc1 garbage " + kind.encode())
            await net.until(lambda node=node: hostile.is_banned_by(node), kind, 5)  # type: ignore[misc]


async def test_answers_to_other_questions_ban() -> None:
    async with against(23) as (net, nodes, hostile):
        # Headers that are no child of anything in the locator.
        header = await nodes[0].core(_first_header)
        odd = msgspec.structs.replace(header, coin=Coin.from_bytes(header.coin).raw)
        hostile.answers["headers"] = wire.HEADERS_EXCHANGE.answer((odd, odd))
        hostile.tip, hostile.height = CoinId(b"\x01" * 32), 10
        await hostile.join(nodes[:1])
        await net.until(lambda: hostile.is_banned_by(nodes[0]), "banned", 20)


def _first_header(core: ChainCore) -> AnchorHeader:
    node = core.tree.main_at(1)
    assert node is not None
    return AnchorHeader.of(node.coin, node.validated.body)


async def test_a_heavier_chain_that_is_only_claimed_stops_nobody() -> None:
    async with against(24) as (_net, nodes, hostile):
        hostile.tip, hostile.height, hostile.work = CoinId(b"\x01" * 32), 10**6, b"\xff" * 32
        await hostile.join(nodes)
        for _ in range(20):
            await trio.sleep(EPOCH_S / 4)
            assert all(node.network.synced.value for node in nodes)
        assert hostile.asked.count("headers") < 3 * 12
        assert "bodies" not in hostile.asked


async def hidden_chain(net: SimNet, node: SimNode, count: int) -> SimNode:
    """Return a node that nobody knows, with a chain of its own on the other's."""
    hidden = net.node(name="hidden")
    for key, value in node.disk.values.items():
        hidden.disk.values[key] = value
    await hidden.start()
    await hidden.core(lambda core: lengthen(core, count, plain=0, lock=b"hidden"))
    return hidden


async def test_headers_that_never_get_bodies_are_not_waited_for() -> None:
    async with against(25) as (net, nodes, hostile):
        hidden = await hidden_chain(net, nodes[0], 5)
        base = hidden.height - 5
        headers = await hidden.core(
            lambda core: tuple(
                AnchorHeader.of(found.coin, found.validated.body)
                for height in range(base + 1, core.tip.height + 1)
                if (found := core.tree.main_at(height)) is not None
            )
        )
        hostile.answers["headers"] = wire.HEADERS_EXCHANGE.answer(headers)
        hostile.tip, hostile.height = hidden.tip, hidden.height
        await hidden.stop()
        net.nodes.remove(hidden)
        await hostile.join(nodes)
        await trio.sleep(EPOCH_S)
        assert "bodies" in hostile.asked
        for node in nodes:
            assert node.network.synced.value
            assert await node.core(lambda core: core.tree.get(hostile.tip)) is None


async def mined(node: SimNode, nonce: int = 0) -> tuple[Coin, Body]:
    """Return an anchor on a node's tip that nobody has, and its body."""

    def mine(core: ChainCore) -> tuple[Coin, Body]:
        template = build_template(core, core.tip.context.time)
        header = template.header(lock=LOCK, time=template.parent_time + 1, nonce=nonce)
        return solve(header, core.network, True), template.body

    found: tuple[Coin, Body] = await node.core(mine)
    return found


async def test_an_announcer_that_stalls_delays_an_anchor_little() -> None:
    async with against(30) as (net, nodes, hostile):
        net.pause_mining()
        await net.agree(within_s=EPOCH_S)
        await hostile.join(nodes[:1])
        hostile.stalls = {"bodies", "coins", "status"}
        anchor, its_body = await mined(nodes[1])
        relay = nodes[0].network.relay
        fetched = relay.statistics().bodies_fetched
        # It hears of an anchor before others do, and announces it first.
        header = AnchorHeader.of(anchor, its_body)
        await hostile.gossip("anchor", header.to_bytes())
        await net.until(lambda: "bodies" in hostile.asked, "asked", 2, step_s=0.05)
        await nodes[1].chain.submit_coin(anchor)
        await nodes[1].chain.submit_package(Package(anchor, its_body, {}, {}))
        await net.until(
            lambda: relay.statistics().bodies_fetched > fetched,
            "fetched",
            ANNOUNCED_BODY_HEDGE_S + 1,
        )
        await net.until(lambda: nodes[0].tip == anchor.id, "taken in", 1)
        assert nodes[0].network.peers.statistics().penalties["cost"] >= 1
        net.resume_mining()


async def test_bodies_that_are_withheld_hold_up_no_other_anchor() -> None:
    async with against(32) as (net, nodes, _):
        net.pause_mining()
        await net.agree(within_s=EPOCH_S)
        each = ANCHOR_GOSSIP.max_per_peer
        withheld = [
            AnchorHeader.of(*await mined(nodes[0], nonce << 32))
            for nonce in range(ANNOUNCED_BODIES_MAX + 4 * each)
        ]
        thieves = [
            Hostile(net, f"{70 + number}.6.0.6", name=f"hostile {number}")
            for number in range(len(withheld) // each)
        ]
        for thief in thieves:
            thief.stalls = {"bodies"}
            await net.run_transport(thief.transport)
            await thief.transport.connect(nodes[0].transport.address)
        await trio.sleep(2)
        for number, thief in enumerate(thieves):
            for header in withheld[each * number : each * (number + 1)]:
                await thief.gossip("anchor", header.to_bytes())
        places = ANNOUNCED_BODIES_MAX // each
        await net.until(
            lambda: sum("bodies" in thief.asked for thief in thieves) >= places, "held", 1, 0.05
        )
        relay = nodes[0].network.relay
        fetched = relay.statistics().bodies_fetched
        anchor, its_body = await mined(nodes[1], 1 << 62)
        await nodes[1].chain.submit_coin(anchor)
        await nodes[1].chain.submit_package(Package(anchor, its_body, {}, {}))
        await net.until(lambda: relay.statistics().bodies_fetched > fetched, "fetched", 1, 0.05)
        await net.until(lambda: nodes[0].tip == anchor.id, "taken in", 1)
        net.resume_mining()


async def test_an_announcement_of_too_many_coins_is_not_followed() -> None:
    async with against(31) as (net, nodes, hostile):
        net.pause_mining()
        await net.agree(within_s=EPOCH_S)
        await hostile.join(nodes[:1])
        template = await template_of(nodes[0])
        full = AnchorHeader.of(Coin.from_bytes(bytes(198)), template.body)
        for name, rule in (("fresh", "TOO_MANY_COINS"), ("transfers", None)):
            long = ListDigest(10_000, bytes(32))
            odd = msgspec.structs.replace(full, **{name: long})
            header = msgspec.structs.replace(
                template.header(lock=LOCK, time=template.parent_time + 1),
                body_root=odd.body_root(),
            )
            anchor = solve(header, SIM, True)
            odd = msgspec.structs.replace(odd, coin=anchor.raw)
            await hostile.gossip("anchor", odd.to_bytes())
            await trio.sleep(2)
            assert await nodes[0].core(lambda core, anchor=anchor: core.knows_coin(anchor.id))
            rules = nodes[0].network.relay.statistics().rules
            assert rule is None or rules == {rule: 1}
        assert "bodies" not in hostile.asked
        net.resume_mining()


RETARGETING = msgspec.structs.replace(
    SIM, tau_ms=32_000, target0=2**252, max_target=2**256 - 1, window=4
)
"""SIM whose targets follow the clock, up to sixteen times the first."""


@pytest.mark.parametrize("params", [SIM, RETARGETING], ids=["of_full_targets", "of_weak_targets"])
async def test_a_stale_fork_is_fetched_as_far_as_its_targets_allow(params: Network) -> None:
    """The fork's anchors are so far apart in time that its targets rise where they may."""
    async with against(26, params) as (net, nodes, hostile):
        hidden = net.node(name="hidden")
        await hidden.start()
        await hidden.core(lambda core: lengthen(core, 3, plain=0, step_ms=200_000, lock=b"hidden"))
        tip = hidden.tip
        headers = await hidden.core(
            lambda core: tuple(
                AnchorHeader.of(found.coin, found.validated.body)
                for height in range(1, core.tip.height + 1)
                if (found := core.tree.main_at(height)) is not None
            )
        )
        await hidden.stop()
        net.nodes.remove(hidden)
        await net.until(lambda: nodes[0].height >= params.window + 20, "far ahead", 1_000)
        hostile.answers["headers"] = wire.HEADERS_EXCHANGE.answer(headers)
        hostile.tip, hostile.height = tip, 3
        await hostile.join(nodes[:1])
        await trio.sleep(EPOCH_S)
        assert "headers" in hostile.asked
        asked = {
            CoinId(anchor_id)
            for name, payload in hostile.payloads
            if name == "bodies"
            for anchor_id in cast("wire.Ids", wire.BODIES_EXCHANGE.decode_request(payload))
        }
        ids = [Coin.from_bytes(header.coin).id for header in headers]
        # The children of the second one have a target of more than twice the main chain's.
        assert asked == set(ids if params is SIM else ids[:1])
        assert await nodes[0].core(lambda core: core.tree.get(tip)) is None
        assert not hostile.is_banned_by(nodes[0])


async def headers_of(node: SimNode, first: int) -> tuple[AnchorHeader, ...]:
    """Return the headers of a node's main chain from a height on."""

    def read(core: ChainCore) -> tuple[AnchorHeader, ...]:
        found = [core.tree.main_at(height) for height in range(first, core.tip.height + 1)]
        return tuple(AnchorHeader.of(node.coin, node.validated.body) for node in found if node)

    headers: tuple[AnchorHeader, ...] = await node.core(read)
    return headers


async def test_a_chain_of_little_work_costs_who_offers_it_more_the_longer_it_is() -> None:
    async with against(41, RETARGETING) as (net, nodes, hostile):
        hidden = net.node(name="hidden")
        await hidden.start()
        await hidden.core(lambda core: lengthen(core, 3, plain=0, step_ms=200_000, lock=b"hidden"))
        headers = await headers_of(hidden, 1)
        first = await hidden.core(lambda core: core.tree.main_at(1).validated.body)
        # The targets allow its first anchor, and no more.
        hostile.answers["bodies"] = wire.BODIES_EXCHANGE.answer(((first,),))
        await hidden.stop()
        net.nodes.remove(hidden)
        await net.until(lambda: nodes[0].height >= RETARGETING.window + 20, "far ahead", 1_000)
        costs = []

        def note(_: object, _peer: PeerId, _penalty: object, why: str, *, ms: float = 0.0) -> None:
            costs.append((why, ms))

        reputation = nodes[0].network.peers.reputation
        reputation.penalize = note.__get__(reputation)  # type: ignore[method-assign]
        for count in (2, 3):
            hostile.answers["headers"] = wire.HEADERS_EXCHANGE.answer(headers[:count])
            hostile.tip, hostile.height = Coin.from_bytes(headers[count - 1].coin).id, count
            if count == 2:
                await hostile.join(nodes[:1])
            await trio.sleep(2 * EPOCH_S)
        little = [ms for why, ms in costs if why == f"sync: {LITTLE_WORK}"]
        price = USELESS_TIP_PRICE_MS
        assert little[0] == price + 2 * USELESS_HEADER_PRICE_MS
        assert little[-1] == price + 3 * USELESS_HEADER_PRICE_MS


async def test_headers_that_do_not_lead_to_their_tip_are_asked_for_less_and_less() -> None:
    async with against(42) as (_net, nodes, hostile):
        hostile.answers["headers"] = wire.HEADERS_EXCHANGE.answer(())
        hostile.tip, hostile.height = CoinId(b"\x01" * 32), 10**6
        await hostile.join(nodes[:1])
        await trio.sleep(20 * EPOCH_S)
        # After 5, 10, 20, 40 and 80 seconds, not every few seconds.
        assert 2 <= hostile.asked.count("headers") <= 6


async def test_a_peer_that_has_us_read_our_own_chain_again_is_banned() -> None:
    async with against(43) as (net, nodes, hostile):
        await net.until(lambda: nodes[0].height >= 24, "some chain", 1_000)
        headers = await headers_of(nodes[0], 1)
        hostile.answers["headers"] = wire.HEADERS_EXCHANGE.answer(headers)
        hostile.tip, hostile.height = CoinId(b"\x01" * 32), 10**6
        await hostile.join(nodes[:1])
        await net.until(lambda: hostile.is_banned_by(nodes[0]), "banned", 20)


async def test_a_tip_that_leaps_from_branch_to_branch_is_compared_now_and_then() -> None:
    async with against(45) as (net, nodes, hostile):
        net.pause_mining()
        await net.agree(within_s=EPOCH_S)
        rivals = [await mined(nodes[0], nonce << 32) for nonce in range(3)]
        for anchor, its_body in rivals:
            await nodes[0].chain.submit_coin(anchor)
            await nodes[0].chain.submit_package(Package(anchor, its_body, {}, {}))
        net.resume_mining()
        stale = [anchor.id for anchor, _ in rivals if anchor.id != nodes[0].tip]
        await net.until(lambda: nodes[0].height >= rivals[0][0].height + 3, "far below", 200)
        net.pause_mining()
        await net.agree(within_s=EPOCH_S)
        await hostile.join(nodes[:1])
        began, asked = trio.current_time(), hostile.asked.count("votes")
        for at in range(120):
            hostile.tip, hostile.height = stale[at % 2], rivals[0][0].height
            await hostile.tell_status(nodes[0])
            await trio.sleep(0.5)
        epochs = (trio.current_time() - began) / EPOCH_S
        compared = hostile.asked.count("votes") - asked
        assert 2 <= compared <= COMPARISONS_BURST + COMPARISONS_PER_EPOCH * epochs + 1
        assert not hostile.is_banned_by(nodes[0])
        net.resume_mining()


async def test_mining_does_not_rest_for_a_long_chain_of_forged_proofs() -> None:
    async with against(44) as (net, nodes, hostile):
        hidden = net.node(name="hidden")
        await hidden.start()
        await hidden.core(lambda core: lengthen_forged(core, LONG_SYNC_ANCHORS + 40))
        headers = await headers_of(hidden, 1)
        tip = hidden.tip
        await hidden.stop()
        net.nodes.remove(hidden)
        most = wire.HEADERS_EXCHANGE.limits.max_items
        hostile.answers["headers"] = wire.HEADERS_EXCHANGE.answer(headers[:most])
        hostile.tip, hostile.height = tip, len(headers)
        assert nodes[0].network.synced.value
        version, _ = await nodes[0].network.synced.wait_newer(-1)
        await hostile.join(nodes[:1])
        await net.until(lambda: hostile.is_banned_by(nodes[0]), "banned", 20)
        with trio.move_on_after(2 * EPOCH_S) as waited:
            await nodes[0].network.synced.wait_newer(version)
        assert waited.cancelled_caught, "it never was behind"


def lengthen_forged(core: ChainCore, count: int) -> None:
    """Let a chain grow by anchors whose mixes are made up."""
    for _ in range(count):
        template = build_template(core, core.tip.context.time)
        header = template.header(lock=LOCK, time=template.parent_time + 500)
        mix = 0
        while not is_anchor_grade(coin := Coin.assemble(header, mix.to_bytes(32, "big")), SIM):
            mix += 1
        core.submit_proven_coin(ProvenCoin(coin), 2**62)
        core.submit_proven_anchor(ProvenAnchor(Package(coin, template.body, {}, {})))


async def test_coins_of_the_future_are_held_and_coins_of_the_past_refused() -> None:
    async with against(27) as (net, nodes, hostile):
        await hostile.join(nodes[:1])
        template = await template_of(nodes[0])
        # Protocol §3.3: held if "at most 2 * FUTURE_LIMIT ahead"
        now_ms = net.start_ms + int(trio.current_time() * 1_000)
        future = now_ms + 3 * SIM.future_limit_ms // 2
        for nonce in range(40):
            header = template.header(lock=LOCK, time=future + nonce, nonce=nonce << 32)
            await hostile.gossip("coin", solve(header, SIM).raw)
        await trio.sleep(1)
        assert not hostile.is_banned_by(nodes[0])
        assert nodes[0].chain.statistics().early == 40
        for nonce in range(40):
            header = template.header(lock=LOCK, time=template.parent_time, nonce=nonce << 32)
            await hostile.gossip("coin", solve(header, SIM).raw)
        await net.until(lambda: hostile.is_banned_by(nodes[0]), "banned", 5)


async def test_who_sends_coins_of_made_up_parents_is_disconnected() -> None:
    async with against(28) as (net, nodes, hostile):
        await hostile.join(nodes[:1])
        template = await template_of(nodes[0])
        number = 0

        async def send_while_connected() -> int:
            nonlocal number
            before = number
            while hostile.is_connected_to(nodes[0]):
                number += 1
                assert number < 20_000
                header = msgspec.structs.replace(
                    template.header(lock=LOCK, time=template.parent_time + 1),
                    parent=CoinId(number.to_bytes(32, "big")),
                    target=2**256 - 1,
                )
                await hostile.gossip("coin", Coin.assemble(header, bytes(32)).raw)
                await trio.sleep(0.001)
            return number - before

        first = await send_while_connected()
        # Who comes again begins where it left off.
        await net.until(lambda: not hostile.transport.peers(), "gone", 5)
        await hostile.transport.connect(nodes[0].transport.address)
        assert await send_while_connected() < first / 4
        assert not hostile.is_banned_by(nodes[0])


async def test_addresses_by_the_million_fill_few_places() -> None:
    async with against(29) as (net, nodes, hostile):
        fresh = net.node(name="fresh", ip="77.7.0.1")
        fresh.bootstrap = (hostile.transport.address, nodes[0].transport.address)
        await net.run_transport(hostile.transport)
        count = 0

        def page() -> bytes:
            nonlocal count
            texts = []
            for _ in range(256):
                count += 1
                ip = f"{100 + count % 20}.{count // 20 % 250}.{count // 5000 % 250}.1"
                texts.append(f"/ip4/{ip}/tcp/9000/p2p/{'1' * 44}".encode())
            return wire.ADDRESSES_EXCHANGE.answer(tuple(texts))

        hostile.answers["addresses"] = page()
        await fresh.start()
        for _ in range(400):
            await trio.sleep(60 if count < 20_000 else 1)
            hostile.answers["addresses"] = page()
            if hostile.asked.count("addresses") > 3:
                break
        assert len(fresh.network.peers.book) <= NEW_BUCKETS_OF_SOURCE * BUCKET_SIZE + 16
        # By hand, without the rate at which it asks: one source reaches its own buckets only.
        book = fresh.network.peers.book
        for number in range(100_000):
            ip = f"{100 + number % 20}.{number // 20 % 250}.{number // 5000 % 250}.1"
            book.add(f"/ip4/{ip}/tcp/9000/p2p/{'1' * 44}", "66.6.0.0/16", 10**12)
        assert len(book) <= NEW_BUCKETS_OF_SOURCE * BUCKET_SIZE + 16
        await fresh.stop()
        net.nodes.remove(fresh)
