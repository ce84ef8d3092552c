"""Whole nodes in hostile weather: they converge, and every fork heals (Protocol §6)."""

from __future__ import annotations

import msgspec
import pytest
import trio

from tests.framework.simulation.memory_network import LinkModel
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
from unchained.node.chain.template import build_template
from unchained.node.peers.reputation import PeerLimits
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Lock


def known_coins(core: ChainCore) -> set[CoinId]:
    """Return all votes that a node counts."""
    return {coin_id for node in core.tree.nodes.values() for coin_id in node.bound}


def listed_coins(core: ChainCore) -> set[bytes]:
    """Return all coins that the main chain holds."""
    found: set[bytes] = set()
    for height in range(1, core.tip.height + 1):
        node = core.tree.main_at(height)
        assert node is not None
        found |= {node.id, *node.validated.body.fresh, *node.validated.body.uncles}
    return found


def assert_nobody_was_blamed(nodes: list[SimNode]) -> None:
    for node in nodes:
        statistics = node.network.statistics()
        assert statistics.transport.faults == 0
        assert statistics.peers.bans == 0
        assert set(statistics.peers.penalties) <= {"cost"}, node.name
        assert statistics.relay.rules == {}, node.name


async def test_forty_nodes_converge_and_know_the_same_votes() -> None:
    async with simulate(1) as net:
        nodes = await net.grow(40, miners=8)
        await net.until(lambda: nodes[0].height >= 6, "six anchors high", 40 * EPOCH_S)
        net.pause_mining()
        await net.agree(within_s=10)
        votes = [await node.core(known_coins) for node in nodes]
        assert all(known == votes[0] for known in votes)
        assert_nobody_was_blamed(nodes)


async def test_bad_lines_slow_nodes_down_and_nothing_else() -> None:
    model = LinkModel(latency=0.2, jitter=0.2, loss=0.05, reorder=0.1, gossip_loss=0.2)

    async with simulate(2, model=model) as net:
        nodes = await net.grow(10, miners=5)
        await net.until(lambda: nodes[0].height >= 6, "six anchors high", 40 * EPOCH_S)
        net.pause_mining()
        await net.agree(within_s=6 * EPOCH_S)
        assert_nobody_was_blamed(nodes)


@pytest.mark.parametrize(("epochs", "seed"), [(8, 8), (16, 16), (16, 304), (16, 310), (32, 32)])
async def test_a_partition_heals_within_two_epochs(epochs: int, seed: int) -> None:
    async with simulate(seed) as net:
        nodes = await net.grow(8, miners=8)
        await net.mingle(nodes)
        await net.agree(within_s=EPOCH_S)
        fork = nodes[0].height
        net.part(nodes[0::2], nodes[1::2])
        await trio.sleep(epochs * EPOCH_S)
        # Protocol §11: a side that was so unlucky as to show little work would not be asked for it.
        await net.until(
            lambda: min(node.height for node in nodes) >= fork + epochs // 2, "two branches", 400
        )
        await net.agree(nodes[0::2], within_s=2 * EPOCH_S)
        await net.agree(nodes[1::2], within_s=2 * EPOCH_S)
        losers = [await nodes[0].core(known_coins), await nodes[1].core(known_coins)]
        sides = {node.id: node.tip for node in nodes}
        assert len(set(sides.values())) == 2
        net.weather.heal()
        await net.agree(within_s=2 * EPOCH_S)
        lost = losers[0] if sides[nodes[0].id] not in await chain_of(nodes[0]) else losers[1]
        net.pause_mining()
        await trio.sleep(EPOCH_S)
        await net.agree(within_s=EPOCH_S)
        votes = [await node.core(known_coins) for node in nodes]
        assert all(known == votes[0] for known in votes)
        assert lost <= votes[0]
        assert_nobody_was_blamed(nodes)


async def chain_of(node: SimNode) -> set[bytes]:
    def anchors(core: ChainCore) -> set[bytes]:
        found = (core.tree.main_at(height) for height in range(core.tip.height + 1))
        return {step.id for step in found if step is not None}

    result: set[bytes] = await node.core(anchors)
    return result


async def test_coins_of_the_losing_side_return_within_the_window() -> None:
    async with simulate(5) as net:
        nodes = await net.grow(6, miners=6)
        await net.mingle(nodes)
        await net.agree(within_s=EPOCH_S)
        fork_height = nodes[0].height
        net.part(nodes[0::2], nodes[1::2])
        # Until the losing side has built some anchors, but not so many that they are too old.
        await net.until(
            lambda: min(node.height for node in nodes) >= fork_height + 2, "forked", 200
        )
        await net.agree(nodes[0::2], within_s=EPOCH_S)
        await net.agree(nodes[1::2], within_s=EPOCH_S)
        votes = [await nodes[0].core(known_coins), await nodes[1].core(known_coins)]
        assert max(node.height for node in nodes) <= fork_height + net.params.window - 1
        tips = {number: nodes[number].tip for number in (0, 1)}
        net.weather.heal()
        await net.mingle(nodes)
        await net.agree(within_s=2 * EPOCH_S)
        on_chain = await chain_of(nodes[0])
        lost = votes[0] if tips[1] in on_chain else votes[1]
        common = votes[0] & votes[1]
        assert lost - common
        height = nodes[0].height
        await net.until(lambda: nodes[0].height >= height + 2, "two anchors on", 100)
        listed = await nodes[0].core(listed_coins)
        assert lost - common <= listed
        assert_nobody_was_blamed(nodes)


async def withheld_votes(node: SimNode, count: int) -> list[Coin]:
    """Return coins on a node's tip that nobody has seen."""

    def mine(core: ChainCore) -> list[Coin]:
        template = build_template(core, core.tip.context.time)
        return [
            solve(
                template.header(
                    lock=Lock(b"withheld".ljust(32, b".")),
                    time=template.parent_time + 1 + n,
                    nonce=n << 32,
                ),
                core.network,
                grade=False,
            )
            for n in range(count)
        ]

    coins: list[Coin] = await node.core(mine)
    return coins


@pytest.mark.parametrize("gossip_loss", [0.0, 1.0])
async def test_late_votes_shown_to_one_side_only_heal(gossip_loss: float) -> None:
    """Without any gossip it is the comparison of tips that heals."""

    async with simulate(6) as net:
        nodes = await net.grow(6, miners=6)
        await net.mingle(nodes)
        await net.agree(within_s=EPOCH_S)
        fork_height = nodes[0].height
        net.part(nodes[:3], nodes[3:])
        await net.until(
            lambda: min(node.height for node in nodes) >= fork_height + 2, "forked", 200
        )
        net.pause_mining()
        await trio.sleep(EPOCH_S)
        votes = {n: await withheld_votes(nodes[n], 60) for n in (0, 3)}
        tips = {0: nodes[0].tip, 3: nodes[3].tip}
        await net.agree(nodes[:3], within_s=EPOCH_S)
        await net.agree(nodes[3:], within_s=EPOCH_S)
        assert tips[0] != tips[3]
        net.weather.heal()
        await net.agree(within_s=2 * EPOCH_S)
        loser = 0 if nodes[0].tip == tips[3] else 3
        quiet = LinkModel(gossip_loss=gossip_loss)
        for one in nodes:
            for other in nodes:
                net.weather.set_link(one.id, other.id, quiet)
        # One node is shown votes for the branch that lost, and goes back to it.
        for coin in votes[loser]:
            await nodes[loser].chain.submit_coin(coin)
        assert nodes[loser].tip == tips[loser]
        await net.agree(within_s=2 * EPOCH_S)
        assert nodes[0].tip == nodes[5].tip == tips[loser]
        assert_nobody_was_blamed(nodes)


async def test_a_newcomer_finds_the_winner_during_a_fork() -> None:
    async with simulate(7) as net:
        # Two cliques that do not know of each other.
        sides = [[net.node(share=1 / 6) for _ in range(3)] for _ in range(2)]
        for side in sides:
            for node in side:
                node.bootstrap = tuple(
                    f"/ip4/{other.ip}/tcp/9000/p2p/{other.transport.id}"
                    for other in side
                    if other.starts
                )
                await node.start()
        await trio.sleep(12 * EPOCH_S)
        net.pause_mining()
        await net.agree(sides[0], within_s=EPOCH_S)
        await net.agree(sides[1], within_s=EPOCH_S)
        assert len(net.tips()) == 2
        newcomer = net.node(name="newcomer")
        newcomer.limits = PeerLimits(outbound=6)
        newcomer.bootstrap = tuple(side[0].transport.address for side in sides)
        await newcomer.start()
        tips = net.tips([side[0] for side in sides])
        await net.until(lambda: newcomer.tip in tips, "synced", 2 * EPOCH_S)
        await net.agree(within_s=2 * EPOCH_S)
        # The newcomer is the only one that has both sides' votes from the beginning.
        votes = await newcomer.core(known_coins)
        for side in sides:
            assert await side[0].core(known_coins) <= votes
        assert_nobody_was_blamed(net.nodes)


async def test_a_clock_that_is_off_is_noticed_by_the_peers_and_stops_nobody() -> None:
    async with simulate(8) as net:
        nodes = await net.grow(5, miners=5)
        odd = net.node(share=0.2, name="odd")
        odd.clock_offset_ms = -3_000
        odd.bootstrap = tuple(node.transport.address for node in nodes)
        await odd.start()
        await trio.sleep(6 * EPOCH_S)
        offset = odd.network.peers.clock_offset_ms()
        assert offset is not None
        assert 2_900 <= offset <= 3_100
        assert odd.height >= 2
        await net.agree(within_s=EPOCH_S)


async def test_a_node_goes_on_after_a_restart_where_it_was() -> None:
    async with simulate(9) as net:
        nodes = await net.grow(5, miners=5)
        await trio.sleep(6 * EPOCH_S)
        last = nodes[4]
        height = last.height
        await last.stop()
        await trio.sleep(4 * EPOCH_S)
        last.bootstrap = ()
        await last.start()
        assert last.height == height
        assert last.network.peers.book.statistics().tried > 0
        await net.until(
            lambda: last.network.synced.value and last.tip == nodes[0].tip, "back", 3 * EPOCH_S
        )


SHALLOW = msgspec.structs.replace(SIM, max_reorg=24)
SETTLED_S = SHALLOW.max_reorg * EPOCH_S


async def with_chain(net: SimNet, name: str, anchors: int, plain: int) -> SimNode:
    """Return a node that nobody knows, with a chain of its own from genesis."""
    node = net.node(name=name)
    await node.start()
    await node.core(lambda core: lengthen(core, anchors, plain=plain, lock=name.encode()))
    return node


async def misled(net: SimNet, anchors: int) -> tuple[SimNode, SimNode]:
    """Return a newcomer and the liar from whom alone it has its chain."""
    liar = await with_chain(net, "liar", anchors, 0)
    newcomer = net.node(name="newcomer")
    newcomer.bootstrap = (liar.transport.address,)
    await newcomer.start()
    await net.until(lambda: newcomer.tip == liar.tip, "misled", 60)
    return newcomer, liar


def depth_of_tree(core: ChainCore) -> int:
    return core.tip.height - core.tree.root.height


async def test_a_newcomer_leaves_a_poor_chain_that_is_longer_than_the_deepest_reorganisation() -> (
    None
):
    async with simulate(31, params=SHALLOW) as net:
        newcomer, _ = await misled(net, 60)
        honest = await with_chain(net, "honest", 70, 2)
        assert newcomer.height > 2 * SHALLOW.max_reorg
        await honest.transport.connect(newcomer.transport.address)
        took_s = await net.until(lambda: newcomer.tip == honest.tip, "on the better chain", 60)
        assert took_s < SETTLED_S
        # The liar hears of it too; its own chain is as young.
        await net.agree(within_s=60)
        assert newcomer.chain.statistics().refused == 0
        assert newcomer.chain.status.value.refused is None
        await honest.core(lambda core: lengthen(core, 2, plain=0))
        await net.agree(within_s=60)
        assert await newcomer.core(depth_of_tree) == SHALLOW.max_reorg
        assert_nobody_was_blamed([honest, newcomer])


async def test_a_node_does_not_leave_a_chain_that_has_been_its_own_for_long() -> None:
    async with simulate(32, params=SHALLOW, expected=("chain.reorg_refused",)) as net:
        newcomer, liar = await misled(net, 60)
        await trio.sleep(SETTLED_S)
        old = newcomer.tip
        honest = await with_chain(net, "honest", 70, 2)
        await honest.transport.connect(newcomer.transport.address)
        await net.until(lambda: newcomer.chain.status.value.refused is not None, "refused", 60)
        await trio.sleep(5 * EPOCH_S)
        refused = newcomer.chain.status.value.refused
        assert refused is not None
        assert (refused.fork_height, refused.depth) == (0, 60)
        assert refused.winner == honest.tip
        assert newcomer.tip == old
        assert newcomer.chain.statistics().refused == 1
        # The better chain is not looked into again as it grows.
        verified = newcomer.chain.statistics().mixes_verified
        for _ in range(3):
            await honest.core(lambda core: lengthen(core, 1, plain=1))
            await trio.sleep(EPOCH_S)
        assert newcomer.chain.statistics().mixes_verified == verified
        assert newcomer.chain.statistics().refused == 1
        # It goes on with its own chain, and the honest node with the better one.
        await liar.core(lambda core: lengthen(core, 2, plain=0))
        await net.until(lambda: newcomer.tip == liar.tip, "going on", 60)
        assert newcomer.network.synced.value
        assert honest.height == 73
        assert_nobody_was_blamed([honest, newcomer])


async def test_a_deep_branch_of_less_work_is_not_fetched() -> None:
    async with simulate(33, params=SHALLOW) as net:
        honest = await with_chain(net, "honest", 60, 1)
        poor = await with_chain(net, "poor", 40, 1)
        await poor.transport.connect(honest.transport.address)
        await net.until(lambda: poor.tip == honest.tip, "of one mind", 120)
        assert honest.network.sync.statistics().bodies == 0
        # It costs the poor node what reading its headers does, and no more.
        assert_nobody_was_blamed([honest, poor])


async def test_a_deep_branch_that_does_not_win_costs_who_offered_it() -> None:
    async with simulate(34, params=SHALLOW) as net:
        # More anchors, and so more work by its headers, but fewer coins.
        honest = await with_chain(net, "honest", 50, 4)
        liar = await with_chain(net, "liar", 60, 0)
        old = honest.tip
        await liar.transport.connect(honest.transport.address)
        await net.until(lambda: honest.network.sync.statistics().bodies >= 60, "weighed", 60)
        await trio.sleep(10 * EPOCH_S)
        assert honest.tip == old
        assert await honest.core(depth_of_tree) == SHALLOW.max_reorg
        assert await honest.core(lambda core: core.tree.get(liar.tip)) is None
        assert honest.chain.statistics().refused == 0
        await net.until(
            lambda: bool(honest.network.peers.reputation.active_bans()),
            "banned for good reason",
            300,
        )


async def test_a_deep_branch_that_is_too_long_to_be_weighed_is_left_to_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with simulate(35, params=SHALLOW, expected=("chain.reorg_refused",)) as net:
        honest = await with_chain(net, "honest", 50, 4)
        # It would take more anchors than this to outweigh the other.
        long = await with_chain(net, "long", 90, 0)
        monkeypatch.setattr("unchained.node.chain.reorg_window.TREE_ANCHORS_MAX", 110)
        old = honest.tip
        await long.transport.connect(honest.transport.address)
        await net.until(lambda: honest.chain.status.value.refused is not None, "refused", 60)
        assert honest.tip == old
        assert await honest.core(depth_of_tree) == SHALLOW.max_reorg
        assert_nobody_was_blamed([honest])
