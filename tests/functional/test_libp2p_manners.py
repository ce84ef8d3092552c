"""What libp2p's other implementations take for granted: half-closed requests, identify, ping."""

from __future__ import annotations

import pytest
import trio
from libp2p.identity.identify.pb import identify_pb2

from tests.framework.p2p_attacker import Attacker, attacker
from tests.framework.p2p_node import ECHO, STALL
from tests.framework.p2p_process import node
from unchained.node.transport.libp2p.identify import IDENTIFY_PROTOCOL, PING_PROTOCOL
from unchained.node.transport.libp2p.streams import StreamBrokenError, read_varint

pytestmark = pytest.mark.real_time


def request(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


async def echo(peer: Attacker, data: bytes) -> None:
    """Ask, end the half, and read the whole answer."""
    stream = await peer.open(ECHO)
    await stream.write(request(data))
    await stream.close()
    with trio.fail_after(20):
        head = await stream.read(5)
        assert head == b"\0" + len(data).to_bytes(4, "big")
        assert await stream.read(len(data)) == data
        assert await stream.ended()


async def test_a_request_whose_half_is_closed_is_answered() -> None:
    """libp2p's own request-response ends its half before it reads."""
    async with node(1) as ours, attacker(ours.address, 2) as peer:
        for size in (0, 5, 1_000_000):
            await echo(peer, b"x" * size)


async def test_a_half_closed_request_that_is_reset_is_let_go() -> None:
    async with node(1) as ours, attacker(ours.address, 2) as peer:
        stream = await peer.open(STALL)
        await stream.write(request(b""))
        await ours.state(lambda state: state["stalled"] == 1)
        await stream.close()
        # An answer to what is asked after it shows that the end has come.
        for _ in range(2):
            await echo(peer, b"still there")
        assert (await ours.ok("state"))["stalled"] == 1
        await stream.reset()
        await ours.state(lambda state: state["stalled"] == 0)
        at_once = await peer.open(STALL)
        await at_once.write(request(b""))
        await at_once.close()
        await at_once.reset()
        half = await peer.open(STALL)
        await half.write(request(b""))
        await half.close()
        await ours.state(lambda state: state["stalled"] == 1)
    # The end of the connection ends it as well: the process lives on.


async def test_more_than_one_request_on_a_stream_is_not_answered() -> None:
    async with node(1) as ours, attacker(ours.address, 2) as peer:
        stream = await peer.open(STALL)
        await stream.write(request(b""))
        await ours.state(lambda state: state["stalled"] == 1)
        await stream.write(request(b""))
        await ours.state(lambda state: state["stalled"] == 0)
        with pytest.raises(StreamBrokenError), trio.fail_after(20):
            await stream.read(1)


async def test_identify_and_ping_are_served() -> None:
    async with node(1) as ours, attacker(ours.address, 2) as peer:
        stream = await peer.open(IDENTIFY_PROTOCOL)
        with trio.fail_after(20):
            message = identify_pb2.Identify.FromString(
                await stream.read(await read_varint(stream, 4096))
            )
            assert await stream.ended()
        assert {ECHO, PING_PROTOCOL, "/meshsub/1.2.0", "/meshsub/1.1.0"} <= set(message.protocols)
        # It listens on loopback, which is nobody's business.
        assert not message.listen_addrs
        assert message.observed_addr[:5] == bytes((4, 127, 0, 0, 1))
        stream = await peer.open(PING_PROTOCOL)
        for number in range(3):
            await stream.write(bytes([number]) * 32)
            with trio.fail_after(20):
                assert await stream.read(32) == bytes([number]) * 32
        await stream.close()
        with trio.fail_after(20):
            assert await stream.ended()
