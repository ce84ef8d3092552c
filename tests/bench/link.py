"""The CPU of an encrypted link, both sides together, over streams in memory: our TLS beside
libp2p's Noise, in the same run and in turn.

A handshake of peers that have never met, and of such as know each other's certificate; a megabyte
sent at once, and in frames as the multiplexer writes them.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import trio

from tests.bench._result import result
from tests.framework.p2p_wire import wires
from unchained.node.base.clock import SystemClock
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.noise import Noise
from unchained.node.transport.libp2p.pace import Pace
from unchained.node.transport.libp2p.secured import Secured
from unchained.node.transport.libp2p.tls import Tls

ROUNDS = 9
HANDSHAKES = 40
MEGABYTES = 16
FRAME_BYTES = 64 << 10
"""What the multiplexer writes at a time."""
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

    async def connect() -> Pair:
        here, there = wires()
        return await _both(lambda: one.outbound(here, THEIRS.peer), lambda: other.inbound(there))

    return connect


def by_tls() -> Connect:
    """Return a handshake by TLS, with certificates made for it."""
    one, other = (Tls(side, SystemClock(), "/yamux/1.0.0") for side in (OURS, THEIRS))

    async def connect() -> Pair:
        here, there = wires()
        opening = one.start(here, Pace(None), is_initiator=True)
        accepting = other.start(there, Pace(None), is_initiator=False)
        await here.write(opening.hello())
        return await _both(
            lambda: one.finish(opening, THEIRS.peer), lambda: other.finish(accepting, None)
        )

    return connect


def run() -> list[dict[str, object]]:
    """Shake hands and send, by either protocol in turn."""
    return trio.run(_measure)


async def _measure() -> list[dict[str, object]]:
    noise, known = by_noise(), by_tls()
    handshake, first, again = [], [], []
    await known()
    for _ in range(ROUNDS):
        handshake.append(await _handshake_ms([noise] * HANDSHAKES))
        first.append(await _handshake_ms([by_tls() for _ in range(HANDSHAKES)]))
        again.append(await _handshake_ms([known] * HANDSHAKES))
    results = [
        _compared("link_handshake", first, handshake, HANDSHAKE_RATIO_GOAL),
        _compared("link_handshake_again", again, handshake, HANDSHAKE_RATIO_GOAL),
    ]
    for name, size in (("link_megabyte", 1 << 20), ("link_megabyte_frames", FRAME_BYTES)):
        ends = {True: await known(), False: await noise()}
        sent: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(ROUNDS):
            for is_tls, pair in ends.items():
                sent[is_tls].append(await _megabyte_ms(pair, size))
        results.append(_compared(name, sent[True], sent[False], MEGABYTE_RATIO_GOAL))
    return results


def _compared(
    name: str, values: list[float], reference: list[float], most: float
) -> dict[str, object]:
    """Return a result whose goal is a multiple of what Noise takes."""
    return result(
        name,
        "ms of CPU",
        values,
        reference="Noise",
        reference_values=reference,
        goal=most * statistics.median(reference),
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


async def _handshake_ms(connects: list[Connect]) -> float:
    gc.collect()
    begun = time.process_time()
    for connect in connects:
        await connect()
    return (time.process_time() - begun) / len(connects) * 1000


async def _megabyte_ms(pair: Pair, size: int) -> float:
    here, there = pair
    data = bytes(size)
    gc.collect()
    begun = time.process_time()
    for _ in range((MEGABYTES << 20) // size):
        await here.session.write(data)
        await there.session.read(size)
    return (time.process_time() - begun) / MEGABYTES * 1000
