"""Long syncs of whole nodes: header chains compared, bodies from many, crashes, stalls."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.framework.simulation.simnet import EPOCH_S, SIM, SimNet, SimNode, lengthen, simulate
from unchained.node.consensus.genesis import genesis_of
from unchained.node.primitives.types import CoinId
from unchained.node.sync.downloader import SYNC_BATCH_ANCHORS, SYNC_HEDGE_S
from unchained.node.sync.header_lead import LEAD_GRACE_S
from unchained.node.sync.late_rest import LATE_REST_S
from unchained.node.sync.proof_sample import PROOFS_DRAWN
from unchained.node.sync.service import LONG_SYNC_ANCHORS, SyncSettings
from unchained.node.transport.contract import PeerId
from unchained.node.wire.limits import name_of
from unchained.node.wire.messages import (
    BODIES_EXCHANGE,
    HEADERS_EXCHANGE,
    OWN_TIP,
    Code,
    Exchange,
    refusal,
)
from unchained.storage.memory import MemoryDisk

ANCHORS = LONG_SYNC_ANCHORS + 150

Stalled = Callable[[Any], bool]
"""Whether a request, decoded, is not answered."""


def copy_of(disk: MemoryDisk) -> MemoryDisk:
    copy = MemoryDisk()
    copy.values.update(disk.values)
    return copy


async def old_nodes(net: SimNet, count: int, anchors: int = ANCHORS) -> list[SimNode]:
    """Return nodes that have one long chain between them; they do not mine."""
    first = net.node()
    await first.start()
    await first.core(lambda core: lengthen(core, anchors))
    nodes = [first]
    for _ in range(count - 1):
        node = net.node()
        node.disk = copy_of(first.disk)
        node.bootstrap = (first.transport.address,)
        await node.start()
        nodes.append(node)
    return nodes


def newcomer_of(net: SimNet, nodes: list[SimNode]) -> SimNode:
    newcomer = net.node(name="newcomer", share=0.5)
    newcomer.bootstrap = tuple(node.transport.address for node in nodes)
    return newcomer


async def until_synced(net: SimNet, newcomer: SimNode, nodes: list[SimNode]) -> None:
    height = nodes[0].height
    await net.until(
        lambda: newcomer.height >= height and newcomer.network.synced.value, "synced", 120
    )


async def under_way(net: SimNet) -> tuple[list[SimNode], SimNode, PeerId | None]:
    """Return three old nodes, a newcomer amid its sync, and who leads that."""
    nodes = await old_nodes(net, 3)
    newcomer = newcomer_of(net, nodes)
    await newcomer.start()
    await net.until(lambda: newcomer.height > 64, "under way", 60, step_s=0.05)
    return nodes, newcomer, newcomer.network.sync.statistics().leader


async def test_a_newcomer_compares_headers_and_takes_bodies_from_all() -> None:
    async with simulate(11) as net:
        nodes = await old_nodes(net, 3)
        newcomer = newcomer_of(net, nodes)
        await newcomer.start()
        assert not newcomer.network.synced.value
        await net.until(lambda: newcomer.height > 0, "begun", 60, step_s=0.05)
        assert not newcomer.network.synced.value
        assert newcomer.epochs.statistics().jobs == 0
        await until_synced(net, newcomer, nodes)
        statistics = newcomer.network.sync.statistics()
        assert statistics.bodies >= ANCHORS
        assert statistics.proofs_skipped == 0
        served = [node.transport.statistics().requests_served for node in nodes]
        assert min(served) >= 10
        for node in [newcomer, *nodes]:
            assert set(node.network.peers.statistics().penalties) <= {"cost"}


async def test_proofs_below_the_assumed_valid_anchor_are_skipped() -> None:
    async with simulate(12) as net:
        nodes = await old_nodes(net, 2)
        height = ANCHORS - 100
        anchor_id = await nodes[0].core(lambda core: core.archive.main_id(height))
        newcomer = newcomer_of(net, nodes)
        newcomer.sync_settings = SyncSettings(assume_valid=anchor_id)
        await newcomer.start()
        await until_synced(net, newcomer, nodes)
        statistics = newcomer.network.sync.statistics()
        assert statistics.proofs_skipped >= 2 * height
        # The finder's headers are sampled, then those of both; of two pages each.
        sampled = 3 * 2 * PROOFS_DRAWN
        assert newcomer.chain.statistics().mixes_verified < 2 * (ANCHORS - height) + sampled
        other = net.node(name="other")
        other.bootstrap = (nodes[0].transport.address,)
        other.sync_settings = SyncSettings(assume_valid=CoinId(bytes(32)))
        await other.start()
        await until_synced(net, other, nodes)
        assert other.network.sync.statistics().proofs_skipped == 0


async def test_a_sync_goes_on_after_each_of_ten_crashes() -> None:
    async with simulate(13) as net:
        nodes = await old_nodes(net, 3)
        newcomer = newcomer_of(net, nodes)
        rng = random.Random(net.seed)
        heights = [0]
        for _ in range(10):
            await newcomer.start()
            assert newcomer.height >= heights[-1] - 64
            await trio.sleep(rng.uniform(0.5, 4.0))
            heights.append(newcomer.height)
            await newcomer.stop()
        await newcomer.start()
        await until_synced(net, newcomer, nodes)
        assert heights[-1] > 0


async def test_a_source_that_stops_in_the_middle_does_not_stop_the_sync() -> None:
    async with simulate(14) as net:
        _, newcomer, leader = await under_way(net)
        # It is still connected and says nothing more: a stopped process.
        net.weather.partition([[leader]])
        await net.until(lambda: newcomer.height >= ANCHORS, "synced", 240)


async def test_a_source_that_falls_silent_delays_the_others_little() -> None:
    async with simulate(15) as net:
        nodes, newcomer, leader = await under_way(net)
        silent = next(node for node in nodes if node.id != leader)
        # Its line is cut, and nobody knows yet.
        net.weather.partition([[silent.id]])
        began = trio.current_time()
        await net.until(lambda: newcomer.height >= ANCHORS, "synced", 60, step_s=0.05)
        assert trio.current_time() - began < 4 * SYNC_HEDGE_S


def slow_down_headers(node: SimNode, newcomer: SimNode, slow: set[PeerId]) -> None:
    """Have whoever leads a newcomer's sync, once headers have been compared, take 14 s for each
    page, and say so; the first to lead is the only one."""
    served = node.transport.switchboard.served[name_of(genesis_of(SIM).id, "headers")]
    prompt = served.handler

    async def handler(peer: PeerId, payload: bytes) -> bytes:
        statistics = newcomer.network.sync.statistics()
        is_followed = statistics.syncing and statistics.target_height > statistics.height
        if peer == newcomer.id and is_followed and statistics.leader == node.id and not slow:
            slow.add(node.id)
        if node.id in slow:
            await trio.sleep(14)
        return await prompt(peer, payload)

    served.handler = handler


async def test_a_leader_that_gives_headers_slowly_is_replaced() -> None:
    async with simulate(19) as net:
        nodes = await old_nodes(net, 3)
        newcomer = newcomer_of(net, nodes)
        slow: set[PeerId] = set()
        for node in nodes:
            slow_down_headers(node, newcomer, slow)
        await newcomer.start()
        await net.until(lambda: len(slow) > 0, "led", 60, step_s=0.05)
        began = trio.current_time()
        await net.until(lambda: newcomer.height >= ANCHORS, "synced", 60, step_s=0.05)
        # Two pages would take 28 s.
        assert trio.current_time() - began < LEAD_GRACE_S + 8
        assert newcomer.network.peers.statistics().bans == 0


async def test_a_node_without_peers_mines_after_a_while() -> None:
    async with simulate(15) as net:
        alone = net.node(share=1.0)
        alone.bootstrap = ("/ip4/9.9.9.9/tcp/9000/p2p/" + "1" * 44,)
        await alone.start()
        await trio.sleep(30)
        assert not alone.network.synced.value
        await net.until(lambda: alone.height > 0, "mining", 60 + 10 * EPOCH_S)
        first = net.node(share=1.0)
        await first.start()
        assert first.network.synced.value


def stall(node: SimNode, exchange: Exchange[Any], is_stalled: Stalled) -> set[PeerId]:
    """Have a node answer nothing to some requests, until the set that is returned is cleared."""
    served = node.transport.switchboard.served[name_of(genesis_of(SIM).id, exchange.name)]
    whole = served.handler
    stalling = {node.id}

    async def handler(peer: PeerId, payload: bytes) -> bytes:
        if stalling and is_stalled(exchange.decode_request(payload)):
            await trio.sleep_forever()
        return await whole(peer, payload)

    served.handler = handler
    return stalling


async def stall_bodies(node: SimNode, above: int) -> set[PeerId]:
    """Have a node keep back the bodies above a height."""
    there = await node.core(lambda core: {core.archive.main_id(at) for at in range(above + 1)})
    return stall(node, BODIES_EXCHANGE, lambda ids: not there.issuperset(ids))


async def stall_comparison(node: SimNode, _above: int) -> set[PeerId]:
    """Have a node keep back its headers when they are asked for to compare chains."""
    return stall(node, HEADERS_EXCHANGE, lambda request: request.tip == OWN_TIP)


@pytest.mark.parametrize(
    ("keep_back", "anchors"),
    [(stall_bodies, 2 * SIM.window + 40), (stall_bodies, ANCHORS), (stall_comparison, ANCHORS)],
)
async def test_nothing_is_mined_between_tries_while_a_chain_only_does_not_come_in_time(
    keep_back: Callable[[SimNode, int], Awaitable[set[PeerId]]], anchors: int
) -> None:
    async with simulate(20) as net:
        (source,) = await old_nodes(net, 1, anchors)
        stalling = await keep_back(source, 32)
        newcomer = newcomer_of(net, [source])
        await newcomer.start()
        sync = newcomer.network.sync
        await net.until(lambda: sync.statistics().syncing, "under way", 60, step_s=0.05)
        for _ in range(3):
            await net.until(lambda: not sync.statistics().syncing, "given up", 60, step_s=0.05)
            assert not newcomer.network.synced.value
            await net.until(lambda: sync.statistics().syncing, "tried again", 120, step_s=0.05)
        assert newcomer.height <= 32
        stalling.clear()
        await until_synced(net, newcomer, [source])
        assert newcomer.network.peers.statistics().bans == 0


async def test_who_keeps_bodies_back_stops_nobody_for_good() -> None:
    async with simulate(20) as net:
        (source,) = await old_nodes(net, 1)
        await stall_bodies(source, 32)
        newcomer = newcomer_of(net, [source])
        await newcomer.start()
        took_s = await net.until(lambda: newcomer.height > 32, "mining", 2 * LATE_REST_S)
        assert took_s > LATE_REST_S


def withhold_bodies(node: SimNode, above: int, heights: dict[bytes, int]) -> None:
    """Have a node serve no bodies of anchors above a height."""
    served = node.transport.switchboard.served[name_of(genesis_of(SIM).id, "bodies")]
    whole = served.handler

    async def handler(peer: PeerId, payload: bytes) -> bytes:
        ids: Any = BODIES_EXCHANGE.decode_request(payload)
        if any(heights.get(anchor_id, 0) > above for anchor_id in ids):
            return refusal(Code.NOT_FOUND)
        return await whole(peer, payload)

    served.handler = handler


@pytest.mark.parametrize("given", [50, 200])
async def test_a_chain_whose_bodies_do_not_come_is_put_aside_and_the_next_is_taken(
    given: int,
) -> None:
    """The heavier chain gives bodies for 50 of 300 anchors above the fork, where the honest one has
    100, or for 200: then what there is of it is the better one."""
    async with simulate(18) as net:
        (honest,) = await old_nodes(net, 1, LONG_SYNC_ANCHORS + 50)
        fork = honest.height
        liar = net.node()
        liar.disk = copy_of(honest.disk)
        await liar.start()
        await honest.core(lambda core: lengthen(core, 100, lock=b"honest"))
        await liar.core(lambda core: lengthen(core, 300, lock=b"liar"))
        heights = await liar.core(
            lambda core: {core.archive.main_id(at): at for at in range(fork, fork + 301)}
        )
        withhold_bodies(liar, fork + given, heights)
        newcomer = newcomer_of(net, [honest, liar])
        await newcomer.start()
        await net.until(lambda: newcomer.height > fork + 30, "at the best that there is", 240)
        if given < 100:
            await net.until(lambda: newcomer.tip == honest.tip, "on the honest chain", 240)
        else:
            # Whole batches come or none.
            lowest = fork + given - SYNC_BATCH_ANCHORS
            there = range(lowest + 1, fork + given + 1)
            await net.until(lambda: heights.get(newcomer.tip) in there, "on what there is", 240)
        assert newcomer.network.peers.statistics().bans == 0
