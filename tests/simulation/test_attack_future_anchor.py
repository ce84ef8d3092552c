"""An anchor of the future that comes in through a body that lists its coin (Protocol §3.3, §6).

The attacker has two anchors of one epoch: X, whose time is ahead of all clocks, lists the honest
coins; Y, of an ordinary time, lists X. Who hears of Y first has X's coin without the clock having
been asked. Nobody may count X before its time, whatever way it comes.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
import trio

from tests.framework.attacks import (
    LOCK,
    Attacker,
    assert_nobody_honest_was_banned,
    clock_ms,
    counts,
    header_of,
    job_of,
    main_chain,
    now_ms,
    step_clock,
    template_of,
    votes_for,
)
from tests.framework.simulation.simnet import EPOCH_S, SIM, SimNet, SimNode, simulate, solve
from unchained.node.consensus.transition import body_root
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId

LIMIT_MS = SIM.future_limit_ms
END_OF_TIME = 2**64 - 1

TOLD = ("chain.clock_behind", "clock.behind")
"""Events at which a node may say that its clock is behind its chain."""


class Pair(NamedTuple):
    """The attacker's two anchors."""

    x: Coin
    x_body: Body
    y: Coin
    y_body: Body
    parent: CoinId
    honest: tuple[CoinId, ...]
    """What X lists."""


async def under_way(net: SimNet, joined: int = 3) -> tuple[list[SimNode], Attacker]:
    """Return five miners at work, and an attacker who is a peer of some."""
    nodes = await net.grow(5)
    await net.mingle(nodes)
    await net.until(lambda: min(node.height for node in nodes) >= 4, "under way", 60 * EPOCH_S)
    attacker = Attacker(net)
    await attacker.join(nodes[:joined])
    return nodes, attacker


async def make_pair(net: SimNet, node: SimNode, x_ahead_ms: int, y_ahead_ms: int = 0) -> Pair:
    """Return such anchors, so far ahead of the clock, on a tip that honest coins are bound to."""
    with trio.fail_after(60 * EPOCH_S):
        template = await template_of(node)
        while len(net.tips()) > 1 or len(template.body.fresh) < 2:
            await trio.sleep(0.25)
            template = await template_of(node)
    time_ms = now_ms(net)
    x_time = min(END_OF_TIME, time_ms + x_ahead_ms)
    x = solve(template.header(lock=LOCK, time=x_time), net.params, True)
    y_body = msgspec.structs.replace(template.body, fresh=(x.id,), uncles=(), transfers=())
    header = msgspec.structs.replace(
        template.header(lock=LOCK, time=max(time_ms + y_ahead_ms, template.parent_time + 1)),
        body_root=body_root(y_body),
    )
    y = solve(header, net.params, True)
    honest = tuple(CoinId(coin_id) for coin_id in template.body.fresh)
    return Pair(x, template.body, y, y_body, template.parent, honest)


def assert_within_the_clock(nodes: list[SimNode], refused: CoinId) -> None:
    """Check that nobody's tip is ahead of its clock, and that nobody mines on such an anchor."""
    for node in nodes:
        status = node.chain.status.value
        assert status.tip != refused, node.name
        assert status.tip_time <= clock_ms(node) + LIMIT_MS, node.name
        job = job_of(node)
        if job is not None:
            assert header_of(job).parent != refused, node.name
            assert header_of(job).time <= clock_ms(node) + LIMIT_MS, node.name


async def go_on(net: SimNet, nodes: list[SimNode], anchors: int, refused: CoinId) -> None:
    """Wait until all nodes have so many more anchors, with an eye on each tip in between."""
    height = max(node.height for node in nodes)

    def grown() -> bool:
        assert_within_the_clock(nodes, refused)
        return min(node.height for node in nodes) >= height + anchors

    await net.until(grown, "counting on", 15 * anchors * EPOCH_S, step_s=0.25)
    await net.agree(nodes, within_s=2 * EPOCH_S)


@pytest.mark.parametrize("way", ["gossip", "sync"])
@pytest.mark.parametrize(
    "ahead_ms",
    [315_360_000_000, 100 * SIM.epoch_ms, END_OF_TIME],
    ids=["ten years", "a hundred epochs", "the end of time"],
)
async def test_an_anchor_of_the_future_stops_nobody(ahead_ms: int, way: str) -> None:
    async with simulate(7) as net:
        nodes, attacker = await under_way(net)
        pair = await make_pair(net, nodes[0], ahead_ms)
        attacker.hold(pair.x)
        await attacker.announce_anchor(pair.y, pair.y_body)
        await trio.sleep(0.5)
        if way == "gossip":
            await attacker.announce_anchor(pair.x, pair.x_body)
        else:
            below = await main_chain(nodes[0])
            at = next(n for n, (coin, _) in enumerate(below) if coin.id == pair.parent)
            attacker.claim([*below[: at + 1], (pair.x, pair.x_body)])
        await go_on(net, nodes, 4, pair.x.id)
        for node in nodes:
            assert not await counts(node, pair.x.id)
            assert pair.x.id not in await votes_for(node, pair.parent)
            # What X would have taken over votes for the honest chain.
            assert set(pair.honest) <= await votes_for(node, pair.parent)
        newcomer = net.node(name="newcomer")
        newcomer.bootstrap = tuple(node.transport.address for node in nodes[:3])
        await newcomer.start()
        await net.until(lambda: newcomer.tip in net.tips(nodes), "synced", 4 * EPOCH_S)
        await go_on(net, [*nodes, newcomer], 1, pair.x.id)
        assert_nobody_honest_was_banned(net)


async def test_an_anchor_of_the_future_undoes_nothing() -> None:
    """As many epochs ahead as X is, what was found since is not lost when its time has come."""
    async with simulate(8) as net:
        nodes, attacker = await under_way(net)
        ahead_ms = 12 * SIM.epoch_ms
        pair = await make_pair(net, nodes[0], ahead_ms)
        attacker.hold(pair.x)
        await attacker.announce_anchor(pair.y, pair.y_body)
        await trio.sleep(0.5)
        await attacker.announce_anchor(pair.x, pair.x_body)
        height = min(node.height for node in nodes)
        await trio.sleep((ahead_ms - LIMIT_MS) / 1000 - 1)
        assert_within_the_clock(nodes, pair.x.id)
        grown = min(node.height for node in nodes)
        assert grown >= height + 4
        steps = await main_chain(nodes[0])
        old = [coin.id for coin, _ in steps[: grown - 2]]
        # Its time has come: now it is an anchor like any other, far behind.
        await trio.sleep(2 * LIMIT_MS / 1000)
        await attacker.announce_anchor(pair.x, pair.x_body)
        await trio.sleep(EPOCH_S)
        await net.agree(nodes, within_s=2 * EPOCH_S)
        for node in nodes:
            kept = [coin.id for coin, _ in await main_chain(node)]
            assert kept[: len(old)] == old


@pytest.mark.parametrize("excess_ms", [0, 1])
async def test_a_body_lists_nothing_that_is_too_new_for_its_anchor(excess_ms: int) -> None:
    async with simulate(12) as net:
        nodes, attacker = await under_way(net)
        pair = await make_pair(net, nodes[0], LIMIT_MS + excess_ms)
        net.pause_mining()
        attacker.hold(pair.x)
        await attacker.announce_anchor(pair.y, pair.y_body)
        await trio.sleep(1)
        for node in nodes:
            assert await counts(node, pair.y.id) == (not excess_ms), node.name
            assert pair.y.id in await votes_for(node, pair.parent)
        net.resume_mining()
        await go_on(net, nodes, 2, pair.x.id if excess_ms else CoinId(bytes(32)))


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("restarting", [False, True])
async def test_a_listed_coin_counts_from_its_time_on(restarting: bool, announced: bool) -> None:
    """At the bounds of both rules: Y is as far ahead as may be, and X as far ahead of Y.

    X counts as a vote then even if nobody has told of it but Y, and across a restart.
    """
    async with simulate(9) as net:
        nodes, attacker = await under_way(net)
        pair = await make_pair(net, nodes[0], 2 * LIMIT_MS, LIMIT_MS)
        net.pause_mining()
        due_ms = pair.x.header.time - LIMIT_MS
        attacker.hold(pair.x)
        await attacker.announce_anchor(pair.y, pair.y_body)
        await trio.sleep(1.5)
        if announced:
            await attacker.announce_anchor(pair.x, pair.x_body)
            await trio.sleep(0.5)
        for node in nodes:
            assert await counts(node, pair.y.id), node.name
        if restarting:
            await nodes[4].stop()
            await nodes[4].start()
            net.pause_mining()
        looks = 0
        while now_ms(net) < due_ms - 1_000:
            looks += 1
            for node in nodes:
                assert not await counts(node, pair.x.id), node.name
                assert pair.x.id not in await votes_for(node, pair.parent), node.name
            assert_within_the_clock(nodes, pair.x.id)
            await trio.sleep(0.5)
        assert looks > 4
        await trio.sleep(2)
        for node in nodes:
            assert pair.x.id in await votes_for(node, pair.parent), node.name
        await attacker.announce_anchor(pair.x, pair.x_body)
        net.resume_mining()
        await go_on(net, nodes, 2, CoinId(bytes(32)))


async def test_a_node_whose_clock_is_behind_its_chain_waits_for_it() -> None:
    async with simulate(10, expected=TOLD) as net:
        nodes = await net.grow(4)
        await net.mingle(nodes)
        await net.until(lambda: min(node.height for node in nodes) >= 4, "under way", 400)
        late = nodes[3]
        await late.stop()
        late.clock_offset_ms = -4 * LIMIT_MS
        await late.start()
        tip, tip_time = late.tip, late.chain.status.value.tip_time
        assert tip_time > clock_ms(late) + LIMIT_MS
        while tip_time > clock_ms(late) + LIMIT_MS + 250:
            await trio.sleep(0.25)
            assert late.tip == tip
            assert job_of(late) is None
        assert late.epochs.statistics().coins_found == 0
        # The others have gone on; when its clock is set, it does too.
        await late.stop()
        late.clock_offset_ms = 0
        await late.start()
        await net.agree(nodes, within_s=4 * EPOCH_S)
        await net.until(lambda: job_of(late) is not None, "mining again", 4 * EPOCH_S)


async def test_a_clock_that_steps_back_is_noticed() -> None:
    async with simulate(11, expected=TOLD) as net:
        nodes = await net.grow(4)
        await net.mingle(nodes)
        await net.until(lambda: min(node.height for node in nodes) >= 4, "under way", 400)
        odd = nodes[3]
        step_clock(odd, -8 * LIMIT_MS)
        await net.until(lambda: job_of(odd) is None, "noticed", EPOCH_S)
        found = odd.epochs.statistics().coins_found
        tip = odd.tip
        for _ in range(8):
            await trio.sleep(EPOCH_S / 4)
            assert odd.tip == tip
            assert job_of(odd) is None
        assert odd.epochs.statistics().coins_found == found
        step_clock(odd, 8 * LIMIT_MS)
        await net.agree(nodes, within_s=4 * EPOCH_S)
        await net.until(lambda: job_of(odd) is not None, "mining again", 4 * EPOCH_S)
