"""Attacks that would fill a node, or hold its processor: each goes on until it is cut off.

They break no rule of the chain, and most of them none of the transport: a node has to bear them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count

import trio
from libp2p.pubsub.pb import rpc_pb2

from tests.framework.p2p_attacker import DATA, MESHSUB, RST, SYN, WINDOW_UPDATE, Attacker
from tests.framework.siege import DUPLICATES, Siege
from unchained.node.primitives.codec import encode
from unchained.node.transport.contract import PeerId
from unchained.node.wire import messages as wire

GOSSIPERS = 16
ASKERS = 4
STREAMS = 64
"""As many as are served of one peer at a time."""
CALLERS = 24
"""Addresses that connect without end."""
CALLS_PER_S = 475
WINDOW_BYTES = 256 << 10
IDS = 1024
FILLING_S = 2.0


@asynccontextmanager
async def raws(siege: Siege, many: int) -> AsyncIterator[list[Attacker]]:
    """Connect attackers."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(siege.raw()) for _ in range(many)]


async def _send_without_end(peer: Attacker, rpc: bytes) -> None:
    with suppress(Exception):
        stream = await peer.open(MESHSUB)
        while not peer.closed.is_set():
            await peer.send(stream, rpc)


async def ids_of_no_use(siege: Siege) -> PeerId:
    """Ids of messages that nobody has, as not wanted, as fast as they go."""
    async with siege.raw() as peer:
        stream = await peer.open(MESHSUB)
        with suppress(Exception):
            while not peer.closed.is_set():
                rpc = rpc_pb2.RPC()
                ids = [secrets.token_bytes(32) for _ in range(IDS)]
                rpc.control.idontwant.add(messageIDs=ids)
                await peer.send(stream, rpc.SerializeToString())
        await siege.banned(peer.identity.peer)
        return peer.identity.peer


async def many_gossipers(siege: Siege) -> None:
    """One valid coin from sixteen peers, each as fast as it goes."""
    coin = siege.forge.coin(siege.tip)
    rpc = siege.rpc("coin", *[coin.raw] * DUPLICATES)
    async with raws(siege, GOSSIPERS) as peers, trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(_send_without_end, peer, rpc)


async def answers_not_taken(siege: Siege) -> None:
    """Requests for headers whose answers are left where they are."""
    request = encode(wire.HeadersRequest((siege.forge.genesis.id,), wire.OWN_TIP))
    async with raws(siege, ASKERS) as peers:
        for peer in peers:
            with suppress(Exception):
                for _ in range(STREAMS):
                    stream = await peer.open(siege.topic("headers"))
                    await stream.write(len(request).to_bytes(4, "big") + request)
        await trio.sleep(1)


async def frames_of_one_byte(siege: Siege) -> None:
    """Data of a stream that was reset, a byte to a frame."""
    async with siege.raw() as peer:
        await peer.frame(WINDOW_UPDATE, SYN, 1001, 0)
        await peer.frame(WINDOW_UPDATE, RST, 1001, 0)
        with suppress(Exception):
            for _ in range(WINDOW_BYTES):
                await peer.frame(DATA, 0, 1001, 1, b"x")


async def windows_filled(siege: Siege) -> PeerId:
    """As much gossip as the window takes, which is no fault however long it goes on."""
    rpc = siege.rpc("coin", *[siege.forge.coin(siege.tip).raw] * DUPLICATES)
    async with siege.raw() as peer:
        with trio.move_on_after(FILLING_S):
            await _send_without_end(peer, rpc)
        assert siege.ban_of(peer.identity.peer) is None
        return peer.identity.peer


async def calls_without_end(siege: Siege) -> None:
    """Connections from many addresses, one after the other, on which nothing is said."""

    async def call(source: str) -> None:
        with suppress(OSError), trio.move_on_after(5):
            stream = await trio.open_tcp_stream(
                "127.0.0.1",
                siege.victim.port,
                local_address=source,
                happy_eyeballs_delay=None,
            )
            async with stream:
                await stream.receive_some(1)

    async with trio.open_nursery() as nursery:
        for number in count():
            nursery.start_soon(call, f"127.0.2.{1 + number % CALLERS}")
            await trio.sleep(1 / CALLS_PER_S)
