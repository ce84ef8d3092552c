"""Which links are made: post-quantum ones, and classical ones where the node takes any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.framework.p2p_node import ECHO, LARGE
from tests.framework.p2p_process import Process, node
from unchained.node.transport.address import Address
from unchained.node.transport.libp2p.streams import (
    ProtocolNotServedError,
    TcpStream,
    agree,
    propose,
)

pytestmark = pytest.mark.real_time

HYBRID = "tls X25519MLKEM768"


@asynccontextmanager
async def dialled(address: str) -> AsyncIterator[TcpStream]:
    """Connect to a node, with nothing said yet."""
    place = Address.parse(address)
    tcp = TcpStream(await trio.open_tcp_stream(place.host, place.port))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tcp.flush)
        yield tcp
        nursery.cancel_scope.cancel()
    tcp.abort()


def securities(process: Process) -> list[str]:
    return [event[4] for event in process.events if event[0] == "connected"]


async def test_two_nodes_make_a_post_quantum_link() -> None:
    async with node(1) as one, node(2) as other, node(3, takes_any=True) as liberal:
        for dialler, listener in ((one, other), (one, liberal), (liberal, other)):
            await dialler.ok("connect", listener.address, 10)
            answer = await dialler.ok("request", listener.id, ECHO, "hello", 100, 10)
            assert answer == "hello"
            large = await dialler.ok("request", listener.id, LARGE, "3000000", 3_000_000, 20)
            assert large == 3_000_000
        for process in (one, other, liberal):
            await process.state(lambda state: len(state["peers"]) == 2)
            assert securities(process) == [HYBRID, HYBRID]
            assert (await process.ok("state"))["statistics"]["classical"] == 0


async def test_a_classical_link_is_made_where_any_is_taken_and_counted() -> None:
    async with node(1, takes_any=True) as ours, node(2, module="p2p_stock") as stock:
        await stock.ok("connect", ours.address)
        await ours.event("connected", stock.id, "127.0.0.1", "inbound", "noise X25519")
        assert await stock.ok("large", ours.id, 100_000) == 100_000
        assert (await ours.ok("state"))["statistics"]["classical"] == 1
        await ours.ok("disconnect", stock.id)
        await ours.state(lambda state: state["statistics"]["classical"] == 0)
        await ours.ok("connect", stock.address, 10)
        await ours.event("connected", stock.id, "127.0.0.1", "outbound", "noise X25519")


async def test_a_classical_peer_is_refused_in_words() -> None:
    words = "no security protocol in common (theirs: /noise)"
    async with node(1) as ours, node(2, module="p2p_stock") as stock:
        assert (await stock.outcome("connect", ours.address))[0] != "ok"
        event = await ours.event("misbehaved", "127.0.0.1", None, "handshake_failed")
        assert event[4] == words
        error = await ours.outcome("connect", stock.address, 10)
        assert error == ["DialSecurityError", f"cannot connect to {stock.address}: {words}"]
        state = await ours.ok("state")
        assert state["peers"] == []
        # Ours, and each of stock's tries.
        assert state["statistics"]["security_mismatches"] >= 2


async def test_nothing_else_is_offered() -> None:
    async with node(1) as victim, node(2, takes_any=True) as liberal:
        for process, refused in (
            (victim, ("/plaintext/2.0.0", "/secio/1.0.0", "/noise")),
            (liberal, ("/plaintext/2.0.0", "/secio/1.0.0")),
        ):
            for protocol in refused:
                process.events.clear()
                async with dialled(process.address) as tcp:
                    with pytest.raises(Exception, match=protocol):
                        await propose(tcp, protocol)
                event = await process.event("misbehaved", "127.0.0.1", None, "handshake_failed")
                assert event[4] == f"no security protocol in common (theirs: {protocol})"


async def test_a_listener_that_says_nothing_of_its_own_is_refused_as_well() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def refuse(stream: trio.SocketStream) -> None:
        tcp = TcpStream(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tcp.flush)
            with pytest.raises(ProtocolNotServedError):
                await agree(tcp, ())
            await tcp.drain()
            nursery.cancel_scope.cancel()
        tcp.abort()

    async with node(1) as ours, node(2) as other, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, refuse, listeners)
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{other.id}"
        error = await ours.outcome("connect", address, 10)
        words = "no security protocol in common"
        assert error == ["DialSecurityError", f"cannot connect to {address}: {words}"]
        nursery.cancel_scope.cancel()
