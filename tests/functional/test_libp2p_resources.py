"""Faults of libp2p 0.8.1 that let a peer eat memory or places: shown on it, and gone in ours."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2

from tests.framework.p2p_attacker import (
    DATA,
    MESHSUB,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Attacker,
    RefusedError,
    attacker,
)
from tests.framework.p2p_node import ECHO, LARGE, STALL, TOPIC
from tests.framework.p2p_process import Process, node
from tests.framework.p2p_stock import MAX_CONNECTIONS
from unchained.node.transport.address import Address
from unchained.node.transport.libp2p.connection import IDENTIFIES_BURST
from unchained.node.transport.libp2p.handshakes import HANDSHAKES_MAX
from unchained.node.transport.libp2p.identify import AGENT, IDENTIFY_PROTOCOL, read_message
from unchained.node.transport.libp2p.streams import StreamBrokenError, varint
from unchained.node.transport.libp2p.unsent_answers import (
    UNSENT_ANSWER_BYTES_MAX,
    UNSENT_ANSWER_BYTES_OF_PEER_MAX,
)

pytestmark = pytest.mark.real_time

MIB = 1 << 20


async def still_serves(victim: Process, honest: Process) -> None:
    answer = await honest.outcome("request", victim.id, ECHO, "still there", 100, 10)
    assert answer == ["ok", "still there"]


async def come_and_go(victim: Process, times: int) -> None:
    for number in range(times):
        async with attacker(victim.address, 3 + number):
            pass


async def test_stock_never_gives_inbound_places_back() -> None:
    """Fault 4."""

    async with node(1, module="p2p_stock") as victim:
        await come_and_go(victim, MAX_CONNECTIONS)
        await victim.state(lambda state: state["connections"] == 0)
        with pytest.raises(RefusedError):
            await come_and_go(victim, 1)


async def test_ours_gives_inbound_places_back() -> None:
    async with node(1) as victim, node(2) as honest:
        await come_and_go(victim, 150)
        await honest.ok("connect", victim.address, 10)
        await still_serves(victim, honest)
        state = await victim.state(lambda state: state["peers"] == [honest.id])
        assert state["statistics"]["connections_refused"] == 0
        assert state["statistics"]["inbound"] == 1


async def overrun(attack: Attacker, size: int) -> None:
    """Send far more than a window on a stream that is not read."""
    await attack.open(STALL)
    body = bytes(64 << 10)
    with suppress(Exception):
        for _ in range(size // len(body)):
            await attack.frame(DATA, 0, 1, len(body), body)


async def test_stock_buffers_what_overruns_its_window() -> None:
    """Fault 5."""

    async with node(1, module="p2p_stock") as victim:
        before = (await victim.ok("state"))["rss"]
        async with attacker(victim.address, 3) as peer:
            await overrun(peer, 100 * MIB)
            await victim.state(lambda state: state["rss"] - before > 80 * MIB)


async def test_ours_closes_who_overruns_its_window() -> None:
    async with node(1) as victim, node(2) as honest:
        await honest.ok("connect", victim.address, 10)
        before = (await victim.ok("state"))["rss"]
        async with attacker(victim.address, 3) as peer:
            await overrun(peer, 100 * MIB)
            who = peer.identity.peer
            await victim.event("misbehaved", "127.0.0.1", who, "window_overrun")
            await victim.event("disconnected", who, "misbehaved")
        await still_serves(victim, honest)
        assert (await victim.ok("state"))["rss"] - before < 8 * MIB


async def oversized_frame(attack: Attacker) -> None:
    await attack.frame(DATA, SYN, 1, 17 * MIB)


async def no_frame(attack: Attacker) -> None:
    await attack.frame(9, 0, 1, 0)


async def many_streams(attack: Attacker) -> None:
    with suppress(Exception):
        for number in range(5000):
            await attack.frame(DATA, SYN, 1 + 2 * number, 0)


async def many_pings(attack: Attacker) -> None:
    with suppress(Exception):
        for _ in range(1000):
            await attack.frame(PING, SYN, 0, 1)


async def unopened_streams(attack: Attacker) -> None:
    with suppress(Exception):
        for number in range(1_000):
            await attack.frame(DATA, 0, 1001 + 2 * number, 1, b"x")


async def test_ours_closes_who_breaks_the_multiplexer() -> None:
    attacks = [
        (oversized_frame, "oversized_frame"),
        (no_frame, "oversized_frame"),
        (many_streams, "stream_flood"),
        (many_pings, "stream_flood"),
        (unopened_streams, "oversized_frame"),
    ]
    async with node(1) as victim, node(2) as honest:
        await honest.ok("connect", victim.address, 10)
        before = (await victim.ok("state"))["rss"]
        for seed, (attack, kind) in enumerate(attacks, 3):
            async with attacker(victim.address, seed) as peer:
                await attack(peer)
                who = peer.identity.peer
                await victim.event("misbehaved", "127.0.0.1", who, kind)
                await victim.event("disconnected", who, "misbehaved")
        await still_serves(victim, honest)
        assert (await victim.ok("state"))["rss"] - before < 16 * MIB


async def test_stock_keeps_messages_without_end() -> None:
    """Faults 6, 7 and 8."""

    async with (
        node(1, module="p2p_stock") as victim,
        node(2, module="p2p_stock") as other,
        attacker(victim.address, 3),
    ):
        await other.ok("connect", victim.address)
        await other.state(lambda state: state["topic peers"])
        await victim.state(lambda state: state["topic peers"] and state["pubsub peers"] == 2)
        size = 60_000
        await victim.ok("publish many", 100, size, 0)
        for number in range(20):
            await other.ok("publish many", 1, size, 100 + number)
        # Its own messages too: what it published itself, what the attacker never asked for.
        state = await victim.state(lambda state: state["kept"] > 110 * size)
        assert state["pending"] > 90 * size
        assert state["deliveries"] > 110


async def heard(victim: Process, count: int) -> dict[str, Any]:
    return await victim.state(lambda state: len(state["heard"]) == count)


async def test_ours_forgets_messages() -> None:
    async with node(1) as victim, node(2) as other:
        await other.ok("connect", victim.address, 10)
        await other.state(lambda state: state["mesh"])
        async with attacker(victim.address, 3):
            before = (await victim.state(lambda state: len(state["peers"]) == 2))["rss"]
            for number in range(10):
                await other.ok("publish many", 10, 240_000, 10 * number)
                await victim.ok("publish many", 10, 240_000, 1000 + 10 * number)
                state = await heard(victim, 10 * number + 10)
            # 48 MB went through; kept are at most the cache's 16 MiB and the queues'.
            assert state["rss"] - before < 32 * MIB


async def silent_sockets(
    victim: Process, count: int, stack: AsyncExitStack
) -> list[trio.SocketStream]:
    """Open sockets from another address and say nothing on them."""
    place = Address.parse(victim.address)
    sockets = []
    for _ in range(count):
        stream = await trio.open_tcp_stream(
            place.host, place.port, local_address="127.0.0.2", happy_eyeballs_delay=None
        )
        stack.push_async_callback(trio.aclose_forcefully, stream)
        sockets.append(stream)
    return sockets


async def count_open(sockets: list[trio.SocketStream]) -> int:
    """Return how many sockets the other side has not closed, once it answers no more."""
    still_open = 0

    async def look(stream: trio.SocketStream) -> None:
        nonlocal still_open
        try:
            with trio.fail_after(1):
                while await stream.receive_some(1000):
                    pass
        except trio.TooSlowError:
            still_open += 1
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        for stream in sockets:
            nursery.start_soon(look, stream)
    return still_open


async def test_silent_sockets() -> None:
    """Fault 9: stock keeps them all; ours shows some out and lets honest peers in."""

    async with (
        node(1, module="p2p_stock") as stock,
        node(1) as ours,
        node(2) as honest,
        AsyncExitStack() as stack,
    ):
        theirs = await silent_sockets(stock, MAX_CONNECTIONS, stack)
        assert await count_open(theirs) == MAX_CONNECTIONS
        sockets = await silent_sockets(ours, 300, stack)
        await honest.ok("connect", ours.address, 10)
        await still_serves(ours, honest)
        assert await count_open(sockets) <= HANDSHAKES_MAX
        state = await ours.ok("state")
        assert state["statistics"]["handshakes_failed"] >= 300 - HANDSHAKES_MAX


async def empty_messages(attack: Attacker) -> None:
    """A MiB of empty RPCs, one byte each: some 15 s of work for who would do it all at once."""
    stream = await attack.gossip()
    with suppress(Exception):
        for _ in range(16):
            await stream.write(bytes(64 << 10))


async def frames_without_end(attack: Attacker) -> None:
    """A byte at a time of a stream that was opened and reset, in some 35,000 frames a second."""
    await attack.frame(DATA, SYN, 1001, 0)
    await attack.frame(WINDOW_UPDATE, RST, 1001, 0)
    with suppress(Exception):
        for _ in range(200_000):
            await attack.frame(DATA, 0, 1001, 1, b"x")


async def gossip_streams(attack: Attacker) -> None:
    """One gossip stream after the other, each left with half a message in it."""
    with suppress(Exception):
        for _ in range(40):
            stream = await attack.open(MESHSUB)
            await stream.write(varint(1 << 20) + bytes(200_000))


async def test_of_many_gossip_streams_the_last_is_read() -> None:
    async with node(1) as victim, node(2) as honest:
        await honest.ok("connect", victim.address, 10)
        before = (await victim.ok("state"))["rss"]
        async with attacker(victim.address, 3) as peer:
            await gossip_streams(peer)
            stream = await peer.gossip(rpc_pb2.Message(data=b"heard", topicIDs=[TOPIC]))
            await victim.state(lambda state: b"heard".hex() in state["heard"])
            await stream.reset()
        await still_serves(victim, honest)
        assert (await victim.ok("state"))["rss"] - before < 8 * MIB


async def test_frames_without_end_wait_and_delay_nobody_else() -> None:
    async with node(1) as victim, node(2) as honest:
        await honest.ok("connect", victim.address, 10)
        async with attacker(victim.address, 3) as peer, trio.open_nursery() as nursery:
            nursery.start_soon(frames_without_end, peer)
            for _ in range(20):
                await still_serves(victim, honest)
            state = await victim.ok("state")
            assert peer.identity.peer in state["peers"]
            assert state["statistics"]["misbehaviours"] == 0
            nursery.cancel_scope.cancel()


async def many_streams_by_turns(attack: Attacker) -> None:
    """Open streams for what nobody serves and reset each, never many at a time."""
    hello = b"\x13/multistream/1.0.0\n\x0a/t/none/1\n"
    with suppress(Exception):
        for number in range(20_000):
            await attack.frame(DATA, SYN, 1 + 2 * number, len(hello), hello)
            await attack.frame(WINDOW_UPDATE, RST, 1 + 2 * number, 0)


async def test_ours_serves_others_while_one_peer_floods_it() -> None:
    async with node(1) as victim, node(2) as honest:
        await honest.ok("connect", victim.address, 10)
        async with (
            attacker(victim.address, 3) as talker,
            attacker(victim.address, 4) as asker,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(empty_messages, talker)
            for _ in range(20):
                await still_serves(victim, honest)
            nursery.start_soon(many_streams_by_turns, asker)
            for _ in range(20):
                await still_serves(victim, honest)
            state = await victim.ok("state")
            assert talker.identity.peer in state["peers"]
            nursery.cancel_scope.cancel()


async def test_who_asks_again_and_again_who_a_node_is_gets_no_answer() -> None:
    async with node(1) as victim, node(2) as honest:
        async with attacker(victim.address, 3) as peer:
            answered = 0
            for _ in range(IDENTIFIES_BURST + 4):
                with suppress(StreamBrokenError):
                    stream = await peer.open(IDENTIFY_PROTOCOL)
                    assert (await read_message(stream)).agent == AGENT
                    answered += 1
                    await stream.reset()
            assert answered == IDENTIFIES_BURST
            state = await victim.ok("state")
            assert peer.identity.peer in state["peers"]
            assert state["statistics"]["misbehaviours"] == 0
        await honest.ok("connect", victim.address, 10)
        await still_serves(victim, honest)


async def ask_and_take_nothing(attack: Attacker, protocol: str, size: int) -> None:
    """As many requests as are served at a time, each for an answer that is left where it is."""
    payload = str(size).encode()
    for _ in range(64):
        stream = await attack.open(protocol)
        await stream.write(len(payload).to_bytes(4, "big") + payload)


async def test_answers_that_nobody_takes_are_few() -> None:
    async with node(1) as victim, node(2) as honest, AsyncExitStack() as stack:
        await honest.ok("connect", victim.address, 10)
        before = (await victim.ok("state"))["rss"]
        for seed in range(3, 7):
            peer = await stack.enter_async_context(attacker(victim.address, seed))
            await ask_and_take_nothing(peer, LARGE, 2_000_000)
        state = await victim.state(
            lambda state: state["statistics"]["requests_refused"] >= 4 * (64 - 2)
        )
        assert state["rss"] - before < 40 * MIB
        answer = await honest.outcome("request", victim.id, LARGE, "2000000", 2_000_000, 10)
        assert answer == ["ok", 2_000_000]


async def test_answers_that_nobody_takes_are_bounded_for_all_and_the_oldest_is_given_up() -> None:
    async with node(1) as victim, AsyncExitStack() as stack:
        before = (await victim.ok("state"))["rss"]
        asked = []
        each = UNSENT_ANSWER_BYTES_OF_PEER_MAX - MIB
        payload = str(each).encode()
        for seed in range(3, 3 + UNSENT_ANSWER_BYTES_MAX // each + 1):
            peer = await stack.enter_async_context(attacker(victim.address, seed))
            asked.append(await peer.open(LARGE))
            await asked[-1].write(len(payload).to_bytes(4, "big") + payload)
            # The first bytes say that the answer is held.
            assert await asked[-1].read(1) == b"\x00"
        state = await victim.ok("state")
        assert state["rss"] - before < UNSENT_ANSWER_BYTES_MAX + 24 * MIB
        with pytest.raises(StreamBrokenError):
            await asked[0].read(4 + each)
        for stream in asked[1:]:
            assert await stream.read(4 + each) == each.to_bytes(4, "big") + bytes(each)


async def test_gossip_that_is_not_allowed_is_reported() -> None:
    message = rpc_pb2.Message(data=b"x" * 300_001, topicIDs=[TOPIC])
    cases = [
        (message, "oversized_gossip"),
        (rpc_pb2.Message(data=b"x", topicIDs=["/other"]), "unknown_topic"),
        (rpc_pb2.Message(data=b"reject", topicIDs=[TOPIC]), "rejected_gossip"),
        (rpc_pb2.Message(data=b"x", topicIDs=[TOPIC, TOPIC]), "bad_gossip"),
    ]
    async with node(1) as victim:
        for seed, (bad, kind) in enumerate(cases, 3):
            async with attacker(victim.address, seed) as peer:
                await peer.gossip(bad)
                await victim.event("misbehaved", "127.0.0.1", peer.identity.peer, kind)
        async with attacker(victim.address, 9) as peer:
            stream = await peer.gossip()
            await stream.write(b"\xff\xff\xff\x7f")
            await victim.event("misbehaved", "127.0.0.1", peer.identity.peer, "bad_gossip")
