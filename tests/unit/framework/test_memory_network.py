from __future__ import annotations

import itertools
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import trio

from tests.framework.async_tests import run_virtual
from tests.framework.p2p_memory import ECHO, TOPIC, Cluster, Node
from tests.framework.simulation.link_model import LinkModel, memory_peer_id
from tests.framework.simulation.memory_network import DEAD_AFTER_S
from unchained.node.transport.contract import (
    BadAddressError,
    DialRefusedError,
    DialTimeoutError,
    DialUnreachableError,
    DialWrongPeerError,
    Direction,
    DisconnectReason,
    Misbehaved,
    Misbehaviour,
    NotRunningError,
    PeerConnected,
    PeerDisconnected,
    PeerGoneError,
    PeerId,
    ProtocolUnsupportedError,
    RequestFailedError,
    RequestRefusedError,
    RequestTimeoutError,
    RequestTooLargeError,
    ResponseTooLargeError,
    ServeLimits,
    TopicLimits,
    Verdict,
)
from unchained.node.transport.switchboard import NOT_ADMITTED

SEED = 7


def in_cluster(
    seed: int = SEED, model: LinkModel | None = None
) -> AbstractAsyncContextManager[Cluster]:
    return Cluster(seed, model).running()


async def line(cluster: Cluster, count: int) -> list[Node]:
    nodes = [await cluster.add() for _ in range(count)]
    for one, other in itertools.pairwise(nodes):
        await cluster.connect(one, other)
    return nodes


async def ask(node: Node, other: Node, payload: bytes = b"hello", **changes: Any) -> bytes:
    options: dict[str, Any] = {"protocol": ECHO, "max_response": 1000, "timeout": 5.0} | changes
    protocol = options.pop("protocol")
    return await node.transport.request(other.id, protocol, payload, **options)


async def test_connection_is_seen_by_both_sides_once() -> None:
    async with in_cluster() as cluster:
        one, other = await line(cluster, 2)
        assert await one.transport.connect(other.transport.address) == other.id
        (mine,) = one.transport.peers()
        (theirs,) = other.transport.peers()
        assert (mine.peer, mine.ip, mine.direction) == (other.id, "10.0.0.1", Direction.OUTBOUND)
        assert (theirs.peer, theirs.ip, theirs.direction) == (
            one.id,
            "10.0.0.0",
            Direction.INBOUND,
        )
        assert [event.info for event in one.seen(PeerConnected)] == [mine]
        await one.transport.disconnect(other.id)
        await trio.sleep(1)
        assert [e.reason for e in one.seen(PeerDisconnected)] == [DisconnectReason.LOCAL]
        assert [e.reason for e in other.seen(PeerDisconnected)] == [DisconnectReason.REMOTE]
        assert one.transport.peers() == other.transport.peers() == ()


async def test_simultaneous_dials_make_one_connection() -> None:
    async with in_cluster() as cluster:
        one, other = await cluster.add(), await cluster.add()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.connect, one, other)
            nursery.start_soon(cluster.connect, other, one)
        assert len(one.seen(PeerConnected)) == len(other.seen(PeerConnected)) == 1


async def test_dial_errors_are_named() -> None:
    async with in_cluster() as cluster:
        one, other = await cluster.add(), await cluster.add()
        connect = one.transport.connect
        with pytest.raises(BadAddressError):
            await connect("/ip4/10.0.0.1/udp/9000")
        with pytest.raises(DialRefusedError, match="names no peer"):
            await connect("/ip4/10.0.0.1/tcp/9000")
        with pytest.raises(DialRefusedError, match="ourselves"):
            await connect(one.transport.address)
        with pytest.raises(DialTimeoutError):
            await connect(f"/ip4/10.0.9.9/tcp/9000/p2p/{memory_peer_id('nobody')}")
        with pytest.raises(DialUnreachableError):
            await connect(f"/ip4/10.0.0.1/tcp/9001/p2p/{memory_peer_id('nobody')}")
        with pytest.raises(DialUnreachableError):
            await connect(f"/dns4/nowhere.example/tcp/9000/p2p/{other.id}")
        with pytest.raises(DialWrongPeerError):
            await connect(f"/ip4/10.0.0.1/tcp/9000/p2p/{memory_peer_id('nobody')}")
        cluster.network.partition([[one.id]])
        with pytest.raises(DialTimeoutError):
            await connect(other.transport.address, timeout=3.0)
        cluster.network.heal()
        other.transport.set_gate(lambda ip, peer, direction: peer is None)
        with pytest.raises(DialUnreachableError):
            await connect(other.transport.address)
        one.transport.set_gate(lambda ip, peer, direction: False)
        with pytest.raises(DialRefusedError, match=NOT_ADMITTED):
            await connect(other.transport.address)
        assert one.transport.statistics().dials_failed == 6
        assert one.transport.peers() == other.transport.peers() == ()


async def test_names_are_resolved_by_the_network() -> None:
    async with in_cluster() as cluster:
        one, other = await cluster.add(), await cluster.add()
        cluster.network.set_name("seed.example", "10.0.0.1")
        assert await one.transport.connect(f"/dns/seed.example/tcp/9000/p2p/{other.id}") == other.id


async def test_a_stopped_transport_says_so() -> None:
    async with in_cluster() as cluster:
        one, other = await line(cluster, 2)
        one.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert one.transport.addresses() == ()
        with pytest.raises(NotRunningError):
            await one.transport.connect(other.transport.address)
        with pytest.raises(NotRunningError):
            await ask(one, other)
        with pytest.raises(NotRunningError):
            await one.transport.publish(TOPIC, b"x")
        await trio.sleep(1)
        assert [e.reason for e in other.seen(PeerDisconnected)] == [DisconnectReason.REMOTE]


async def test_request_takes_latency_and_bandwidth() -> None:
    async with in_cluster(model=LinkModel(latency=1.0, bandwidth=1000.0)) as cluster:
        one, other = await line(cluster, 2)
        await trio.sleep(5)
        start = trio.current_time()
        assert await ask(one, other) == b"hello"
        assert trio.current_time() - start == pytest.approx(2.0 + 2 * 0.065)
        start = trio.current_time()
        assert len(await ask(one, other, b"x" * 1000, timeout=50)) == 1000
        assert trio.current_time() - start == pytest.approx(2.0 + 2 * 1.06)


async def test_request_errors_are_named() -> None:
    async with in_cluster() as cluster:
        one, other = await cluster.add(), await cluster.add()

        async def fail(peer: PeerId, payload: bytes) -> bytes:
            raise KeyError("our own fault")

        async def stall(peer: PeerId, payload: bytes) -> bytes:
            stalled.append(peer)
            if len(stalled) == 2:
                both.set()
            await trio.sleep_forever()
            raise AssertionError

        stalled: list[PeerId] = []
        both = trio.Event()
        for handler in (fail, stall):
            other.transport.serve(f"/t/{handler.__name__}", handler, ServeLimits(1000, 2, 3))
        with pytest.raises(ValueError, match="already serving"):
            other.transport.serve("/t/fail", fail, ServeLimits(1000, 2, 3))
        with pytest.raises(PeerGoneError):
            await ask(one, other)
        await cluster.connect(one, other)
        with pytest.raises(RequestTooLargeError):
            await ask(one, other, b"x" * 1001)
        with pytest.raises(ResponseTooLargeError):
            await ask(one, other, max_response=4)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(partial(ask, one, other, protocol="/t/stall"))
            await both.wait()
            with pytest.raises(RequestRefusedError):
                await ask(one, other, protocol="/t/stall")
            nursery.cancel_scope.cancel()
        with pytest.raises(RequestFailedError):
            await ask(one, other, protocol="/t/fail")
        with pytest.raises(ProtocolUnsupportedError):
            await ask(one, other, protocol="/t/none")
        with pytest.raises(RequestTimeoutError):
            await ask(one, other, protocol="/t/stall")
        kinds = [event.kind for event in one.seen(Misbehaved)]
        assert kinds == [Misbehaviour.BAD_RESPONSE]
        kinds = [event.kind for event in other.seen(Misbehaved)]
        assert kinds == [Misbehaviour.OVERSIZED_REQUEST]
        assert other.transport.statistics().faults == 1
        assert await ask(one, other) == b"hello"

        refused = []

        async def one_more() -> None:
            try:
                await ask(one, other, protocol="/t/stall")
            except RequestRefusedError:
                refused.append(1)
            except PeerGoneError:
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one_more)
            await trio.sleep(1)
            assert len(refused) == 1
            await one.transport.disconnect(other.id)


async def test_gossip_goes_hop_by_hop() -> None:
    async with in_cluster() as cluster:
        nodes = await line(cluster, 5)
        await trio.sleep(3)
        start = trio.current_time()
        await nodes[0].transport.publish(TOPIC, b"coin")
        await trio.sleep(3)
        for hops, node in enumerate(nodes[1:], 1):
            when, sender = node.heard[b"coin"]
            assert when - start == pytest.approx(0.05 * hops, abs=0.001)
            assert sender == nodes[hops - 1].id
        assert b"coin" not in nodes[0].heard


@pytest.mark.parametrize("verdict", [Verdict.IGNORE, Verdict.REJECT])
async def test_only_accepted_messages_are_forwarded(verdict: Verdict) -> None:
    async with in_cluster() as cluster:
        first, middle, last = await line(cluster, 3)
        await trio.sleep(3)
        middle.verdicts[b"coin"] = verdict
        await first.transport.publish(TOPIC, b"coin")
        await trio.sleep(10)
        assert middle.validated == [b"coin"]
        assert last.validated == []
        accused = [(event.peer, event.kind, event.topic) for event in middle.seen(Misbehaved)]
        expected = [(first.id, Misbehaviour.REJECTED_GOSSIP, TOPIC)]
        assert accused == (expected if verdict is Verdict.REJECT else [])


async def test_what_is_deferred_is_not_remembered_and_may_come_again() -> None:
    async with in_cluster() as cluster:
        first, middle, last = await line(cluster, 3)
        other = await cluster.add()
        await cluster.connect(other, middle)
        await trio.sleep(3)
        middle.verdicts[b"coin"] = Verdict.DEFER
        await first.transport.publish(TOPIC, b"coin")
        await trio.sleep(1)
        assert middle.validated == [b"coin"]
        middle.verdicts[b"coin"] = Verdict.ACCEPT
        await other.transport.publish(TOPIC, b"coin")
        await trio.sleep(1)
        assert middle.validated == [b"coin", b"coin"]
        assert last.validated == [b"coin"]
        assert middle.seen(Misbehaved) == []


async def test_what_was_deferred_is_forwarded_when_it_is_published() -> None:
    async with in_cluster() as cluster:
        first, middle, last = await line(cluster, 3)
        await trio.sleep(3)
        middle.verdicts[b"coin"] = Verdict.DEFER
        await first.transport.publish(TOPIC, b"coin")
        await trio.sleep(1)
        assert last.validated == []
        await middle.transport.publish(TOPIC, b"coin")
        await trio.sleep(1)
        assert last.validated == [b"coin"]


async def test_duplicates_that_arrive_during_validation_are_not_validated_again() -> None:
    async with in_cluster() as cluster:
        nodes = [await cluster.add() for _ in range(6)]
        for number, one in enumerate(nodes):
            for other in nodes[:number]:
                await cluster.connect(one, other)
        for node in nodes:
            node.validation_s = 2.0
        await trio.sleep(3)
        await nodes[0].transport.publish(TOPIC, b"coin")
        await nodes[0].transport.publish(TOPIC, b"coin")
        await trio.sleep(20)
        assert [node.validated for node in nodes] == [[]] + [[b"coin"]] * 5
        assert sum(node.transport.statistics().gossip_duplicates for node in nodes) > 0
        assert nodes[0].transport.statistics().gossip_published == 1


async def test_a_validator_that_raises_is_counted_and_forwards_nothing() -> None:
    async with in_cluster() as cluster:
        first, middle, last = await line(cluster, 3)
        await trio.sleep(3)
        middle.validation_s = float("nan")
        await first.transport.publish(TOPIC, b"coin")
        await trio.sleep(5)
        assert last.validated == []
        assert middle.transport.statistics().faults == 1
        middle.validation_s = 0.0
        await first.transport.publish(TOPIC, b"second")
        await trio.sleep(5)
        assert last.validated == [b"second"]


async def test_oversized_gossip_is_reported() -> None:
    async with in_cluster() as cluster:
        one = await cluster.add(limits=TopicLimits(max_size=2000))
        other = await cluster.add()
        await cluster.connect(one, other)
        await trio.sleep(3)
        await one.transport.publish(TOPIC, b"x" * 1500)
        await trio.sleep(3)
        assert [e.kind for e in other.seen(Misbehaved)] == [Misbehaviour.OVERSIZED_GOSSIP]
        with pytest.raises(ValueError, match="at most 2000"):
            await one.transport.publish(TOPIC, b"x" * 2001)
        with pytest.raises(ValueError, match="not subscribed"):
            await one.transport.publish("/t/other", b"x")


async def test_a_flood_does_not_starve_other_peers() -> None:
    async with in_cluster() as cluster:
        flooder, honest = await cluster.add(), await cluster.add()
        limits = TopicLimits(max_size=1000, max_validating=4, max_per_peer=2, max_waiting=50)
        victim = await cluster.add(limits=limits)
        await cluster.connect(flooder, victim)
        await cluster.connect(honest, victim)
        await trio.sleep(3)
        victim.validation_s = 0.1
        for number in range(500):
            await flooder.transport.publish(TOPIC, b"flood %d" % number)
        await trio.sleep(0.2)
        start = trio.current_time()
        await honest.transport.publish(TOPIC, b"coin")
        await trio.sleep(60)
        assert victim.heard[b"coin"][0] - start < 0.4
        assert victim.transport.statistics().gossip_dropped >= 400


async def test_lost_gossip_is_offered_again_outside_the_mesh() -> None:
    async with in_cluster(model=LinkModel(gossip_loss=0.2)) as cluster:
        nodes = [await cluster.add() for _ in range(30)]
        # so many that every node has peers outside of its mesh
        await cluster.connect_random(14)
        await trio.sleep(5)
        for number in range(20):
            await nodes[number].transport.publish(TOPIC, b"coin %d" % number)
        await trio.sleep(30)
        assert sum(len(node.heard) for node in nodes) == 20 * 29


async def test_gossip_that_comes_once_more_is_a_duplicate() -> None:
    async with in_cluster(model=LinkModel(replay=1.0, replay_after=5.0)) as cluster:
        one, other = await line(cluster, 2)
        await trio.sleep(3)
        await one.transport.publish(TOPIC, b"news")
        await trio.sleep(10)
        assert cluster.network.replayed == 1
        statistics = other.transport.statistics()
        assert (statistics.gossip_accepted, statistics.gossip_duplicates) == (1, 1)
        assert statistics.misbehaviours == 0


async def test_partition_holds_frames_and_heals() -> None:
    async with in_cluster() as cluster:
        one, other = await line(cluster, 2)
        await trio.sleep(3)
        cluster.network.partition([[one.id], [other.id]])
        await one.transport.publish(TOPIC, b"coin")
        with pytest.raises(RequestTimeoutError):
            await ask(one, other)
        assert other.validated == []
        cluster.network.heal()
        await trio.sleep(1)
        assert other.validated == [b"coin"]
        assert await ask(one, other) == b"hello"
        assert one.seen(PeerDisconnected) == []


async def test_partition_that_lasts_breaks_connections() -> None:
    async with in_cluster() as cluster:
        one, other, third = await line(cluster, 3)
        cluster.network.partition([[one.id]])
        start = trio.current_time()
        with pytest.raises(PeerGoneError):
            await ask(one, other, timeout=60)
        assert trio.current_time() - start == pytest.approx(DEAD_AFTER_S)
        for node in (one, other):
            assert [e.reason for e in node.seen(PeerDisconnected)] == [DisconnectReason.DEAD]
        assert third.seen(PeerDisconnected) == []
        cluster.network.heal()
        await cluster.connect(one, other)
        assert await ask(one, other) == b"hello"


def spread(count: int, seed: int) -> list[tuple[PeerId, float, PeerId]]:
    """Return when each node heard a message of the first, and from whom."""

    async def main() -> list[tuple[PeerId, float, PeerId]]:
        async with in_cluster(seed, model) as cluster:
            nodes = [await cluster.add() for _ in range(count)]
            await cluster.connect_random(5)
            await trio.sleep(5)
            start = trio.current_time()
            await nodes[0].transport.publish(TOPIC, b"coin")
            await trio.sleep(5)
            heard = [(node.id, node.heard.get(b"coin")) for node in nodes[1:]]
            return [(peer, when[0] - start, when[1]) for peer, when in heard if when is not None]

    model = LinkModel(latency=0.05, jitter=0.05, loss=0.01, reorder=0.05)
    return run_virtual(main, seed=seed)


def test_two_hundred_nodes_hear_a_message() -> None:
    heard = spread(200, SEED)
    assert len(heard) == 199
    assert max(delay for _, delay, _ in heard) < 2.0


def test_a_seed_repeats_the_run() -> None:
    assert spread(30, SEED) == spread(30, SEED) != spread(30, SEED + 1)
