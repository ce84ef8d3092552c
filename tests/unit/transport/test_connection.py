"""How many streams one peer may open."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from tests.unit.transport.test_yamux import DATA, RST, SYN, UPDATE, Link, link
from unchained.node.transport.contract import (
    Direction,
    DisconnectReason,
    LinkSecurity,
    Misbehaviour,
    PeerId,
    PeerInfo,
)
from unchained.node.transport.libp2p.connection import STREAMS_BURST, STREAMS_PER_S, Connection
from unchained.node.transport.libp2p.upgrader import Upgraded

HELLO = b"\x13/multistream/1.0.0\n\x0a/t/none/1\n"


class Accuser:
    """What a connection reports to."""

    def __init__(self) -> None:
        self.kinds: list[Misbehaviour] = []

    def misbehaved(
        self, ip: str, peer: PeerId | None, kind: Misbehaviour, detail: str, topic: str = ""
    ) -> None:
        self.kinds.append(kind)


def connection(peer: Link, accuser: Any) -> Connection:
    security = LinkSecurity("tls", "X25519MLKEM768")
    tcp: Any = peer
    name = PeerId("peer")
    upgraded = Upgraded(name, security, True, tcp, peer.guard, peer.muxer)
    info = PeerInfo(name, "192.0.2.1", "", Direction.INBOUND, trio.current_time(), security)
    return Connection(upgraded, info, accuser)


async def serve(protocol: str, stream: object) -> None:
    raise AssertionError("nothing is served")


async def open_streams(per_s: float, seconds: float) -> tuple[Connection, Accuser]:
    """Open streams for what nobody serves and reset each, never many at a time."""
    accuser = Accuser()
    async with link() as peer, trio.open_nursery() as nursery:
        found = connection(peer, accuser)
        nursery.start_soon(found._accept, nursery, ("/t/echo/1",), serve)
        for number in range(int(per_s * seconds)):
            peer.frame(DATA, SYN, 1 + 2 * number, len(HELLO), HELLO)
            peer.frame(UPDATE, RST, 1 + 2 * number, 0)
            await trio.sleep(1 / per_s)
            if accuser.kinds:
                break
        nursery.cancel_scope.cancel()
    return found, accuser


async def test_who_opens_as_many_streams_as_are_granted_is_not_at_fault() -> None:
    found, accuser = await open_streams(0.9 * STREAMS_PER_S, 10)
    assert accuser.kinds == []
    assert found.reason is DisconnectReason.REMOTE


async def test_who_opens_more_streams_than_are_granted_is_dropped() -> None:
    found, accuser = await open_streams(2 * STREAMS_PER_S, 3 * STREAMS_BURST / STREAMS_PER_S)
    assert accuser.kinds == [Misbehaviour.STREAM_FLOOD]
    assert found.reason is DisconnectReason.MISBEHAVED
