"""The CPU of an encrypted link, both sides together, over streams in memory: our TLS beside
libp2p's Noise, in the same run and in turn.

Rows with `openssl` are the same by OpenSSL's calls alone, without a socket, a check of whose
certificate it is or anything else of ours: what no mend of ours can be faster than.

A link of peers that have never met, and of such as know each other's certificate, from the first
byte until both know which security and which multiplexer are spoken, as TLS says in its handshake
and Noise by multistream; a megabyte sent at once, and in frames as the multiplexer writes them.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

import trio
from libp2p.stream_muxer.yamux.yamux import HEADER_SIZE
from OpenSSL import SSL

from tests.bench._result import result
from tests.framework.p2p_wire import MemoryWire, wires
from unchained.node.base.clock import SystemClock
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.certificate import _proven
from unchained.node.transport.libp2p.noise import NOISE_PROTOCOL, Noise
from unchained.node.transport.libp2p.pace import Pace
from unchained.node.transport.libp2p.secured import Secured
from unchained.node.transport.libp2p.streams import agree, propose
from unchained.node.transport.libp2p.tls import RECORD_BYTES_MAX, TLS_PROTOCOL, Tls
from unchained.node.transport.libp2p.yamux import YAMUX_PROTOCOL

ROUNDS = 9
HANDSHAKES = 40
MEGABYTES = 16
FRAME_BYTES = 64 << 10
"""What the multiplexer writes at a time, and reads as a header and a body."""
HANDSHAKE_RATIO_GOAL = 1.2
MEGABYTE_RATIO_GOAL = 0.5
OURS, THEIRS = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2))

Pair = tuple[Secured, Secured]


class Connect(Protocol):
    """Shakes hands in memory."""

    async def __call__(self) -> Pair:
        """Return both ends."""


def by_noise() -> Connect:
    """Return a handshake by Noise."""
    one, other = Noise(OURS), Noise(THEIRS)

    async def outbound(wire: MemoryWire) -> Secured:
        await propose(wire, NOISE_PROTOCOL)
        secured = await one.outbound(wire, THEIRS.peer)
        await propose(secured.session, YAMUX_PROTOCOL)
        return secured

    async def inbound(wire: MemoryWire) -> Secured:
        await agree(wire, (NOISE_PROTOCOL,))
        secured = await other.inbound(wire)
        await agree(secured.session, (YAMUX_PROTOCOL,))
        return secured

    async def connect() -> Pair:
        here, there = wires()
        return await _both(lambda: outbound(here), lambda: inbound(there))

    return connect


def by_tls(*, strangers: bool = False) -> Connect:
    """Return a handshake by TLS; of peers whose certificates were never seen, where they are
    strangers."""
    one, other = (Tls(side, SystemClock(), YAMUX_PROTOCOL) for side in (OURS, THEIRS))

    async def outbound(wire: MemoryWire) -> Secured:
        session = one.start(wire, Pace(None), is_initiator=True)
        await propose(wire, TLS_PROTOCOL, session.hello())
        return await one.finish(session, THEIRS.peer)

    async def inbound(wire: MemoryWire) -> Secured:
        await agree(wire, (TLS_PROTOCOL,))
        session = other.start(wire, Pace(None), is_initiator=False)
        secured = await other.finish(session, None)
        # The first word, which says that the peer is let in.
        await secured.session.write(b"")
        return secured

    async def connect() -> Pair:
        if strangers:
            _proven.cache_clear()
        here, there = wires()
        pair = await _both(lambda: outbound(here), lambda: inbound(there))
        assert all(end.muxer_agreed for end in pair)
        return pair

    return connect


class Bare:
    """Both ends of a connection that is nobody's but OpenSSL's."""

    def __init__(self, one: Tls, other: Tls) -> None:
        self.here = SSL.Connection(one._opening, None)
        self.there = SSL.Connection(other._accepting, None)
        self.here.set_connect_state()
        self.there.set_accept_state()
        ends = (self.here, self.there)
        # Either side is at its end only after the other's last step.
        while sum(self._step(end) for end in ends) < len(ends):
            for giver, taker in ((self.here, self.there), (self.there, self.here)):
                with suppress(SSL.WantReadError):
                    taker.bio_write(giver.bio_read(FRAME_BYTES))

    def _step(self, end: SSL.Connection) -> bool:
        try:
            end.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def send(self, data: bytes) -> None:
        """Send as much as a frame holds, and take it at the other end."""
        self.here.sendall(data)
        self.there.bio_write(self.here.bio_read(2 * FRAME_BYTES))
        for _ in range(0, len(data), RECORD_BYTES_MAX):
            self.there.recv(RECORD_BYTES_MAX)


def run() -> list[dict[str, object]]:
    """Shake hands and send, by either protocol in turn."""
    return trio.run(_measure)


async def _measure() -> list[dict[str, object]]:
    noise, known, unknown = by_noise(), by_tls(), by_tls(strangers=True)
    one, other = (Tls(side, SystemClock(), YAMUX_PROTOCOL) for side in (OURS, THEIRS))
    handshake, first, again, bare = [], [], [], []
    for _ in range(ROUNDS):
        handshake.append(await _handshake_ms(noise))
        first.append(await _handshake_ms(unknown))
        await known()
        again.append(await _handshake_ms(known))
        bare.append(_cpu_ms(lambda: Bare(one, other), HANDSHAKES))
    results = [
        _compared("link_handshake", first, handshake, HANDSHAKE_RATIO_GOAL),
        _compared("link_handshake_again", again, handshake, HANDSHAKE_RATIO_GOAL),
        _compared("link_handshake_openssl", bare, handshake),
    ]
    for name, size in (("link_megabyte", 1 << 20), ("link_megabyte_frames", FRAME_BYTES)):
        ends = {True: await known(), False: await noise()}
        sent: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(ROUNDS):
            for is_tls, pair in ends.items():
                sent[is_tls].append(await _megabyte_ms(pair, size))
        results.append(_compared(name, sent[True], sent[False], MEGABYTE_RATIO_GOAL))
    frame, bare_pair = bytes(FRAME_BYTES), Bare(one, other)
    frames = (1 << 20) // FRAME_BYTES
    alone = [
        frames * _cpu_ms(lambda: bare_pair.send(frame), MEGABYTES * frames) for _ in range(ROUNDS)
    ]
    results.append(_compared("link_megabyte_frames_openssl", alone, sent[False]))
    return results


def _compared(
    name: str, values: list[float], reference: list[float], most: float | None = None
) -> dict[str, object]:
    """Return a result whose goal, if it has one, is a multiple of what Noise takes."""
    return result(
        name,
        "ms of CPU",
        values,
        reference="Noise",
        reference_values=reference,
        goal=None if most is None else most * statistics.median(reference),
        at_least=False,
    )


async def _both(
    one: Callable[[], Awaitable[Secured]], other: Callable[[], Awaitable[Secured]]
) -> tuple[Secured, Secured]:
    made: dict[bool, Secured] = {}

    async def make(side: Callable[[], Awaitable[Secured]], *, first: bool) -> None:
        made[first] = await side()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(make, one, first=True))
        nursery.start_soon(partial(make, other, first=False))
    return made[True], made[False]


async def _handshake_ms(connect: Connect) -> float:
    gc.collect()
    begun = time.process_time()
    for _ in range(HANDSHAKES):
        await connect()
    return (time.process_time() - begun) / HANDSHAKES * 1000


def _cpu_ms(do: Callable[[], object], times: int) -> float:
    gc.collect()
    begun = time.process_time()
    for _ in range(times):
        do()
    return (time.process_time() - begun) / times * 1000


async def _megabyte_ms(pair: Pair, size: int) -> float:
    here, there = pair
    data = bytes(size)
    gc.collect()
    begun = time.process_time()
    for _ in range((MEGABYTES << 20) // size):
        await here.session.write(data)
        await there.session.read(HEADER_SIZE)
        await there.session.read(size - HEADER_SIZE)
    return (time.process_time() - begun) / MEGABYTES * 1000
