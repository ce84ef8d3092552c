"""libp2p's Yamux with the limits that it lacks."""

from __future__ import annotations

import logging
import os
import struct
from typing import Final

import trio
from libp2p.abc import ISecureConn
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux as stock

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.contract import Misbehaviour
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.pace import WORK_PER_FRAME, WORK_PER_STREAM, Pace
from unchained.node.transport.libp2p.secured import FloodError, Session
from unchained.node.transport.libp2p.streams import TcpStream

YAMUX_PROTOCOL: Final = str(stock.PROTOCOL_ID)
KEEPALIVE_S: Final = 5.0
"""Seconds of silence after which a peer is pinged."""
DEAD_AFTER_SILENCES: Final = 3
"""Silences in a row, pings notwithstanding, after which a peer is dead: 15 to 20 s."""
WINDOW_BYTES_MAX: Final = 1 << 20
"""Bytes of the window of a stream that is read as fast as it comes; each begins with 256 KiB. A
frame is never longer than that either."""
STALLED_S: Final = 30.0
"""Seconds for which a peer may give a stream no window before what it is sent there is given up."""
OPEN_STREAMS_MAX: Final = 256
"""Streams of one connection that are not closed on both sides."""
ANSWERS_UNSENT_BYTES_MAX: Final = 1 << 20
"""Bytes that wait to be sent to a peer that goes on asking."""
PINGS_BURST: Final = 100
PINGS_PER_S: Final = 10


def apply_mends() -> None:
    """Set what libp2p keeps per process; calling it again changes nothing.

    A window update for every single read costs 28 % of gossip's CPU: credit is given back by the
    half window instead. And what is granted is what may have to be held: windows grow to 1 MiB, not
    to 16. libp2p's loggers have no handler, so that Python would print their
    warnings, one per closed connection, on the terminal: ours report what matters.
    """
    os.environ.setdefault("PY_YAMUX_RELEASE_ON_READ", "0")
    stock.MAX_WINDOW_SIZE = WINDOW_BYTES_MAX
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)


class FrameFaultError(Exception):
    """A frame that a peer must not send."""

    def __init__(self, kind: Misbehaviour, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class YamuxGuard:
    """Watches the frames between the encryption and libp2p's Yamux, and keeps their rules.

    Fault 5: `yamux.py:1431` only warns of a peer that sends more than its window, so one peer
    can fill the memory. Here a stream's data is counted against the windows that we gave, and
    a connection that breaks them is closed. It can go when libp2p closes such connections.

    Who keeps to the windows has done nothing wrong, however much that is: where it is more than may
    be held, or more than may be done, no further frame is read until there is room, so that the
    excess waits at its sender.
    """

    def __init__(self, session: Session, tcp: TcpStream, budget: NodeBudget, pace: Pace) -> None:
        self.fault: FrameFaultError | None = None
        self.is_initiator = session.is_initiator
        self.muxer: Yamux | None = None
        self.pace = pace
        """What its records, its frames and its gossip cost, all together."""
        self.budget = budget
        self._session = session
        self._tcp = tcp
        self._unread = budget.unread
        self._unread_bytes = 0
        self._windows: dict[int, int] = {}
        self._last_opened = 0
        self._body = 0
        self._updated = 0
        self._writers: dict[int, trio.Event] = {}
        self._pings = TokenBucket(PINGS_BURST, PINGS_PER_S, trio.current_time())

    async def read(self, n: int | None = None) -> bytes:
        """Return the next header or body of a frame, once it is found in order."""
        if not self._body and self._updated:
            # The frame before is carried out by now.
            self._wake_writer(self._updated)
            self._updated = 0
        if not self._body and not self._unread.fits(self):
            self.drained()
            await self._unread.wait_until_it_fits(self)
        try:
            data = await self._session.read(n)
        except FloodError as error:
            self.fault = FrameFaultError(Misbehaviour.STREAM_FLOOD, str(error))
            raise self.fault from None
        except IOException:
            # Many may end at the same time, and to clear one away is a piece of work.
            await self.pace.turn()
            raise
        if self._body:
            self._body -= len(data)
            return data
        try:
            work = self._header(data)
        except FrameFaultError as fault:
            self.fault = fault
            raise
        await self.pace.spend(work)
        return data

    @property
    def received(self) -> int:
        """Bytes that came, since the start."""
        return self._tcp.received

    async def wait_for_window(self, stream: stock.YamuxStream) -> int:
        """Return how many bytes of a stream may be sent (`streams.WindowedConn`).

        libp2p looks every 10 ms, and gives up after 5 s: a thousand streams that wait would take a
        core. It can go when libp2p waits for the window."""
        if not stream.send_window and not stream.send_closed and not stream.closed:
            with trio.move_on_after(STALLED_S):
                while not stream.send_window and not stream.send_closed and not stream.closed:
                    woken = self._writers.setdefault(stream.stream_id, trio.Event())
                    await woken.wait()
            if not stream.send_window and not stream.closed:
                raise MuxedStreamError(f"no window for {STALLED_S:g} s")
        return max(1, int(stream.send_window))

    def finalized(self, stream: int) -> None:
        """Note that a stream has ended."""
        self._wake_writer(stream)
        self.drained()

    def _wake_writer(self, stream: int) -> None:
        woken = self._writers.pop(stream, None)
        if woken is not None:
            woken.set()

    def drained(self) -> None:
        """Note that bytes were read, or went with their stream."""
        if self._unread_bytes and self.muxer is not None:
            self._unread_bytes = sum(map(len, self.muxer.stream_buffers.values()))
            self._unread.set(self, self._unread_bytes)

    async def write(self, data: bytes) -> None:
        """Queue one frame, whole or not at all."""
        if self._tcp.unsent > ANSWERS_UNSENT_BYTES_MAX:
            self.fault = FrameFaultError(Misbehaviour.STREAM_FLOOD, "asks and does not read")
            self._tcp.abort()
        _, kind, flags, stream, length = struct.unpack_from(stock.YAMUX_HEADER_FORMAT, data)
        if kind == stock.TYPE_WINDOW_UPDATE and length and not flags & stock.FLAG_RST:
            self._windows[stream] = self._window(stream) + length
        await self._session.write(data)

    async def room(self) -> None:
        """Wait until data may be queued."""
        await self._tcp.room()

    async def close(self) -> None:
        """Close the socket."""
        self._unread.set(self, 0)
        for stream in tuple(self._writers):
            self._wake_writer(stream)
        await self._tcp.close()

    def _window(self, stream: int) -> int:
        return self._windows.get(stream, stock.DEFAULT_WINDOW_SIZE)

    def _header(self, data: bytes) -> int:
        """Return the units of work that a frame makes."""
        if len(data) != stock.HEADER_SIZE:
            raise FrameFaultError(Misbehaviour.OVERSIZED_FRAME, "no frame header")
        version, kind, flags, stream, length = struct.unpack(stock.YAMUX_HEADER_FORMAT, data)
        if version or kind > stock.TYPE_GO_AWAY:
            raise FrameFaultError(Misbehaviour.OVERSIZED_FRAME, f"version {version}, type {kind}")
        if kind == stock.TYPE_PING and not self._pings.take(trio.current_time()):
            raise FrameFaultError(Misbehaviour.STREAM_FLOOD, "a flood of pings")
        self._check_open()
        work = WORK_PER_FRAME
        if kind in (stock.TYPE_DATA, stock.TYPE_WINDOW_UPDATE) and flags & stock.FLAG_SYN:
            self._opened(stream)
            work += WORK_PER_STREAM
        self._updated = stream
        if kind != stock.TYPE_DATA or not length:
            return work
        # Of a stream that we reset, what was under way fits the window that it had.
        if length > self._window(stream):
            detail = f"{length} bytes in a window of {self._window(stream)}"
            kind_of_fault = (
                Misbehaviour.OVERSIZED_FRAME
                if length > WINDOW_BYTES_MAX
                else Misbehaviour.WINDOW_OVERRUN
            )
            raise FrameFaultError(kind_of_fault, detail)
        self._body = length
        self._windows[stream] = self._window(stream) - length
        if self.muxer is None or stream in self.muxer.streams or flags & stock.FLAG_SYN:
            self._unread_bytes += length
            self._unread.set(self, self._unread_bytes)
            return work
        if not self._was_open(stream):
            detail = f"data of stream {stream}, which nobody opened"
            raise FrameFaultError(Misbehaviour.OVERSIZED_FRAME, detail)
        return work + int(length)

    def _is_theirs(self, stream: int) -> bool:
        return bool(stream) and (stream % 2 == 1) is not self.is_initiator

    def _opened(self, stream: int) -> None:
        if not self._is_theirs(stream):
            detail = f"stream {stream} opened, which is not theirs to number"
            raise FrameFaultError(Misbehaviour.OVERSIZED_FRAME, detail)
        self._last_opened = max(self._last_opened, stream)

    def _was_open(self, stream: int) -> bool:
        if self._is_theirs(stream):
            return stream <= self._last_opened
        return self.muxer is not None and 0 < stream < self.muxer.next_stream_id

    def _check_open(self) -> None:
        if self.muxer is None:
            return
        if len(self.muxer.streams) > OPEN_STREAMS_MAX:
            raise FrameFaultError(
                Misbehaviour.STREAM_FLOOD, f"{len(self.muxer.streams)} streams open"
            )
        if len(self._windows) > 4 * OPEN_STREAMS_MAX:
            ended = [stream for stream in self._windows if stream not in self.muxer.streams]
            for stream in ended[:OPEN_STREAMS_MAX]:
                del self._windows[stream]


class Yamux(stock.Yamux):
    """libp2p's Yamux behind a `YamuxGuard`, with pings where nothing is heard for `KEEPALIVE_S`.

    Nobody waits for the pong: what counts is that anything is heard. Of two peers that have nothing
    to say to each other, mostly one pings.
    """

    def __init__(self, guard: YamuxGuard, peer: ID) -> None:
        secured: ISecureConn = guard  # type: ignore[assignment]
        super().__init__(secured, peer, is_initiator=guard.is_initiator)
        self._guard = guard
        self._data_lock = trio.Lock()
        self.is_dead = trio.Event()
        """Set once the peer has been silent for too long, or the connection ends."""
        guard.muxer = self

    async def wait_for_window(self, stream: stock.YamuxStream) -> int:
        """Return how many bytes of a stream may be sent, once some may."""
        return await self._guard.wait_for_window(stream)

    async def _write_frame(self, data: bytes) -> None:
        # Data waits before it takes the lock, so that pings and resets need not wait for it; and
        # in a line of its own, so that not all that wait find room where there is some for one.
        if data[1] == stock.TYPE_DATA:
            async with self._data_lock:
                await self._guard.room()
                async with self._write_lock:
                    await self._guard.write(data)
            return
        async with self._write_lock:
            await self._guard.write(data)

    async def read_stream(self, stream_id: int, n: int = -1) -> bytes:
        """Return some bytes of a stream, and take note that they are read."""
        try:
            data = await super().read_stream(stream_id, n)
        finally:
            # libp2p keeps an event of every stream that ends while it is read.
            if stream_id not in self.streams:
                self.stream_events.pop(stream_id, None)
        self._guard.drained()
        return data

    def _finalize_stream_locked(self, stream: stock.YamuxStream, *, fully_closed: bool) -> None:
        number = stream.stream_id
        if fully_closed and stream.reset_received:
            # What nobody will read any more is not kept for another minute.
            self.stream_buffers.pop(number, None)
        ended = self.stream_events.get(number)
        super()._finalize_stream_locked(stream, fully_closed=fully_closed)
        if ended is not None and number not in self.stream_events:
            ended.set()
        self._guard.finalized(number)

    async def _measure_rtt_loop(self) -> None:
        silences, heard = 0, -1
        while not self.event_shutting_down.is_set():
            # Counted in steps, not by the clock: after a sleep of our own nobody is dead.
            silences = silences + 1 if heard == self._guard.received else 0
            heard = self._guard.received
            if silences >= DEAD_AFTER_SILENCES:
                break
            if silences:
                try:
                    await self._ping()
                except (IOException, RawConnError):
                    return
            await trio.sleep(KEEPALIVE_S)
        self.is_dead.set()

    async def _ping(self) -> None:
        self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
        self._ping_sent_time = trio.current_time()
        await self._write_frame(
            struct.pack(
                stock.YAMUX_HEADER_FORMAT, 0, stock.TYPE_PING, stock.FLAG_SYN, 0, self._ping_id
            )
        )
