"""A node under attack by one hostile peer after another, with an honest one beside it.

Attacks are the same for the tests, which look at bans and memory, and for the benchmark, which
looks at what honest peers feel meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil
import trio
from libp2p.pubsub.pb import rpc_pb2

from tests.framework.forge import Forge, Forged
from tests.framework.network import Net, NetNode, address_of, free_port
from tests.framework.p2p_attacker import DATA, MESHSUB, SYN, Attacker, attacker
from tests.framework.p2p_peer import BarePeer, bare_peer
from tests.framework.processes import PATIENCE_S
from unchained.node.base.clock import SystemClock
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import ProvenAnchor, ProvenCoin
from unchained.node.consensus.params import REG
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import CoinId
from unchained.node.transport.address import Address
from unchained.node.transport.contract import PeerId
from unchained.node.transport.libp2p.streams import MuxedStream, varint
from unchained.node.wire import messages as wire
from unchained.node.wire.limits import EXCHANGES, TOPICS, name_of
from unchained.storage.open import open_store

T = TypeVar("T")

logging.getLogger("libp2p").setLevel(logging.CRITICAL)

HEIGHT = 40
"""Of the chain at the start."""
COINS_OF_ANCHOR = 50
"""Coins that each of its anchors lists, 400 KB of all: more than the window of a stream."""
MIB = 1 << 20
ANCHORS = 20
SILENT = 1_000
SILENT_PER_ADDRESS = 20
FLOOD = 300
DUPLICATES = 250
"""In one RPC: as many as are let pass."""
ADDRESSES = 100_000
STEP_S = 0.05
LOOK_S = 0.25
"""Seconds between requests for statistics, which the victim has to answer."""


class Siege:
    """The victim, an honest node, and what the attackers know of the chain."""

    def __init__(self, net: Net, *public: str) -> None:
        """`public`: addresses that the victim listens on as well, at `public_port`, in a network of
        the program's own (`own_network`)."""
        self.net = net
        self.forge = Forge(REG)
        self.public_port = free_port()
        places = (Address.of_ip(ip, self.public_port) for ip in public)
        self.victim = net.node("--no-mine", *(f"--listen={place}" for place in places))
        self.coins: list[CoinId] = []
        """What its anchors at the start list."""
        self.sent_bytes = 0
        """What attackers have sent, or asked for."""
        self.tip = self._lay(self.victim)
        """The chain's last anchor at the start; every anchor since descends from it."""
        self.victim.start()
        self.honest = net.node("--no-mine", bootstrap=self.victim)
        self.honest.start()
        self.clock = SystemClock()
        self._seeds = count(1)
        self.goes_on()
        self.normal_mb = self.victim.resident_mb()

    def _lay(self, node: NetNode) -> Forged:
        tip = self.forge.genesis
        with contextlib.closing(open_store(node.data_dir, REG, create=True)) as store:
            core = ChainCore(store, REG, lambda: 0, 2**62)
            for _ in range(HEIGHT):
                fresh = [self.forge.coin(tip) for _ in range(COINS_OF_ANCHOR)]
                self.coins += [coin.id for coin in fresh]
                tip = self.forge.anchor(tip, fresh)
                for coin in (tip.coin, *fresh):
                    core.submit_proven_coin(ProvenCoin(coin), self.forge.now_ms)
                core.submit_proven_anchor(ProvenAnchor(tip.package()))
            assert core.tip.id == tip.id
        return tip

    # What the node does

    def goes_on(self) -> None:
        """See it mine an anchor that the honest peer takes over, and one the other way round."""
        for node in (self.victim, self.honest):
            node.generate(1)
            self.net.agree()

    def statistics(self) -> dict[str, Any]:
        """Return what all of its parts count."""
        found: dict[str, Any] = self.victim.call("debug.statistics")
        return found

    def ban_of(self, peer: PeerId) -> str | None:
        """Return why it banned a peer, if it did."""
        for event in tuple(self.victim.process.events):
            if event["event"] == "peer.banned" and event["group"] == f"loopback/{peer}":
                return str(event["why"])
        return None

    def reset_peak(self) -> None:
        """Measure the peak of its memory from here on."""
        Path(f"/proc/{self.victim.process.pid}/clear_refs").write_text("5")

    def peak_mb(self) -> float:
        """Return the most memory that it had resident since the peak was reset, in MB."""
        status = Path(f"/proc/{self.victim.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6

    def sockets(self) -> int:
        """Return how many file descriptors it has open."""
        return psutil.Process(self.victim.process.pid).num_fds()

    # What attackers do

    async def until(self, wanted: Callable[[], T], what: str) -> T:
        """Return the first true value that `wanted` gives."""
        with trio.move_on_after(PATIENCE_S):
            while not (found := wanted()):
                assert self.victim.process.running
                await trio.sleep(STEP_S)
            return found
        raise AssertionError(f"not {what} within {PATIENCE_S:g} s")

    async def banned(self, peer: PeerId) -> str:
        """Wait until a peer is banned, and return why."""
        return await self.until(lambda: self.ban_of(peer), "banned") or ""

    async def look(self, wanted: Callable[[dict[str, Any]], T], what: str) -> T:
        """Ask for its statistics until a condition holds."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                found = wanted(await trio.to_thread.run_sync(self.statistics))
                if found:
                    return found
                await trio.sleep(LOOK_S)
        raise AssertionError(f"not {what} within {PATIENCE_S:g} s")

    async def not_followed(self, peer: BarePeer) -> str:
        """Return why it does not follow a peer's chain; its log must be at the level `debug`."""

        def find() -> str | None:
            for event in tuple(self.victim.process.events):
                if event["event"] == "sync.not_followed" and event["peer"] == peer.transport.id:
                    return str(event["why"])
            return None

        return await self.until(find, "validated") or ""

    def seed(self) -> int:
        """Return the seed of an attacker that was never seen."""
        return next(self._seeds)

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Attacker]:
        """Connect an attacker that sends what it likes."""
        async with attacker(self.victim.full_address, self.seed()) as peer:
            try:
                yield peer
            finally:
                self.sent_bytes += peer.tcp.sent

    @asynccontextmanager
    async def peer(self, *, connect: bool = True) -> AsyncIterator[BarePeer]:
        """Connect an attacker that speaks the protocol."""
        async with bare_peer(self.seed()) as peer:
            if connect:
                await peer.transport.connect(self.victim.full_address)
            yield peer

    def topic(self, kind: str) -> str:
        """Return a topic's or a request's full name."""
        return name_of(self.forge.genesis.id, kind)

    def rpc(self, kind: str, *objects: bytes) -> bytes:
        """Return gossip of some objects."""
        messages = [rpc_pb2.Message(data=data, topicIDs=[self.topic(kind)]) for data in objects]
        return bytes(rpc_pb2.RPC(publish=messages).SerializeToString())

    async def gossip(self, peer: Attacker, kind: str, *objects: bytes) -> None:
        """Send each object in an RPC of its own, as fast as it goes, until the line is cut."""
        with suppress(Exception):
            stream = await peer.open(MESHSUB)
            for data in objects:
                await peer.send(stream, self.rpc(kind, data))

    def siblings(self, many: int) -> list[bytes]:
        """Return announcements of anchors on the present tip whose body nobody has."""
        template = self.victim.call("mine.template", address=address_of(9))
        header = CoinHeader.from_bytes(bytes.fromhex(template["header"]))
        body = Body((), (), (), b"\x01" * 32, b"\x02" * 32)
        root = AnchorHeader.of(Coin.assemble(header, bytes(32)), body).body_root()
        header = msgspec.structs.replace(header, body_root=root)
        coins = [self.forge.mine(header, grade=True) for _ in range(many)]
        return [AnchorHeader.of(coin, body).to_bytes() for coin in coins]

    def show(self, peer: BarePeer, tip: Forged) -> None:
        """Let a peer claim a chain and serve its headers, and no body of it."""
        steps = tip.chain()
        height_of = {step.id: step.height for step in steps}

        def answer(payload: bytes) -> bytes:
            request = wire.HEADERS_EXCHANGE.decode_request(payload)
            assert isinstance(request, wire.HeadersRequest)
            known = (height_of[CoinId(i)] for i in request.locator if i in height_of)
            above = steps[next(known) + 1 :]
            found = (AnchorHeader.of(step.coin, step.body) for step in above)
            return wire.HEADERS_EXCHANGE.answer(tuple(found))

        peer.answers["headers"] = answer
        peer.claim(tip.id, tip.height)


# Each attack goes on until it is over by itself or its maker is banned; it returns who made it.


async def garbage_protobuf(siege: Siege) -> PeerId:
    """Bytes that are no RPC, on a gossip stream."""
    async with siege.raw() as peer:
        stream = await peer.open(MESHSUB)
        await stream.write(varint(64) + b"\xff" * 64)
        await siege.banned(peer.identity.peer)
        return peer.identity.peer


async def garbage_streams(siege: Siege) -> PeerId:
    """Streams that begin with bytes that name no protocol."""
    async with siege.raw() as peer:
        while siege.ban_of(peer.identity.peer) is None:
            with suppress(Exception):
                stream = MuxedStream(await peer.muxer.open_stream())
                await stream.write(b"\xff" * 100)
            await trio.sleep(STEP_S)
        return peer.identity.peer


async def garbage_requests(siege: Siege) -> PeerId:
    """Requests that are no MessagePack, of every kind in turn."""
    async with siege.raw() as peer:
        while siege.ban_of(peer.identity.peer) is None:
            for exchange in EXCHANGES:
                with suppress(Exception):
                    stream = await peer.open(siege.topic(exchange.name))
                    await stream.write((5).to_bytes(4, "big") + b"\xc1\xff\x00\xff\xc1")
            await trio.sleep(STEP_S)
        return peer.identity.peer


async def garbage_objects(siege: Siege) -> list[PeerId]:
    """Gossip that is no coin, no anchor, no transfer; one peer for each."""
    found = []
    for topic in TOPICS:
        async with siege.raw() as peer:
            await siege.gossip(peer, topic.name, b"\xc1 garbage")
            await siege.banned(peer.identity.peer)
            found.append(peer.identity.peer)
    return found


async def forged_proofs(siege: Siege) -> PeerId:
    """Coins whose ids are below the target, with mixes that no Argon2id has given."""
    coins = [siege.forge.forged_mix(siege.tip).raw for _ in range(FLOOD)]
    async with siege.raw() as peer:
        await siege.gossip(peer, "coin", *coins)
        await siege.banned(peer.identity.peer)
        return peer.identity.peer


async def duplicates(siege: Siege, rpcs: int = 160) -> PeerId:
    """One valid coin, some 40,000 times."""
    coin = siege.forge.coin(siege.tip)
    rpc = siege.rpc("coin", *[coin.raw] * DUPLICATES)
    before = _duplicates(await trio.to_thread.run_sync(siege.statistics))
    async with siege.raw() as peer:
        stream = await peer.open(MESHSUB)
        for _ in range(rpcs):
            await peer.send(stream, rpc)
        await siege.look(
            lambda now: _duplicates(now) - before >= rpcs * DUPLICATES - 1, "all looked at"
        )
        return peer.identity.peer


def _duplicates(statistics: dict[str, Any]) -> int:
    return int(statistics["network"]["transport"]["gossip_duplicates"])


async def oversized_frame(siege: Siege) -> PeerId:
    """A frame of 17 MiB."""
    async with siege.raw() as peer:
        await peer.frame(DATA, SYN, 1, 17 * MIB)
        await siege.banned(peer.identity.peer)
        return peer.identity.peer


async def oversized_gossip(siege: Siege) -> PeerId:
    """A coin of 300,000 bytes."""
    async with siege.raw() as peer:
        await siege.gossip(peer, "coin", bytes(300_000))
        await siege.banned(peer.identity.peer)
        return peer.identity.peer


async def oversized_request(siege: Siege) -> PeerId:
    """A request that says that it is 4 GB long."""
    async with siege.raw() as peer:
        stream = await peer.open(siege.topic("headers"))
        with suppress(Exception):
            await stream.write(b"\xff\xff\xff\xff")
        await siege.banned(peer.identity.peer)
        return peer.identity.peer


async def window_overrun(siege: Siege) -> PeerId:
    """A hundred megabytes on a stream whose window is a quarter of one."""
    body = bytes(64 << 10)
    async with siege.raw() as peer:
        stream = await peer.open(siege.topic("headers"))
        number = stream._stream.stream_id
        with suppress(Exception):
            for _ in range(100 * MIB // len(body)):
                await peer.frame(DATA, 0, number, len(body), body)
        await siege.banned(peer.identity.peer)
        return peer.identity.peer


@asynccontextmanager
async def silent_sockets(siege: Siege) -> AsyncIterator[list[trio.SocketStream]]:
    """A thousand connections on which nothing is said, from fifty addresses."""
    async with AsyncExitStack() as stack:
        sockets = []
        for number in range(SILENT):
            stream = await trio.open_tcp_stream(
                "127.0.0.1",
                siege.victim.port,
                local_address=f"127.0.1.{1 + number // SILENT_PER_ADDRESS}",
                happy_eyeballs_delay=None,
            )
            stack.push_async_callback(trio.aclose_forcefully, stream)
            sockets.append(stream)
        yield sockets


async def headers_without_bodies(siege: Siege) -> BarePeer:
    """A heavier chain whose bodies are never given."""
    hidden = siege.forge.grow(siege.tip, HEIGHT)
    async with siege.peer(connect=False) as peer:
        siege.show(peer, hidden)
        await peer.transport.connect(siege.victim.full_address)
        await siege.until(lambda: peer.asked["bodies"], "asked for bodies")
        assert await siege.not_followed(peer) == "nobody delivers its bodies"
        return peer


async def announced_without_bodies(siege: Siege) -> PeerId:
    """Anchors announced by a peer that has no body of theirs."""
    async with siege.peer() as peer:
        await siege.until(lambda: peer.has_neighbours("anchor"), "a neighbour")
        for announcement in await trio.to_thread.run_sync(siege.siblings, ANCHORS):
            await peer.gossip("anchor", announcement)
        await siege.banned(peer.transport.id)
        return peer.transport.id


async def stale_fork(siege: Siege) -> BarePeer:
    """A branch of three anchors from genesis on, whose bodies never come."""
    stale = siege.forge.grow(siege.forge.genesis, 3)
    async with siege.peer(connect=False) as peer:
        siege.show(peer, stale)
        await peer.transport.connect(siege.victim.full_address)
        # Protocol §11: its targets are the main chain's, so its bodies are asked for
        await siege.until(lambda: peer.asked["bodies"], "asked for bodies")
        return peer


async def claim_a_chain(siege: Siege, peer: BarePeer) -> None:
    """A heavier chain that is claimed, and none of which is ever shown."""
    peer.claim(CoinId(b"\x01" * 32), 10**6, b"\xff" * 32)
    await peer.transport.connect(siege.victim.full_address)
    await siege.not_followed(peer)


async def future_coins(siege: Siege, many: int) -> PeerId:
    """Valid coins that are as far ahead as is held (Protocol §3.3), but for half a limit."""
    time = siege.clock.now_ms() + 3 * REG.future_limit_ms // 2
    async with siege.raw() as peer:
        coins = [siege.forge.coin(siege.tip, time=time + n).raw for n in range(many)]
        early = siege.statistics()["chain"]["early"]
        await siege.gossip(peer, "coin", *coins)
        await siege.look(lambda found: found["chain"]["early"] == early + many, "held")
        return peer.identity.peer


async def past_coins(siege: Siege) -> PeerId:
    """Coins that are no younger than their parent."""
    async with siege.raw() as peer:
        while siege.ban_of(peer.identity.peer) is None:
            coins = [siege.forge.coin(siege.tip, time=siege.tip.time).raw for _ in range(10)]
            await siege.gossip(peer, "coin", *coins)
            await trio.sleep(STEP_S)
        return peer.identity.peer


def addresses(start: int, many: int) -> bytes:
    """Return an answer of made-up addresses, all of this machine, where nothing listens."""
    found = tuple(
        f"/ip4/127.{2 + n // 62_500 % 250}.{n // 250 % 250}.{1 + n % 250}"
        f"/tcp/9/p2p/{'1' * 44}".encode()
        for n in range(start, start + many)
    )
    return wire.ADDRESSES_EXCHANGE.answer(found)


async def be_dialled(siege: Siege, peer: BarePeer) -> None:
    """Have the victim choose a peer: of such it asks for more addresses."""
    place = peer.transport.addresses()[0]
    await trio.to_thread.run_sync(lambda: siege.victim.call("net.add_peer", address=place))


async def addresses_without_end(siege: Siege) -> PeerId:
    """A hundred thousand addresses in one answer, when a few are asked for: of more, the transport
    that the attacker uses would not hold the answer."""
    faults = _faults(await trio.to_thread.run_sync(siege.statistics))
    async with siege.peer(connect=False) as peer:
        page = addresses(0, ADDRESSES)
        peer.answers["addresses"] = lambda _request: page
        await peer.transport.connect(siege.victim.full_address)
        await siege.look(lambda now: _faults(now) > faults, "found out")
        return peer.transport.id


def _faults(statistics: dict[str, Any]) -> int:
    return int(statistics["network"]["peers"]["penalties"].get("fault", 0))
