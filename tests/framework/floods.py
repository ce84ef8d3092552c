"""Attacks that would fill a node, or hold its processor: each goes on until it is cut off.

They break no rule of the chain, and most of them none of the transport: a node has to bear them.
"""

from __future__ import annotations

import secrets
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
from unchained.node.wire.limits import TOPICS

GOSSIPERS = 16
ASKERS = 4
STREAMS = 64
"""As many as are served of one peer at a time."""
PLACE = "9.9.9.9"
"""Where calls come to: on loopback no address and no network is told from another."""
PLACE_V6 = "2a00::9"
CALLERS = 24
"""Addresses that connect without end."""
CALLS_PER_S = 475
FAST_CALLS_PER_S = 3_000
FAST_CALLS_EVERY_S = 0.01
FAST_CALLS_KEPT = 2_000
BIND_ADDRESS_NO_PORT = 24
"""`IP_BIND_ADDRESS_NO_PORT` of Linux: a port is chosen when its other end is known."""
WINDOW_BYTES = 256 << 10
IDS = 1024
COIN_BYTES = 198
LONG_ID_BYTES = 10_000
EMPTY_IDS = 520_000
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


async def long_ids(siege: Siege) -> PeerId:
    """The same, of any length but that which ids have."""
    rpc = rpc_pb2.RPC()
    rpc.control.idontwant.add(messageIDs=[secrets.token_bytes(LONG_ID_BYTES)] * 100)
    return await _by_one(siege, rpc.SerializeToString())


async def empty_ids(siege: Siege) -> PeerId:
    """RPCs of half a million empty ids, a MiB each."""
    ids = b"\x0a\x00" * EMPTY_IDS
    control = b"\x12" + varint(len(ids)) + ids
    return await _by_one(siege, b"\x1a" + varint(len(control)) + control)


async def grafts_in_back_off(siege: Siege) -> PeerId:
    """GRAFTs of all topics, each let go of at once and asked for again, as fast as they go."""
    rpc = rpc_pb2.RPC()
    topics = [siege.topic(topic.name) for topic in TOPICS]
    for topic in topics:
        rpc.subscriptions.add(subscribe=True, topicid=topic)
    for _ in range(IDS // 8):
        for topic in topics:
            rpc.control.graft.add(topicID=topic)
            rpc.control.prune.add(topicID=topic, backoff=60)
    return await _by_one(siege, rpc.SerializeToString())


async def unknown_topics(siege: Siege) -> PeerId:
    """Subscriptions to topics that nobody has heard of, and GRAFTs of these."""
    rpc = rpc_pb2.RPC()
    for number in range(IDS // 4):
        topic = f"/unchained/{number:08x}/coin/1"
        rpc.subscriptions.add(subscribe=True, topicid=topic)
        rpc.control.graft.add(topicID=topic)
    return await _by_one(siege, rpc.SerializeToString())


async def _by_one(siege: Siege, rpc: bytes) -> PeerId:
    async with siege.raw() as peer:
        await _send_without_end(peer, rpc)
        return peer.identity.peer


async def many_gossipers(siege: Siege) -> None:
    """One valid coin from sixteen peers, each as fast as it goes."""
    coin = siege.forge.coin(siege.tip)
    rpc = siege.rpc("coin", *[coin.raw] * DUPLICATES)
    async with raws(siege, GOSSIPERS) as peers, trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(_send_without_end, peer, rpc)


async def answers_not_taken(siege: Siege) -> None:
    """Requests for 400 KB of coins each, whose answers are left where they are."""
    async with raws(siege, ASKERS) as peers, trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(_ask_for_coins, siege, peer)
            nursery.start_soon(peer.closed.wait)


async def _ask_for_coins(siege: Siege, peer: Attacker) -> None:
    request = encode(tuple(siege.coins))
    with suppress(Exception):
        for _ in range(STREAMS):
            stream = await peer.open(siege.topic("coins"))
            await stream.write(len(request).to_bytes(4, "big") + request)
            siege.sent_bytes += len(siege.coins) * COIN_BYTES


async def crowd_takes_no_answers(siege: Siege) -> None:
    """The same by forty peers, over and over."""

    async def ask(peer: Attacker) -> None:
        while not peer.closed.is_set():
            await _ask_for_coins(siege, peer)
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
    """As much on each stream as its window takes, which is no fault however much of it is left
    unread: here 16 MiB of pings, of which two are answered in a second."""
    async with siege.raw() as peer:
        with trio.move_on_after(FILLING_S):
            async with trio.open_nursery() as nursery:
                for _ in range(STREAMS):
                    nursery.start_soon(_fill_window, peer)
        assert siege.ban_of(peer.identity.peer) is None
        return peer.identity.peer


async def _fill_window(peer: Attacker) -> None:
    with suppress(Exception):
        stream = await peer.open(PING_PROTOCOL)
        await stream.write(bytes(WINDOW_BYTES))
        await trio.sleep_forever()


def _of_networks(many: int) -> list[str]:
    """Return an address of each of so many /16s."""
    return [f"{11 + number // 200}.{number % 200}.0.1" for number in range(many)]


OF_ONE_NETWORK = [f"12.0.{number // 250}.{1 + number % 250}" for number in range(500)]
OF_ONE_IPV6_NETWORK = [f"2a01:1:1:{number:x}::1" for number in range(1_000)]


async def calls_without_end(siege: Siege) -> None:
    """Connections from many addresses, one after the other, on which nothing is said."""
    await _call_without_end(siege, _of_networks(CALLERS), b"")


async def calls_of_one_network(siege: Siege) -> None:
    """More of them than are looked at, or find room in the kernel, from one /16."""
    await _call_fast(siege, OF_ONE_NETWORK)


async def calls_of_many_networks(siege: Siege) -> None:
    """As many, from seventy."""
    await _call_fast(siege, _of_networks(70))


async def handshakes_without_end(siege: Siege) -> None:
    """Handshakes from many addresses: an answer to the first message takes most of its work."""
    await _call_without_end(siege, _of_networks(CALLERS), _hello())


async def handshakes_of_many_networks(siege: Siege) -> None:
    """Likewise, from seventy networks."""
    await _call_without_end(siege, _of_networks(70), _hello())


async def handshakes_of_one_ipv6_network(siege: Siege) -> None:
    """Likewise, from a thousand /64s of one IPv6 network."""
    await _call_without_end(siege, OF_ONE_IPV6_NETWORK, _hello())


def _hello() -> bytes:
    session = Tls(Identity.from_seed(b"c" * 32), SystemClock(), YAMUX_PROTOCOL)
    wire, _ = wires()
    hello = session.start(wire, Pace(None), is_initiator=True).hello()
    lines = [f"{name}\n".encode() for name in (MULTISTREAM, TLS_PROTOCOL)]
    return b"".join(varint(len(line)) + line for line in lines) + hello


async def _call_without_end(siege: Siege, addresses: Sequence[str], first: bytes) -> None:
    sources = cycle(addresses)

    async def call() -> None:
        source = next(sources)
        stream = await trio.open_tcp_stream(
            PLACE_V6 if ":" in source else PLACE,
            siege.public_port,
            local_address=source,
            happy_eyeballs_delay=None,
        )
        async with stream:
            await stream.send_all(first)
            while await stream.receive_some():
                pass

    await _without_end(call, CALLS_PER_S)


async def _call_fast(siege: Siege, addresses: Sequence[str]) -> None:
    """Connect as often as that goes without a task for each."""
    sources = cycle(addresses)
    calls: deque[socket.socket] = deque()
    try:
        while True:
            for _ in range(int(FAST_CALLS_PER_S * FAST_CALLS_EVERY_S)):
                calls.append(call := socket.socket())
                call.setblocking(False)
                call.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
                call.bind((next(sources), 0))
                call.connect_ex((PLACE, siege.public_port))
            while len(calls) > FAST_CALLS_KEPT:
                calls.popleft().close()
            await trio.sleep(FAST_CALLS_EVERY_S)
    finally:
        for call in calls:
            call.close()


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
