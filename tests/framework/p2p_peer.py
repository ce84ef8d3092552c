"""A peer without a chain: it answers what it is asked to, and gossips what it likes.

Run as ``python -m tests.framework.p2p_peer ADDRESS`` it is an honest one that stays connected to a
node of `reg`: for each line of its input, a number of seconds, it asks for headers and coins all
the while, and prints how long each answer took, in seconds, as a JSON list.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog
import trio

from unchained.node.base.clock import SystemClock
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG, Network
from unchained.node.primitives.codec import encode
from unchained.node.primitives.types import CoinId
from unchained.node.transport.contract import (
    Event,
    PeerDisconnected,
    PeerId,
    ServeLimits,
    TopicLimits,
    Verdict,
)
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport
from unchained.node.transport.libp2p.noise import NOISE_PROTOCOL
from unchained.node.wire import limits
from unchained.node.wire import messages as wire
from unchained.node.wire.limits import name_of

T = TypeVar("T")

PACE_S = 0.06
"""Seconds between an honest peer's requests: within the rates of the table of limits."""
PATIENCE_S = 20.0


class BarePeer:
    """A peer of a network. `answers` gives whole answers, by request."""

    def __init__(
        self, transport: Libp2pTransport, network: Network, now_ms: Callable[[], int]
    ) -> None:
        self.transport = transport
        self.genesis = genesis_of(network).id
        self.tip = self.genesis
        self.height = 0
        self.work = bytes(32)
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, Callable[[bytes], bytes]] = {}
        self.parted = trio.Event()
        """Set once a connection has ended."""
        self._now_ms = now_ms
        transport.observe(self._note)
        for topic in limits.TOPICS:
            transport.subscribe(
                name_of(self.genesis, topic.name), self._validate, TopicLimits(max_size=300_000)
            )
        for exchange in limits.EXCHANGES:
            transport.serve(
                name_of(self.genesis, exchange.name),
                self._answerer(exchange.name),
                ServeLimits(1 << 20, 64, 64),
            )

    def _note(self, event: Event) -> None:
        if isinstance(event, PeerDisconnected):
            self.parted.set()

    async def _validate(self, _peer: PeerId, _data: bytes) -> Verdict:
        return Verdict.IGNORE

    def _answerer(self, name: str) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
        async def answer(_peer: PeerId, payload: bytes) -> bytes:
            self.asked[name] += 1
            if name in self.answers:
                return self.answers[name](payload)
            if name == "status":
                return wire.STATUS_EXCHANGE.answer(self.status())
            return wire.refusal(wire.Code.NOT_FOUND)

        return answer

    def status(self) -> wire.Status:
        """Return what it says of itself."""
        return wire.Status(
            self.genesis, self.tip, self.height, self.work, wire.VERSION, self._now_ms()
        )

    def claim(self, tip: CoinId, height: int, work: bytes = bytes(32)) -> None:
        """Say from here on that such is its tip."""
        self.tip, self.height, self.work = tip, height, work

    def has_neighbours(self, kind: str) -> bool:
        """Return whether there is anybody to gossip with."""
        return bool(self.transport._switchboard.router.mesh(name_of(self.genesis, kind)))

    async def gossip(self, kind: str, data: bytes) -> None:
        """Publish an object."""
        # A task that is cancelled with the transport shall not find it ended.
        await trio.lowlevel.checkpoint()
        await self.transport.publish(name_of(self.genesis, kind), data)

    async def ask(self, peer: PeerId, exchange: wire.Exchange[T], request: object) -> T:
        """Return what a peer answers."""
        raw = await self.transport.request(
            peer,
            name_of(self.genesis, exchange.name),
            encode(request),
            max_response=exchange.limits.max_answer + 1,
            timeout=PATIENCE_S,
        )
        return exchange.decode_answer(raw)


@asynccontextmanager
async def bare_peer(
    seed: int, *, network: Network = REG, only_noise: bool = False
) -> AsyncIterator[BarePeer]:
    """Run a bare peer on a port of this machine, with the node's security or with Noise alone."""
    config = HostConfig(
        listen=("/ip4/127.0.0.1/tcp/0",), security="any" if only_noise else "hybrid"
    )
    log = structlog.wrap_logger(None, processors=[_drop])
    transport = Libp2pTransport(config, Identity.from_seed(seed.to_bytes(2, "big") * 16), log)
    if only_noise:
        transport._upgrader._offered = (NOISE_PROTOCOL,)
    peer = BarePeer(transport, network, SystemClock().now_ms)
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        yield peer
        nursery.cancel_scope.cancel()


def _drop(_logger: object, _name: str, _event: object) -> str:
    raise structlog.DropEvent


async def measure(peer: BarePeer, victim: PeerId, seconds: float) -> list[float]:
    """Ask a node for headers and for coins in turn; return how long each took."""
    took = []
    questions: tuple[tuple[wire.Exchange[Any], object], ...] = (
        (wire.HEADERS_EXCHANGE, wire.HeadersRequest((peer.genesis,), wire.OWN_TIP)),
        (wire.COINS_EXCHANGE, (peer.genesis,)),
    )
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        for exchange, request in questions:
            began = trio.current_time()
            await peer.ask(victim, exchange, request)
            took.append(trio.current_time() - began)
            await trio.sleep(PACE_S)
    return took


async def _main(address: str) -> None:
    async with bare_peer(60_000) as peer:
        victim = await peer.transport.connect(address)
        while seconds := await trio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps(await measure(peer, victim, float(seconds))), flush=True)


if __name__ == "__main__":
    trio.run(_main, sys.argv[1])
