"""A peer that shakes hands properly and then sends whatever it likes, from the test's process."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.pubsub.pb import rpc_pb2

from tests.framework.p2p_node import TOPIC
from unchained.node.base.clock import SystemClock
from unchained.node.transport.address import Address
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.streams import MuxedStream, TcpStream, agree, propose, varint
from unchained.node.transport.libp2p.upgrader import Upgrader

DATA, WINDOW_UPDATE, PING = 0, 1, 2
SYN, RST = 1, 8
MESHSUB = "/meshsub/1.2.0"


class RefusedError(Exception):
    """The victim did not shake hands."""


class SlowLine:
    """A socket whose every answer comes a round trip after what was sent."""

    def __init__(self, stream: trio.SocketStream, round_trip_s: float) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._round_trip_s = round_trip_s
        self._has_sent = False

    async def send_all(self, data: bytes) -> None:
        """Send bytes."""
        self._has_sent = True
        await self._stream.send_all(data)

    async def receive_some(self, most: int) -> bytes:
        """Return what comes, later than it does."""
        data = bytes(await self._stream.receive_some(most))
        if self._has_sent:
            self._has_sent = False
            await trio.sleep(self._round_trip_s)
        return data


class Attacker:
    """A connection to a victim."""

    def __init__(self, tcp: TcpStream, upgraded: Any, identity: Identity) -> None:
        self.tcp = tcp
        self.muxer = upgraded.muxer
        self.identity = identity
        self.closed = trio.Event()
        self._session = upgraded.guard._session

    async def frame(
        self, kind: int, flags: int, stream: int, length: int, body: bytes = b""
    ) -> None:
        """Send any frame, past the multiplexer and its windows."""
        await self.tcp.room()
        await self._session.write(struct.pack("!BBHII", 0, kind, flags, stream, length) + body)

    async def open(self, protocol: str) -> MuxedStream:
        stream = MuxedStream(await self.muxer.open_stream())
        await propose(stream, protocol)
        return stream

    async def gossip(self, *messages: Any, subscribe: bool = True) -> MuxedStream:
        """Open a gossip stream and send messages on it."""
        stream = await self.open(MESHSUB)
        if subscribe:
            rpc = rpc_pb2.RPC()
            rpc.subscriptions.add(subscribe=True, topicid=TOPIC)
            await self.send(stream, rpc.SerializeToString())
        if messages:
            await self.send(stream, rpc_pb2.RPC(publish=messages).SerializeToString())
        return stream

    async def hears(self) -> bool:
        """Wait for the victim's first word, which says that it lets us in; False at the end."""
        heard, read = False, self.tcp.received
        async with trio.open_nursery() as nursery:

            async def hear() -> None:
                nonlocal heard
                await self.tcp.hear(read)
                heard = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(hear)
            await self.closed.wait()
            nursery.cancel_scope.cancel()
        return heard

    async def multiplex(self) -> None:
        with suppress(Exception):
            await self.muxer.start()
        self.closed.set()

    async def accept(self, nursery: trio.Nursery) -> None:
        with suppress(Exception):
            while True:
                nursery.start_soon(self.swallow, await self.muxer.accept_stream())

    async def swallow(self, accepted: Any) -> None:
        """Agree to gossip and read whatever comes."""
        stream = MuxedStream(accepted)
        with suppress(Exception):
            await agree(stream, [f"/meshsub/1.{minor}.0" for minor in range(3)])
            while True:
                await stream.read(1)

    async def send(self, stream: MuxedStream, rpc: bytes) -> None:
        await stream.write(varint(len(rpc)) + rpc)


@asynccontextmanager
async def attacker(
    address: str, seed: int, source: str = "", *, round_trip_s: float = 0.0
) -> AsyncIterator[Attacker]:
    """Connect to a victim, from another address of this machine and over a slow line if asked
    so."""
    parsed = Address.parse(address)
    assert parsed.peer is not None
    identity = Identity.from_seed(seed.to_bytes(2, "big") * 16)
    stream = await trio.open_tcp_stream(
        parsed.host, parsed.port, local_address=source or None, happy_eyeballs_delay=None
    )
    line: Any = SlowLine(stream, round_trip_s) if round_trip_s else stream
    tcp = TcpStream(line)
    refusal = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tcp.flush)
            try:
                upgrader = Upgrader(identity, NodeBudget(), SystemClock(), "any")
                upgraded = await upgrader.outbound(tcp, parsed.peer)
            except Exception as error:  # noqa: BLE001 - reported to the test
                refusal = error
            else:
                attack = Attacker(tcp, upgraded, identity)
                nursery.start_soon(attack.multiplex)
                nursery.start_soon(attack.accept, nursery)
                if upgraded.is_accepted or await attack.hears():
                    yield attack
                else:
                    refusal = RefusedError()
            nursery.cancel_scope.cancel()
    finally:
        tcp.abort()
    if refusal is not None:
        raise RefusedError from refusal
