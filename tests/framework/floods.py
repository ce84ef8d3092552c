"""Attacks that would fill a node, or hold its processor: each goes on until it is cut off.

They break no rule of the chain, and most of them none of the transport: a node has to bear them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import cycle

import trio
from libp2p.pubsub.pb import rpc_pb2

from tests.framework.p2p_attacker import DATA, MESHSUB, RST, SYN, WINDOW_UPDATE, Attacker
from tests.framework.p2p_wire import wires
from tests.framework.siege import DUPLICATES, Siege
from unchained.node.base.clock import SystemClock
from unchained.node.primitives.codec import encode
from unchained.node.transport.contract import PeerId
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.identify import PING_BYTES, PING_PROTOCOL
from unchained.node.transport.libp2p.pace import Pace
from unchained.node.transport.libp2p.streams import MULTISTREAM, varint
from unchained.node.transport.libp2p.tls import TLS_PROTOCOL, Tls
from unchained.node.transport.libp2p.yamux import YAMUX_PROTOCOL
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
CROWD = 40
"""Peers at a time, and newcomers per second: as many handshakes as begin in one."""
PINGED_STREAMS = 8
"""Of each peer of a crowd."""


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
    async with raws(siege, ASKERS) as peers:
        for peer in peers:
            await _ask_for_headers(siege, peer)
        await trio.sleep(1)


async def _ask_for_headers(siege: Siege, peer: Attacker) -> None:
    request = encode(wire.HeadersRequest((siege.forge.genesis.id,), wire.OWN_TIP))
    with suppress(Exception):
        for _ in range(STREAMS):
            stream = await peer.open(siege.topic("headers"))
            await stream.write(len(request).to_bytes(4, "big") + request)


async def crowd_takes_no_answers(siege: Siege) -> None:
    """The same by forty peers, over and over."""

    async def ask(peer: Attacker) -> None:
        while not peer.closed.is_set():
            await _ask_for_headers(siege, peer)
            await trio.sleep(1)

    await _by_crowd(siege, ask)


async def crowd_pings(siege: Siege) -> None:
    """Hundreds of streams of pings, each as fast as it is answered."""

    async def ping(peer: Attacker) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(PINGED_STREAMS):
                nursery.start_soon(_ping_without_end, peer)

    await _by_crowd(siege, ping)


async def _ping_without_end(peer: Attacker) -> None:
    with suppress(Exception):
        stream = await peer.open(PING_PROTOCOL)
        while True:
            await stream.write(bytes(PING_BYTES))
            await stream.read(PING_BYTES)


async def _by_crowd(siege: Siege, attack: Callable[[Attacker], Awaitable[None]]) -> None:
    """Let each of a crowd begin as soon as it is connected, and go on until it is cut off."""

    async def take_part() -> None:
        async with siege.raw() as peer:
            await attack(peer)

    async with trio.open_nursery() as nursery:
        for _ in range(CROWD):
            nursery.start_soon(_until_cut_off, take_part)


async def crowd_reconnects(siege: Siege) -> None:
    """Peers that shake hands and hang up, each a new one."""

    async def come_and_go() -> None:
        async with siege.raw():
            pass

    await _without_end(come_and_go, CROWD)


async def evictions(siege: Siege) -> None:
    """Peers that fill all places and go on coming, so that each shows another one out."""

    async def stay() -> None:
        async with siege.peer() as peer:
            await peer.parted.wait()

    await _without_end(stay, CROWD)


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
    await _call_without_end(siege, b"")


async def handshakes_without_end(siege: Siege) -> None:
    """Likewise, but a handshake is begun on each: an answer to that takes most of its work."""
    session = Tls(Identity.from_seed(b"c" * 32), SystemClock(), YAMUX_PROTOCOL)
    wire, _ = wires()
    hello = session.start(wire, Pace(None), is_initiator=True).hello()
    lines = [f"{name}\n".encode() for name in (MULTISTREAM, TLS_PROTOCOL)]
    await _call_without_end(siege, b"".join(varint(len(line)) + line for line in lines) + hello)


async def _call_without_end(siege: Siege, first: bytes) -> None:
    sources = cycle(f"127.0.2.{1 + number}" for number in range(CALLERS))

    async def call() -> None:
        stream = await trio.open_tcp_stream(
            "127.0.0.1",
            siege.victim.port,
            local_address=next(sources),
            happy_eyeballs_delay=None,
        )
        async with stream:
            await stream.send_all(first)
            while await stream.receive_some():
                pass

    await _without_end(call, CALLS_PER_S)


async def _without_end(one: Callable[[], Awaitable[None]], per_s: float) -> None:
    """Begin so many per second."""
    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(_until_cut_off, one)
            await trio.sleep(1 / per_s)


async def _until_cut_off(one: Callable[[], Awaitable[None]]) -> None:
    try:
        await one()
    except* Exception:  # noqa: BLE001 - however the node may end it
        await trio.lowlevel.checkpoint()
