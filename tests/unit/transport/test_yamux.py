"""What a peer's frames make a node hold and do."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID

from unchained.node.transport.contract import Misbehaviour
from unchained.node.transport.libp2p.budget import (
    UNREAD_BYTES_OF_PEER_MAX,
    UNREAD_POOL_BYTES,
    UNREAD_SHARE_BYTES,
    NodeBudget,
    SharedBytes,
)
from unchained.node.transport.libp2p.pace import (
    INBOUND_WORK_BURST,
    INBOUND_WORK_PER_S,
    PEER_WORK_BURST,
    PEER_WORK_PER_S,
    WORK_AT_ONCE,
    WORK_PER_FRAME,
    Pace,
)
from unchained.node.transport.libp2p.streams import MuxedStream, StreamBrokenError
from unchained.node.transport.libp2p.yamux import (
    KEEPALIVE_S,
    OPEN_STREAMS_MAX,
    WINDOW_BYTES_MAX,
    Yamux,
    YamuxGuard,
    apply_mends,
)

DATA, UPDATE, PING = 0, 1, 2
SYN, ACK, RST = 1, 2, 8
WINDOW = 256 << 10
KIB = 1 << 10

apply_mends()


class Link:
    """The victim's side of a connection on which a peer says what it likes."""

    def __init__(self, budget: NodeBudget, *, is_initiator: bool) -> None:
        self.is_initiator = is_initiator
        self.received = 0
        self.unsent = 0
        self.sent = bytearray()
        self.closed = False
        self._in = bytearray()
        self._is_cut = False
        self._news = trio.Event()
        self._emptied = trio.Event()
        link: Any = self
        self.guard = YamuxGuard(link, link, budget, Pace(None if is_initiator else budget.work))
        self.muxer = Yamux(self.guard, ID(b"peer"))

    def frame(self, kind: int, flags: int, stream: int, length: int, body: bytes = b"") -> None:
        self._in += struct.pack("!BBHII", 0, kind, flags, stream, length) + body
        self._news.set()

    def data(self, stream: int, length: int, flags: int = 0) -> None:
        self.frame(DATA, flags, stream, length, bytes(length))

    @property
    def unread(self) -> int:
        return sum(map(len, self.muxer.stream_buffers.values()))

    @property
    def waiting(self) -> int:
        """Bytes that the victim has not taken in."""
        return len(self._in)

    def granted(self) -> int:
        """Return the increments of all window updates that were sent, but for those of opening."""
        total = at = 0
        while at < len(self.sent):
            _, kind, _, _, length = struct.unpack_from("!BBHII", self.sent, at)
            total += length if kind == UPDATE else 0
            at += 12 + (length if kind == DATA else 0)
        return total

    async def taken_in(self) -> float:
        """Return after how many seconds all that the peer has sent is taken in."""
        began = trio.current_time()
        while self._in:
            self._emptied = trio.Event()
            await self._emptied.wait()
        return trio.current_time() - began

    def end(self) -> None:
        """Let the peer be gone."""
        self._is_cut = True
        self._news.set()

    async def read(self, n: int) -> bytes:
        while len(self._in) < n:
            if self._is_cut:
                raise ConnectionClosedError("the peer is gone")
            self._emptied.set()
            self._news = trio.Event()
            await self._news.wait()
        found = bytes(memoryview(self._in)[:n])
        del self._in[:n]
        return found

    async def write(self, data: bytes) -> None:
        self.sent += data

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


@asynccontextmanager
async def link(
    budget: NodeBudget | None = None, *, is_initiator: bool = False
) -> AsyncIterator[Link]:
    found = Link(budget or NodeBudget(), is_initiator=is_initiator)
    async with trio.open_nursery() as nursery:
        if budget is None:
            nursery.start_soon(found.guard.budget.work.run)
        nursery.start_soon(found.muxer.start)
        await trio.testing.wait_all_tasks_blocked()
        yield found
        await found.guard.close()
        nursery.cancel_scope.cancel()


async def test_connections_that_end_together_are_cleared_away_one_in_a_turn() -> None:
    """Of all others who are ready, none waits for two of them."""
    budget, many = NodeBudget(), 40
    turn, ended = 0, []

    async def watch() -> None:
        nonlocal turn
        while True:
            turn += 1
            await trio.lowlevel.checkpoint()

    async def run(one: Link) -> None:
        await one.muxer.start()
        ended.append(turn)

    async with trio.open_nursery() as nursery:
        links = [Link(budget, is_initiator=False) for _ in range(many)]
        for one in links:
            nursery.start_soon(run, one)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(watch)
        await trio.lowlevel.checkpoint()
        for one in links:
            one.end()
        while len(ended) < many:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    # Whether the watcher or one that ends comes first in a turn is not said.
    assert all(later > earlier for earlier, later in zip(ended, ended[2:], strict=False))


FRAMES = 5_000


@pytest.mark.parametrize(
    ("kind", "flags", "stream", "length"),
    [
        pytest.param(DATA, 0, 1, 1, id="one byte of a stream that is gone"),
        pytest.param(DATA, 0, 3, 1, id="one byte of a stream that is open"),
        pytest.param(DATA, 0, 1, 0, id="nothing"),
        pytest.param(UPDATE, 0, 3, 1, id="a window"),
        pytest.param(UPDATE, RST, 1, 0, id="a reset"),
    ],
)
async def test_every_frame_is_charged(kind: int, flags: int, stream: int, length: int) -> None:
    async with link() as peer:
        peer.frame(UPDATE, SYN, 1, 0)
        peer.frame(UPDATE, RST, 1, 0)
        peer.frame(UPDATE, SYN, 3, 0)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(FRAMES):
            peer.frame(kind, flags, stream, length, bytes(length if kind == DATA else 0))
        work = FRAMES * WORK_PER_FRAME
        assert await peer.taken_in() >= (work - PEER_WORK_BURST) / PEER_WORK_PER_S - 0.1
        assert peer.guard.fault is None


async def test_many_who_flood_cost_little_more_than_one() -> None:
    budget = NodeBudget()
    peers, seconds = 16, 3
    frames = 0

    async def flood() -> None:
        nonlocal frames
        async with link(budget) as peer:
            while True:
                for _ in range(100):
                    peer.frame(UPDATE, 0, 2, 0)
                await peer.taken_in()
                frames += 100

    async with trio.open_nursery() as nursery:
        nursery.start_soon(budget.work.run)
        for _ in range(peers):
            nursery.start_soon(flood)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    work = INBOUND_WORK_BURST + seconds * INBOUND_WORK_PER_S
    assert frames * WORK_PER_FRAME <= 1.05 * (work + peers * WORK_AT_ONCE)


async def test_who_is_content_with_what_it_is_owed_does_not_wait_for_those_who_flood() -> None:
    budget = NodeBudget()

    async def flood() -> None:
        async with link(budget) as peer:
            while True:
                for _ in range(100):
                    peer.frame(UPDATE, 0, 2, 0)
                await peer.taken_in()

    async with trio.open_nursery() as nursery, link(budget) as honest:
        nursery.start_soon(budget.work.run)
        for _ in range(4):
            nursery.start_soon(flood)
        await trio.sleep(3)
        for _ in range(2):
            for _ in range(int(budget.work.owed_per_s) // WORK_PER_FRAME // 2):
                honest.frame(UPDATE, 0, 2, 0)
            assert await honest.taken_in() < 0.1
            await trio.sleep(1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("flags", "stream"), [(0, 5), (0, 2), (0, 0), (SYN, 2), (SYN, 0)], ids=str)
async def test_data_of_streams_that_nobody_opened_is_a_fault(flags: int, stream: int) -> None:
    async with link() as peer:
        peer.frame(UPDATE, SYN, 1, 0)
        peer.data(stream, 1, flags)
        await trio.testing.wait_all_tasks_blocked()
        assert peer.guard.fault is not None
        assert peer.guard.fault.kind is Misbehaviour.OVERSIZED_FRAME
        assert peer.closed


async def test_what_was_under_way_when_we_reset_a_stream_is_no_fault() -> None:
    async with link() as peer, link(is_initiator=True) as asked:
        peer.frame(UPDATE, SYN, 1, 0)
        stream = MuxedStream(await peer.muxer.accept_stream())
        ours = MuxedStream(await asked.muxer.open_stream())
        for one, number, side in ((stream, 1, peer), (ours, 1, asked)):
            await one.reset()
            for _ in range(4):
                side.data(number, WINDOW // 4)
            await trio.testing.wait_all_tasks_blocked()
            assert side.guard.fault is None
            side.data(number, 1)
            await trio.testing.wait_all_tasks_blocked()
            assert side.guard.fault is not None
            assert side.guard.fault.kind is Misbehaviour.WINDOW_OVERRUN


async def test_who_keeps_to_the_windows_is_never_at_fault_and_waits() -> None:
    async with link() as peer:
        for number in range(OPEN_STREAMS_MAX):
            if number >= 200:
                break
            peer.data(1 + 2 * number, WINDOW, SYN)
            await peer.muxer.accept_stream() if number < 30 else None
        with trio.move_on_after(60):
            await peer.taken_in()
        assert peer.guard.fault is None
        assert not peer.closed
        assert peer.unread <= UNREAD_BYTES_OF_PEER_MAX + WINDOW
        assert peer.waiting


async def test_a_window_that_is_read_grows_to_a_mib() -> None:
    async with link() as peer:
        peer.frame(UPDATE, SYN, 1, 0)
        stream = MuxedStream(await peer.muxer.accept_stream())
        sent = 0
        for _ in range(1000):
            window = WINDOW + peer.granted() - sent
            if window:
                peer.data(1, min(window, 64 * KIB))
                sent += min(window, 64 * KIB)
                await stream.read(min(window, 64 * KIB))
        assert WINDOW < WINDOW + peer.granted() - sent <= 2 * WINDOW_BYTES_MAX
        while WINDOW + peer.granted() > sent:
            peer.data(1, min(WINDOW + peer.granted() - sent, 64 * KIB))
            sent += min(WINDOW + peer.granted() - sent, 64 * KIB)
        await trio.testing.wait_all_tasks_blocked()
        assert peer.guard.fault is None
        assert peer.unread <= 2 * WINDOW_BYTES_MAX


async def test_the_unread_bytes_of_all_are_bounded_and_free_when_read() -> None:
    budget = NodeBudget()
    many = 3 * UNREAD_POOL_BYTES // UNREAD_BYTES_OF_PEER_MAX
    async with trio.open_nursery() as nursery:
        nursery.start_soon(budget.work.run)
        peers = []
        started = trio.Event()

        async def hold() -> None:
            async with link(budget) as peer:
                for number in range(40):
                    peer.frame(UPDATE, SYN, 1 + 2 * number, 0)
                streams = [MuxedStream(await peer.muxer.accept_stream()) for _ in range(40)]
                for number in range(40):
                    peer.data(1 + 2 * number, WINDOW)
                peers.append((peer, streams))
                if len(peers) == many:
                    started.set()
                await trio.sleep_forever()

        for _ in range(many):
            nursery.start_soon(hold)
        await started.wait()
        await trio.sleep(30)
        held = sum(peer.unread for peer, _ in peers)
        assert held > UNREAD_POOL_BYTES // 2
        assert held <= UNREAD_POOL_BYTES + many * (UNREAD_SHARE_BYTES + WINDOW)
        async with link(budget) as honest:
            honest.data(1, UNREAD_SHARE_BYTES, SYN)
            await honest.muxer.accept_stream()
            assert await honest.taken_in() < 1
        for _, streams in peers:
            for stream in streams:
                await stream.reset()
        for peer, _ in peers:
            await peer.taken_in()
            assert peer.unread == 0
        assert budget.unread._held == {}
        nursery.cancel_scope.cancel()


async def test_what_is_left_unread_goes_with_its_stream() -> None:
    async with link() as peer:
        for number in range(1000):
            peer.data(1 + 2 * number, 1000, SYN)
            stream = MuxedStream(await peer.muxer.accept_stream())
            await stream.reset() if number % 2 else peer.frame(UPDATE, RST, 1 + 2 * number, 0)
            await trio.testing.wait_all_tasks_blocked()
        assert peer.unread == 0
        assert not peer.muxer.streams
        assert peer.guard.fault is None


@pytest.mark.parametrize("by", ["us", "them"])
async def test_nothing_is_left_of_a_stream_that_ended_while_it_was_read(by: str) -> None:
    async with link() as peer, trio.open_nursery() as nursery:

        async def read(stream: MuxedStream) -> None:
            with pytest.raises(StreamBrokenError):
                await stream.read(1)

        for number in range(100):
            peer.frame(UPDATE, SYN, 1 + 2 * number, 0)
            stream = MuxedStream(await peer.muxer.accept_stream())
            nursery.start_soon(read, stream)
            await trio.testing.wait_all_tasks_blocked()
            await stream.reset() if by == "us" else peer.frame(UPDATE, RST, 1 + 2 * number, 0)
            await trio.testing.wait_all_tasks_blocked()
            assert not nursery.child_tasks
        assert not peer.muxer.streams
        assert not peer.muxer.stream_events


async def test_who_waits_for_a_window_is_woken_by_it_and_by_nothing_else() -> None:
    async with link(is_initiator=True) as peer, trio.open_nursery() as nursery:
        stream = MuxedStream(await peer.muxer.open_stream())
        steps = 0

        class Count(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                nonlocal steps
                steps += task.name == "write"

        async def write() -> None:
            await stream.write(bytes(2 * WINDOW))

        nursery.start_soon(write, name="write")
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(count := Count())
        await trio.sleep(20)
        assert steps == 0
        before = len(peer.sent)
        peer.frame(UPDATE, 0, 1, WINDOW)
        await trio.testing.wait_all_tasks_blocked()
        assert len(peer.sent) >= before + WINDOW
        trio.lowlevel.remove_instrument(count)


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_who_waits_for_a_window_hears_of_the_end(how: str) -> None:
    async with link(is_initiator=True) as peer, trio.open_nursery() as nursery:
        stream = MuxedStream(await peer.muxer.open_stream())

        async def write() -> None:
            with pytest.raises(StreamBrokenError):
                await stream.write(bytes(2 * WINDOW))

        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        if how == "reset":
            peer.frame(UPDATE, RST, 1, 0)
        else:
            peer.frame(9, 0, 0, 0)


def pings(peer: Link) -> int:
    """Return how many pings were sent, from the start or since the last look."""
    found = at = 0
    while at < len(peer.sent):
        _, kind, flags, _, length = struct.unpack_from("!BBHII", peer.sent, at)
        found += kind == PING and flags == SYN
        at += 12 + (length if kind == DATA else 0)
    peer.sent.clear()
    return found


async def test_who_is_heard_is_not_pinged_and_who_is_silent_is_dead() -> None:
    async with link() as peer:
        await trio.sleep(KEEPALIVE_S / 2)
        peer.received += 1
        for _ in range(100):
            await trio.sleep(KEEPALIVE_S)
            peer.received += 1
        assert pings(peer) == 0
        for _ in range(100):
            await trio.sleep(2 * KEEPALIVE_S)
            peer.received += 1
        assert pings(peer) == pytest.approx(100, abs=1)
        assert not peer.muxer.is_dead.is_set()
        silent_since = trio.current_time()
        await peer.muxer.is_dead.wait()
        assert 15 <= trio.current_time() - silent_since <= 20
        assert pings(peer) == 2


def test_shares_are_nobody_elses() -> None:
    shared = SharedBytes(share=10, pool=20, most=25)
    shared.set("a", 25)
    assert not shared.fits("a", 1)
    assert shared.fits("b", 15)
    shared.set("b", 15)
    assert not shared.fits("b", 1)
    assert shared.fits("c", 10)
    assert not shared.fits("c", 11)
    shared.set("a", 10)
    assert shared.fits("c", 25)
    shared.set("b", 0)
    shared.set("a", 0)
    assert shared._held == {}
    assert shared._drawn == 0
