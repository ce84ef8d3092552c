"""Transfers that leave the mempool while a job that lists them is out (Protocol §5.2 BODY_MISSING).

Work on an older template stays valid (§5.5), so the bytes of what it lists stay at hand: an anchor
found on it is published with its whole body, whatever has become of its transfers since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
import pytest
import trio

from tests.framework.attacks import (
    LOCK,
    assert_nobody_honest_was_banned,
    counts,
    expire_transfers,
    hand_in,
    has_transfer,
    header_of,
    job_of,
    limit_mempool,
    mining_room,
    template_of,
    unspent_of,
)
from tests.framework.forge import Forge, key_lock
from tests.framework.simulation.simnet import (
    EPOCH_S,
    SIM,
    SimNet,
    SimNode,
    lengthen,
    simulate,
    solve,
)
from unchained.miner.jobs import Job
from unchained.node.chain.results import Package
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transition import body_root
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.core.values import Hex

FEE = 7_000
REFRESHED_S = EPOCH_S / 8
"""By then a template has taken in a transfer that came."""

Loss = Callable[["Scene"], Awaitable[None]]


class Scene(NamedTuple):
    """Nodes whose miners stand still, and a transfer that waits at all of them."""

    net: SimNet
    nodes: list[SimNode]
    coins: list[tuple[CoinId, int]]
    """Unspent coins of key 0, the transfer's first."""
    transfer: SizedTransfer

    @property
    def finder(self) -> SimNode:
        """The node whose job is out."""
        return self.nodes[0]


def pay(coin: tuple[CoinId, int], fee: int = FEE, to: int = 1) -> SizedTransfer:
    """Return a transfer of one coin of key 0."""
    return Forge(SIM).transfer([(coin[0], 0)], [(coin[1] - fee, to)], fee=fee)


async def with_coins(
    net: SimNet, miners: int, anchors: int = 12
) -> tuple[list[SimNode], list[tuple[CoinId, int]]]:
    """Return miners on a chain whose coins belong to key 0, and those coins."""
    first = net.node(name="first")
    await first.start()
    await first.core(lambda core: lengthen(core, anchors, plain=4, lock=key_lock(0), step_ms=1000))
    nodes = []
    for _ in range(miners):
        node = net.node(share=1 / miners)
        known = (first, *nodes[:3])
        node.bootstrap = tuple(other.transport.address for other in known)
        await node.start()
        nodes.append(node)
    await net.mingle(net.nodes)
    net.pause_mining()
    await net.agree(within_s=60 * EPOCH_S)
    await net.until(lambda: all(job_of(node) for node in nodes), "at work", 10 * EPOCH_S)
    coins = await unspent_of(first, key_lock(0))
    assert len(coins) > 4 * anchors
    return nodes, coins


async def waits_everywhere(net: SimNet, transfer: SizedTransfer) -> None:
    """Hand a transfer in, and wait until all nodes have it and their jobs list it."""
    await net.nodes[-1].chain.submit_transfer(transfer.raw)
    await trio.sleep(REFRESHED_S)
    for node in net.nodes:
        assert await has_transfer(node, transfer.wid), node.name


async def set_scene(net: SimNet) -> Scene:
    """Have a transfer wait at three miners."""
    nodes, coins = await with_coins(net, 3)
    scene = Scene(net, nodes, coins, pay(coins[0]))
    await waits_everywhere(net, scene.transfer)
    return scene


async def listed_in(job: Job | None, scene: Scene) -> Job:
    """Return the job, having seen that it lists the scene's transfer."""
    assert job is not None
    template = await template_of(scene.finder)
    assert template.body.transfers == (scene.transfer.wid,)
    assert header_of(job).body_root == template.body_root
    return job


# How a transfer leaves


async def replace(scene: Scene) -> None:
    """Another transfer of the same coin pays more."""
    await waits_everywhere(scene.net, pay(scene.coins[0], 3 * FEE))


async def replace_again_and_again(scene: Scene) -> None:
    """The same, more often than a node could keep account of by the last one alone."""
    for doubled in range(1, 9):
        await waits_everywhere(scene.net, pay(scene.coins[0], FEE * 2**doubled))


async def evict(scene: Scene) -> None:
    """The mempool is full of what pays more."""
    for node in scene.net.nodes:
        await limit_mempool(node, len(scene.transfer.raw) + 100)
    await waits_everywhere(scene.net, pay(scene.coins[1], 9 * FEE))


async def expire(scene: Scene) -> None:
    """It has waited too long."""
    for node in scene.net.nodes:
        await expire_transfers(node)


async def conflict(scene: Scene) -> None:
    """Another anchor includes another transfer of the same coin."""
    other = pay(scene.coins[0], 2 * FEE, to=2)
    node = scene.nodes[1]
    template = await template_of(node)
    body = msgspec.structs.replace(template.body, transfers=(other.wid,))
    header = template.header(lock=LOCK, time=template.parent_time + 1)
    header = msgspec.structs.replace(header, body_root=body_root(body))
    anchor = solve(header, SIM, True)
    await node.chain.submit_coin(anchor)
    await node.chain.submit_package(Package(anchor, body, {}, {other.wid: other.raw}))
    await scene.net.until(lambda: scene.net.tips() == {anchor.id}, "elsewhere", EPOCH_S)


WAYS = [replace, replace_again_and_again, evict, expire, conflict]


async def assert_it_counts_everywhere(scene: Scene, anchor: Coin, way: Loss) -> None:
    """Check that an anchor which lists the transfer is one for all nodes, and has its bytes."""
    await trio.sleep(REFRESHED_S)
    for node in scene.net.nodes:
        assert await counts(node, anchor.id), node.name
        assert await has_transfer(node, scene.transfer.wid), node.name
    if way is not conflict:
        assert scene.net.tips() == {anchor.id}


async def go_on(scene: Scene) -> None:
    """Mine two anchors more."""
    scene.net.resume_mining()
    height = scene.finder.height
    await scene.net.until(lambda: scene.finder.height >= height + 2, "going on", 30 * EPOCH_S)
    await scene.net.agree(within_s=2 * EPOCH_S)
    assert_nobody_honest_was_banned(scene.net)


@pytest.mark.parametrize("way", WAYS)
async def test_an_anchor_is_found_on_a_job_whose_transfer_has_left(way: Loss) -> None:
    async with simulate(41) as net:
        scene = await set_scene(net)
        job = await listed_in(job_of(scene.finder), scene)
        await way(scene)
        present = job_of(scene.finder)
        assert present is not None
        assert present.number > job.number or way is expire
        anchor = await hand_in(scene.finder, job, SIM, anchor=True)
        await assert_it_counts_everywhere(scene, anchor, way)
        found = scene.finder.epochs.statistics()
        assert (found.anchors_found, found.coins_rejected) == (1, 0)
        await go_on(scene)


@pytest.mark.parametrize("way", WAYS)
async def test_an_anchor_is_handed_in_on_a_template_whose_transfer_has_left(way: Loss) -> None:
    """The same for who mines elsewhere: mine.template, and mine.submit much later."""
    async with simulate(42) as net:
        scene = await set_scene(net)
        # A node that mines nothing itself: no job of its own keeps the bytes.
        room = mining_room(net.nodes[0])
        template = await room.template()
        assert template.transfers == 1
        await way(scene)
        header = CoinHeader.from_bytes(bytes(template.header))
        anchor = solve(header, SIM, True)
        handed_in = await room.submit(Hex(anchor.raw))
        assert (handed_in.status, handed_in.anchor) == ("accepted", True)
        await assert_it_counts_everywhere(scene, anchor, way)
        await go_on(scene)


@pytest.mark.parametrize("seed", [11, 15])
async def test_replacing_ones_own_transfers_loses_nobodys_anchors(seed: int) -> None:
    """Four cheap transfers replaced in turn, five a second: every anchor found becomes one."""
    async with simulate(seed) as net:
        # An included transfer takes its coin with it: there are enough for one at each attempt.
        nodes, coins = await with_coins(net, 3, anchors=40)
        found_before = sum(node.epochs.statistics().coins_found for node in nodes)
        net.resume_mining()
        graded: Counter[str] = Counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replace_in_turn, nodes, list(coins), graded)
            await trio.sleep(8 * EPOCH_S)
            nursery.cancel_scope.cancel()
        assert graded["ACCEPTED"] > 150
        net.pause_mining()
        await net.agree(within_s=2 * EPOCH_S)
        statistics = [node.epochs.statistics() for node in nodes]
        assert sum(found.coins_found for found in statistics) - found_before >= 16
        assert sum(found.coins_rejected for found in statistics) == 0
        assert sum(found.anchors_found for found in statistics) >= 3
        assert_nobody_honest_was_banned(net)


async def replace_in_turn(
    nodes: list[SimNode], coins: list[tuple[CoinId, int]], graded: Counter[str]
) -> None:
    """Replace four transfers by dearer ones in turn, each seven times, until cancelled."""
    live = [[coins.pop(), 0] for _ in range(4)]
    number = 0
    while True:
        await trio.sleep(0.2)
        number += 1
        place = number % len(live)
        coin, times = live[place]
        assert isinstance(coin, tuple)
        assert isinstance(times, int)
        try:
            outcome = await nodes[number % len(nodes)].chain.submit_transfer(
                pay(coin, FEE * 2**times).raw
            )
            graded[outcome.name] += 1
            live[place] = [coin, times + 1]
        except (ProtocolError, PolicyError) as error:
            graded[error.name] += 1
            times = 8
        if times >= 7:
            live[place] = [coins.pop(), 0]
