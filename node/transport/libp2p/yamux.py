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
from libp2p.stream_muxer.yamux import yamux as stock

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.contract import Misbehaviour
from unchained.node.transport.libp2p.secured import Session
from unchained.node.transport.libp2p.streams import TcpStream

YAMUX_PROTOCOL: Final = str(stock.PROTOCOL_ID)
KEEPALIVE_S: Final = 5.0
FRAME_BYTES_MAX: Final = 16 << 20
BUFFERED_BYTES_MAX: Final = 16 << 20
"""Bytes of one connection that wait to be read, in all its streams."""
OPEN_STREAMS_MAX: Final = 256
"""Streams of one connection that are not closed on both sides."""
ANSWERS_UNSENT_BYTES_MAX: Final = 1 << 20
"""Bytes that wait to be sent to a peer that goes on asking."""
EMPTY_FRAMES_BURST: Final = 10_000
EMPTY_FRAMES_PER_S: Final = 2_000
"""Frames without data that a peer may send at once, and per second: each costs as much as one with
data, and nothing to send."""
PINGS_BURST: Final = 100
PINGS_PER_S: Final = 10
CHECK_EVERY_BYTES: Final = 64 << 10


def apply_mends() -> None:
    """Set what libp2p keeps per process; calling it again changes nothing.

    A window update for every single read costs 28 % of gossip's CPU: credit is given back by the
    half window instead. libp2p's loggers have no handler, so that Python would print their
    warnings, one per closed connection, on the terminal: ours report what matters.
    """
    os.environ.setdefault("PY_YAMUX_RELEASE_ON_READ", "0")
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)


class FrameFaultError(Exception):
    """A frame that a peer must not send."""

    def __init__(self, kind: Misbehaviour, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class MemoryBudget:
    """Unread bytes of all connections together; over it, the worst connection is closed."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._muxers: dict[Yamux, int] = {}

    def note(self, muxer: Yamux, buffered: int) -> None:
        """Take down what a connection holds; raises `FrameFaultError` if it must be closed."""
        self._muxers[muxer] = buffered
        if sum(self._muxers.values()) > self.most and buffered == max(self._muxers.values()):
            raise FrameFaultError(Misbehaviour.WINDOW_OVERRUN, f"{buffered} bytes unread")

    def forget(self, muxer: Yamux) -> None:
        """Drop a connection that is closed."""
        self._muxers.pop(muxer, None)


class YamuxGuard:
    """Watches the frames between the encryption and libp2p's Yamux, and keeps their rules.

    Fault 5: `yamux.py:1431` only warns of a peer that sends more than its window, so one peer
    can fill the memory. Here a stream's data is counted against the windows that we gave, and
    a connection that breaks them is closed. It can go when libp2p closes such connections.
    """

    def __init__(self, session: Session, tcp: TcpStream, budget: MemoryBudget) -> None:
        self.fault: FrameFaultError | None = None
        self.is_initiator = session.is_initiator
        self.muxer: Yamux | None = None
        self._session = session
        self._tcp = tcp
        self._budget = budget
        self._windows: dict[int, int] = {}
        self._body = 0
        self._unchecked = 0
        now = trio.current_time()
        self._empty_frames = TokenBucket(EMPTY_FRAMES_BURST, EMPTY_FRAMES_PER_S, now)
        self._pings = TokenBucket(PINGS_BURST, PINGS_PER_S, now)

    async def read(self, n: int | None = None) -> bytes:
        """Return the next header or body of a frame, once it is found in order."""
        data = await self._session.read(n)
        try:
            if self._body:
                self._body -= len(data)
            else:
                self._header(data)
        except FrameFaultError as fault:
            self.fault = fault
            raise
        return data

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
        if self.muxer is not None:
            self._budget.forget(self.muxer)
        await self._tcp.close()

    def _window(self, stream: int) -> int:
        return self._windows.get(stream, stock.DEFAULT_WINDOW_SIZE)

    def _header(self, data: bytes) -> None:
        if len(data) != stock.HEADER_SIZE:
            raise FrameFaultError(Misbehaviour.OVERSIZED_FRAME, "no frame header")
        version, kind, _, stream, length = struct.unpack(stock.YAMUX_HEADER_FORMAT, data)
        if version or kind > stock.TYPE_GO_AWAY:
            raise FrameFaultError(Misbehaviour.OVERSIZED_FRAME, f"version {version}, type {kind}")
        if kind != stock.TYPE_DATA or not length:
            if not self._empty_frames.take(trio.current_time()):
                raise FrameFaultError(Misbehaviour.STREAM_FLOOD, "a flood of empty frames")
            if kind == stock.TYPE_PING and not self._pings.take(trio.current_time()):
                raise FrameFaultError(Misbehaviour.STREAM_FLOOD, "a flood of pings")
            self._check_open()
            return
        if length > FRAME_BYTES_MAX:
            raise FrameFaultError(Misbehaviour.OVERSIZED_FRAME, f"a frame of {length} bytes")
        self._body = length
        # Of a stream that we reset, what was under way fits the window that it had.
        if length > self._window(stream):
            detail = f"{length} bytes in a window of {self._window(stream)}"
            raise FrameFaultError(Misbehaviour.WINDOW_OVERRUN, detail)
        self._windows[stream] = self._window(stream) - length
        self._unchecked += length
        if self._unchecked > CHECK_EVERY_BYTES:
            self._unchecked = 0
            self._check_buffers()
        self._check_open()

    def _check_buffers(self) -> None:
        if self.muxer is None:
            return
        buffered = sum(map(len, self.muxer.stream_buffers.values()))
        if buffered > BUFFERED_BYTES_MAX:
            raise FrameFaultError(Misbehaviour.WINDOW_OVERRUN, f"{buffered} bytes unread")
        self._budget.note(self.muxer, buffered)

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
    """libp2p's Yamux behind a `YamuxGuard`, with a ping every `KEEPALIVE_S` instead of 30 s.

    Nobody waits for the pong: the task that watches the connection counts the silence.
    """

    def __init__(self, guard: YamuxGuard, peer: ID) -> None:
        secured: ISecureConn = guard  # type: ignore[assignment]
        super().__init__(secured, peer, is_initiator=guard.is_initiator)
        self._guard = guard
        guard.muxer = self

    async def _write_frame(self, data: bytes) -> None:
        # Data waits before it takes the lock, so that pings and resets need not wait for it.
        if data[1] == stock.TYPE_DATA:
            await self._guard.room()
        async with self._write_lock:
            await self._guard.write(data)

    async def _measure_rtt_loop(self) -> None:
        while not self.event_shutting_down.is_set():
            self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
            self._ping_sent_time = trio.current_time()
            ping = struct.pack(
                stock.YAMUX_HEADER_FORMAT, 0, stock.TYPE_PING, stock.FLAG_SYN, 0, self._ping_id
            )
            try:
                await self._write_frame(ping)
            except (IOException, RawConnError):
                return
            await trio.sleep(KEEPALIVE_S)
