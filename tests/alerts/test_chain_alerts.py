"""Alerts about the chain and the network: each fires from its fault and clears after it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

from tests.framework.alert_recorder import STEP_S, AlertRecorder, check_rule
from tests.framework.observed import observer_of
from tests.framework.simulation.simnet import (
    SIM,
    SimNet,
    SimNode,
    lengthen,
    simulate,
)
from unchained.node.consensus.genesis import genesis_of
from unchained.node.observe.alerts import ALERTS
from unchained.node.peers.reputation import PeerLimits
from unchained.node.transport.contract import PeerId, TopicLimits, Verdict
from unchained.node.transport.served import Served
from unchained.node.wire.limits import name_of

BY_NAME = {alert.name: alert for alert in ALERTS}
SHALLOW = msgspec.structs.replace(SIM, max_reorg=24, window=8, maturity=4)


def recorder_of(name: str, node: SimNode) -> AlertRecorder:
    return AlertRecorder(BY_NAME[name], lambda: observer_of(node).statistics())


async def mesh(net: SimNet, count: int, **options: int) -> list[SimNode]:
    nodes = await net.grow(count, **options)
    await net.mingle(nodes)
    return nodes


async def test_a_chain_that_stands_still(tmp_path: Path) -> None:
    async with simulate(101) as net:
        nodes = await mesh(net, 2)
        recorder = recorder_of("UnchainedChainStalled", nodes[0])
        await recorder.watch(120)
        net.pause_mining()
        await recorder.through_fault()
        net.resume_mining()
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_a_peer_on_another_chain(tmp_path: Path) -> None:
    """The node sets aside an anchor that its peer keeps: two chains, with a link between them."""
    async with simulate(102) as net:
        nodes = await mesh(net, 2)
        await net.until(lambda: nodes[0].height > 5, "some anchors high", 300)
        recorder = recorder_of("UnchainedForkWithPeer", nodes[0])
        await recorder.watch(120)
        nodes[0].miner.paused = True
        await net.agree()
        aside = nodes[0].tip
        await nodes[0].chain.set_aside(aside)
        await recorder.through_fault()
        await nodes[0].chain.take_back(aside)
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def split(net: SimNet, anchors: int) -> tuple[SimNode, SimNode]:
    """Let two nodes that are apart grow a chain each, the second's the better one."""
    one, other = net.node(), net.node()
    await one.start()
    await other.start()
    await one.core(lambda core: lengthen(core, anchors, lock=b"one"))
    await other.core(lambda core: lengthen(core, anchors + 6, plain=2, lock=b"other"))
    return one, other


async def test_a_better_chain_that_would_undo_too_much(tmp_path: Path) -> None:
    async with simulate(103, params=SHALLOW, expected=("chain.reorg_refused",)) as net:
        one, other = await split(net, 60)
        await trio.sleep(3 * 3600)
        recorder = recorder_of("UnchainedReorgRefused", one)
        await recorder.watch(60)
        recorder.break_now()
        await other.transport.connect(one.transport.address)
        await net.until(lambda: one.chain.status.value.refused is not None, "refused", 60)
        await recorder.watch(BY_NAME["UnchainedReorgRefused"].within_s)
        # Its own chain makes up for it.
        recorder.heal_now()
        await one.core(lambda core: lengthen(core, 80, plain=2, lock=b"own"))
        await recorder.watch(BY_NAME["UnchainedReorgRefused"].within_s)
        check_rule(recorder, tmp_path)


async def test_a_deep_reorganisation(tmp_path: Path) -> None:
    async with simulate(104) as net:
        one, other = await split(net, 8)
        recorder = recorder_of("UnchainedDeepReorg", one)
        await recorder.watch(60)
        recorder.break_now()
        await other.transport.connect(one.transport.address)
        await net.agree([one, other])
        await recorder.watch(60)
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_few_peers(tmp_path: Path) -> None:
    async with simulate(105) as net:
        nodes = await mesh(net, 5, miners=1)
        recorder = recorder_of("UnchainedFewPeers", nodes[0])
        await recorder.watch(60)
        net.part(nodes[:1], nodes[1:])
        # A link that is cut is noticed only after a while.
        recorder.break_now()
        await net.until(lambda: not nodes[0].transport.peers(), "alone", 240)
        await recorder.watch(BY_NAME["UnchainedFewPeers"].within_s)
        net.weather.heal()
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_nobody_connects(tmp_path: Path) -> None:
    """A router stops forwarding the port: others hang up, and no longer reach the node."""
    async with simulate(106) as net:
        nodes = await net.grow(3, miners=1)
        outside = net.node()
        outside.bootstrap = (nodes[0].transport.address,)
        await outside.start()
        await net.until(
            lambda: observer_of(nodes[0]).statistics().network.peers.inbound > 0, "met", 120
        )
        net.pause_mining()
        recorder = recorder_of("UnchainedNoInbound", nodes[0])
        await recorder.watch(60)
        limits = nodes[0].network.peers.reputation.limits
        nodes[0].network.peers.reputation.limits = PeerLimits(outbound=4, inbound=0)
        for info in nodes[0].transport.peers():
            await nodes[0].transport.disconnect(info.peer)
        await recorder.through_fault()
        nodes[0].network.peers.reputation.limits = limits
        late = net.node()
        late.bootstrap = (nodes[0].transport.address,)
        await late.start()
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_peers_that_say_nothing(tmp_path: Path) -> None:
    """Its peers stay connected and greet, and publish nothing that others mine."""
    async with simulate(107) as net:
        nodes = await mesh(net, 3, miners=2)
        silent = nodes[2]
        recorder = recorder_of("UnchainedSilentPeers", silent)
        await recorder.watch(720)
        net.pause_mining()
        await recorder.through_fault()
        net.resume_mining()
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_a_clock_that_is_off(tmp_path: Path) -> None:
    async with simulate(108, expected=("net.clock_off",)) as net:
        nodes = await mesh(net, 6, miners=5)
        node = nodes[5]
        await node.stop()
        await node.start()
        await net.mingle([node])
        recorder = recorder_of("UnchainedClockOff", node)
        await recorder.watch(60)
        clock = node.chain._clock
        clock._origin_ms -= 7_000
        await recorder.through_fault()
        clock._origin_ms += 7_000
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_a_clock_that_is_behind_the_chain(tmp_path: Path) -> None:
    """Somebody sets this machine's clock back."""
    async with simulate(109, expected=("chain.clock_behind",)) as net:
        (node,) = await net.grow(1)
        await net.until(lambda: node.height > 10, "some anchors high", 600)
        recorder = recorder_of("UnchainedClockBehindChain", node)
        await recorder.watch(60)
        clock = node.chain._clock
        clock._origin_ms -= 3_600_000
        await recorder.through_fault()
        clock._origin_ms += 3_600_000
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_a_sync_that_is_stuck(tmp_path: Path) -> None:
    """The peer that leads serves headers and no bodies."""
    async with simulate(110) as net:
        full, late = net.node(), net.node()
        await full.start()
        await full.core(lambda core: lengthen(core, 700, plain=0))
        await late.start()
        recorder = recorder_of("UnchainedSyncStuck", late)
        await recorder.watch(60)
        served = full.transport.switchboard.served
        name = name_of(genesis_of(net.params).id, "bodies")
        bodies = served[name]
        served[name] = Served(never, bodies.limits)
        await late.transport.connect(full.transport.address)
        await recorder.through_fault()
        served[name] = bodies
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def never(*_: object) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def test_many_bans(tmp_path: Path) -> None:
    async with simulate(111) as net:
        nodes = await mesh(net, 2)
        recorder = recorder_of("UnchainedBanStorm", nodes[0])
        await recorder.watch(60)
        genesis = genesis_of(net.params).id
        recorder.break_now()
        for number in range(14):
            attacker = net.transport(f"attacker {number}", f"9.{number + 1}.0.1")
            topic = name_of(genesis, "coin")
            attacker.subscribe(topic, accept, TopicLimits(max_size=1 << 20))
            await net.run_transport(attacker)
            await attacker.connect(nodes[0].transport.address)
            await trio.sleep(2)
            await attacker.publish(topic, bytes([number]) * 400)
            await recorder.watch(STEP_S)
        await recorder.watch(60)
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.IGNORE
