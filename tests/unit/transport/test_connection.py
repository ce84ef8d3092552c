"""What the streams that a peer opens cost it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.unit.transport.test_yamux import ACK, DATA, RST, SYN, UPDATE, Link, link
from unchained.node.transport.contract import (
    Direction,
    DisconnectReason,
    LinkSecurity,
    Misbehaviour,
    PeerId,
    PeerInfo,
)
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.gossip_wire import GOSSIP_PROTOCOLS
from unchained.node.transport.libp2p.budget import (
    OUTBOX_BYTES_OF_PEER_MAX,
    OUTBOX_SHARE_BYTES,
)
from unchained.node.transport.libp2p.connection import (
    IDENTIFIES_BURST,
    REFUSED_STREAMS_BURST,
    REFUSED_STREAMS_PER_S,
    SERVED_STREAMS_MAX,
    WHOLE_READ_S,
    Connection,
)
from unchained.node.transport.libp2p.pace import (
    PEER_WORK_BURST,
    PEER_WORK_PER_S,
    WORK_PER_FRAME,
    WORK_PER_PROPOSAL,
    WORK_PER_STREAM,
)
from unchained.node.transport.libp2p.streams import (
    STREAM_PROPOSALS_MAX,
    MuxedStream,
    StreamBrokenError,
)
from unchained.node.transport.libp2p.upgrader import Upgraded


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


class Served:
    """What a connection serves, and how often it did."""

    def __init__(self) -> None:
        self.count = 0

    async def serve(self, protocol: str, stream: MuxedStream) -> None:
        self.count += 1


def line(text: str) -> bytes:
    return bytes((len(text) + 1,)) + text.encode() + b"\n"


GREETING = line("/multistream/1.0.0")


async def test_half_an_rpc_is_not_held_for_ever() -> None:
    async with link() as peer:
        found = connection(peer, Accuser())
        peer.frame(DATA, SYN, 1, 1, b"\x00")
        stream = MuxedStream(await peer.muxer.accept_stream())
        rpc, _ = await found.read_gossip(stream)
        assert rpc == Rpc()
        # Between two of them there is all the time of the world.
        with trio.move_on_after(10 * WHOLE_READ_S) as waiting:
            await found.read_gossip(stream)
        assert waiting.cancelled_caught
        began = trio.current_time()
        peer.frame(DATA, 0, 1, 102, b"\x80\x04" + bytes(100))
        with pytest.raises(StreamBrokenError, match="no whole RPC in 30 s"):
            await found.read_gossip(stream)
        assert trio.current_time() - began == pytest.approx(WHOLE_READ_S)


async def test_of_two_streams_of_gossip_the_first_is_reset() -> None:
    async with link() as peer:
        found = connection(peer, Accuser())
        for number in (1, 3):
            peer.frame(DATA, SYN, number, 0)
            await found.listen_to(MuxedStream(await peer.muxer.accept_stream()))
        assert list(peer.muxer.streams) == [3]


@pytest.mark.parametrize("is_sending", [False, True])
async def test_what_waits_for_a_peer_that_is_gone_takes_no_room(is_sending: bool) -> None:
    async with link() as peer, trio.open_nursery() as nursery:
        found = connection(peer, Accuser())
        outboxes = found.budget.outbox

        async def gossip() -> None:
            with found._scope:
                await found._gossip()

        if is_sending:
            nursery.start_soon(gossip)
            await trio.testing.wait_all_tasks_blocked()
            body = GREETING + line(GOSSIP_PROTOCOLS[0])
            peer.frame(DATA, ACK, 2, len(body), body)
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            assert found.send(Rpc(messages=(("t", bytes(OUTBOX_SHARE_BYTES)),)))
        assert not outboxes.fits(found, OUTBOX_BYTES_OF_PEER_MAX)
        # Where there is a task that sends, it has been told of them, and comes next.
        found.close(DisconnectReason.REMOTE)
        await trio.testing.wait_all_tasks_blocked()
        assert outboxes.fits(found, OUTBOX_BYTES_OF_PEER_MAX)


async def charged(body: bytes, streams: int, per_s: float = 5.0) -> tuple[float, Served, Link]:
    """Open so many streams with `body` and reset each; return the units that each was charged."""
    accuser, served = Accuser(), Served()
    async with link(is_initiator=False) as peer, trio.open_nursery() as nursery:
        found = connection(peer, accuser)
        spent = 0.0
        spend = found.pace.spend

        async def noted(units: int) -> None:
            nonlocal spent
            spent += units
            await spend(units)

        found.pace.spend = noted  # type: ignore[method-assign]
        nursery.start_soon(found._accept, nursery, ("/t/echo/1",), served.serve)
        for number in range(streams):
            peer.frame(DATA, SYN, 1 + 2 * number, len(body), body)
            await trio.sleep(1 / per_s)
            peer.frame(UPDATE, RST, 1 + 2 * number, 0)
        await peer.taken_in()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert accuser.kinds == []
    return spent / streams, served, peer


@pytest.mark.parametrize(
    ("body", "proposals"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(GREETING + line("/t/none/1"), 1, id="one that is refused"),
        pytest.param(GREETING + line("/t/echo/1"), 1, id="one that is served"),
        pytest.param(GREETING + line("/t/none/1") * 9, STREAM_PROPOSALS_MAX, id="nine"),
    ],
)
async def test_a_stream_is_charged_for_what_it_makes_a_node_do(body: bytes, proposals: int) -> None:
    each, served, peer = await charged(body, 20)
    work = 2 * WORK_PER_FRAME + WORK_PER_STREAM + proposals * WORK_PER_PROPOSAL
    assert each == work
    assert served.count == (20 if b"echo" in body else 0)
    assert peer.sent.count(line("na")) == (0 if b"echo" in body else 20 * proposals)


async def test_forty_requests_a_second_of_one_peer_do_not_wait() -> None:
    began = trio.current_time()
    _, served, _ = await charged(GREETING + line("/t/echo/1"), 400, 40)
    assert served.count == 400
    assert trio.current_time() - began == pytest.approx(10, abs=0.1)


async def test_who_opens_streams_without_end_waits_and_is_not_at_fault() -> None:
    """Each opened and reset at once, so that never many are open at a time."""
    body, streams = GREETING + line("/t/none/1"), 1_000
    accuser = Accuser()
    async with link() as peer, trio.open_nursery() as nursery:
        found = connection(peer, accuser)
        nursery.start_soon(found._accept, nursery, ("/t/echo/1",), Served().serve)
        for number in range(streams):
            peer.frame(DATA, SYN, 1 + 2 * number, len(body), body)
            peer.frame(UPDATE, RST, 1 + 2 * number, 0)
        work = streams * (WORK_PER_STREAM + 2 * WORK_PER_FRAME)
        assert await peer.taken_in() >= (work - PEER_WORK_BURST) / PEER_WORK_PER_S - 0.1
        nursery.cancel_scope.cancel()
    assert accuser.kinds == []
    assert found.reason is DisconnectReason.REMOTE


class Busy:
    """Serves streams without end."""

    async def serve(self, protocol: str, stream: MuxedStream) -> None:
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("per_s", "kinds"),
    [
        pytest.param(REFUSED_STREAMS_PER_S * 0.9, [], id="for long"),
        pytest.param(REFUSED_STREAMS_PER_S * 5, [Misbehaviour.STREAM_FLOOD], id="fast"),
    ],
)
async def test_who_is_refused_streams_is_dropped_for_their_rate_and_not_for_their_number(
    per_s: float, kinds: list[Misbehaviour]
) -> None:
    accuser = Accuser()
    async with link() as peer, trio.open_nursery() as nursery:
        found = connection(peer, accuser)
        nursery.start_soon(found._accept, nursery, ("/t/echo/1",), Busy().serve)
        body = GREETING + line("/t/echo/1")
        for number in range(SERVED_STREAMS_MAX):
            peer.frame(DATA, SYN, 1 + 2 * number, len(body), body)
            await trio.sleep(0.05)
        await peer.taken_in()
        first = SERVED_STREAMS_MAX
        for number in range(first, first + 2 * REFUSED_STREAMS_BURST):
            peer.frame(DATA, SYN, 1 + 2 * number, len(body), body)
            await trio.sleep(1 / per_s)
            peer.frame(UPDATE, RST, 1 + 2 * number, 0)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert accuser.kinds == kinds


async def test_a_peer_is_told_a_few_times_who_we_are() -> None:
    async with link() as peer:
        found = connection(peer, Accuser())
        assert [found.may_identify() for _ in range(IDENTIFIES_BURST + 2)] == [
            *[True] * IDENTIFIES_BURST,
            False,
            False,
        ]
        # Some clients ask again every five minutes.
        for _ in range(10):
            await trio.sleep(300)
            assert found.may_identify()
