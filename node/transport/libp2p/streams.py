"""Byte streams under and over the multiplexer, and the agreement on a protocol."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import suppress
from typing import Final, Protocol, cast

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError, IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from unchained.node.transport.libp2p.pace import WORK_PER_PROPOSAL, Pace

LINE_BYTES_MAX: Final = 1024
"""Bytes of a protocol name that are read."""
PROPOSALS_MAX: Final = 8
"""Protocols that are heard while a link is made."""
STREAM_PROPOSALS_MAX: Final = 3
"""Protocols that are heard on a stream: who opens one knows what it wants."""
SHOWN_PROTOCOLS_MAX: Final = 4
SHOWN_CHARS_MAX: Final = 40
CHUNK_BYTES: Final = 1 << 16
READ_AHEAD_BYTES: Final = 4 << 10
"""Bytes of a stream that are read at once where fewer are asked for."""
SOCKET_UNSENT_BYTES_MAX: Final = 256 << 10
"""Bytes that wait for the socket before writers are made to wait."""
MULTISTREAM: Final = "/multistream/1.0.0"


class StreamBrokenError(Exception):
    """The other side closed or reset the stream, or the connection is gone."""


class StreamFaultError(Exception):
    """The other side sent what it must not."""


class ProtocolNotServedError(Exception):
    """One side does not know the protocols that the other one asked for."""

    def __init__(self, *protocols: str) -> None:
        self.protocols = protocols
        super().__init__(self.shown)

    @property
    def shown(self) -> str:
        """The protocols, as much of them as may be shown."""
        fit = (name[:SHOWN_CHARS_MAX] for name in self.protocols[:SHOWN_PROTOCOLS_MAX])
        return ", ".join(name if name and name.isprintable() else repr(name) for name in fit)


class Bytes(Protocol):
    """What can be negotiated over."""

    async def read(self, n: int) -> bytes:
        """Return exactly `n` bytes, or raise."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`."""


class TcpStream(ReadWriteCloser):
    """A socket as libp2p wants it, without two faults of its own `TrioTCPStream`.

    Fault 10: libp2p's `read_exactly` gives up after 101 reads; here `read` returns all that was
    asked for. Writes there can be cut short by a cancellation, which breaks the encryption for
    good; here `write` only queues, all or nothing, and `flush` sends. It can go when libp2p
    reads until done and its writes survive cancelling.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.received = 0
        """Bytes, since the start."""
        self.sent = 0
        self._stream = stream
        self._in = bytearray()
        self._out = bytearray()
        self._waiting = trio.Event()
        self._emptied = trio.Event()
        self._sent = trio.Event()
        self._heard = trio.Event()
        self._is_sending = False
        self._closed = False

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly `n` bytes, or what is there; raises libp2p's ConnectionClosedError at the
        end."""
        wanted = 1 if n is None else n
        while len(self._in) < wanted:
            try:
                data = await self._stream.receive_some(max(CHUNK_BYTES, wanted - len(self._in)))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise ConnectionClosedError("the connection is closed", transport="tcp")
            self.received += len(data)
            self._heard.set()
            if n is None:
                return bytes(data)
            self._in += data
        taken = len(self._in) if n is None else n
        result = bytes(memoryview(self._in)[:taken])
        del self._in[:taken]
        return result

    async def begun(self) -> None:
        """Wait for the first byte, which stays to be read; raises as `read` does. Nobody else may
        read meanwhile."""
        self._in += await self.read()

    async def hear(self, beyond: int) -> None:
        """Wait until somebody has read more than so many bytes of the socket."""
        while self.received <= beyond:
            self._heard = trio.Event()
            await self._heard.wait()

    async def write(self, data: bytes) -> None:
        """Queue bytes, without a checkpoint: a frame is queued whole or not at all."""
        if self._closed:
            raise ConnectionClosedError("the connection is closed", transport="tcp")
        self._out += data
        self._waiting.set()

    async def room(self) -> None:
        """Wait until few enough bytes wait to be sent."""
        while len(self._out) >= SOCKET_UNSENT_BYTES_MAX and not self._closed:
            await self._emptied.wait()

    async def drain(self) -> None:
        """Wait until what is queued has been sent, or cannot be."""
        while (self._out or self._is_sending) and not self._closed:
            await self._sent.wait()

    async def flush(self) -> None:
        """Send what is queued, until the socket breaks. Cancelling it ends the connection."""
        try:
            while True:
                await self._waiting.wait()
                self._waiting = trio.Event()
                data, self._out = self._out, bytearray()
                emptied, self._emptied = self._emptied, trio.Event()
                emptied.set()
                if data:
                    self._is_sending = True
                    await self._stream.send_all(data)
                    self._is_sending = False
                    self.sent += len(data)
                sent, self._sent = self._sent, trio.Event()
                sent.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._closed = True
            self._emptied.set()
            self._sent.set()

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._out)

    def abort(self) -> None:
        """Close the socket at once; a task that waits for it goes on."""
        self._closed = True
        self._emptied.set()
        self._sent.set()
        self._stream.socket.close()

    async def close(self) -> None:
        """Close the socket at once."""
        self.abort()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return nothing: the address was taken from the socket when it was accepted."""
        return None


class WindowedConn(Protocol):
    """A multiplexer that knows when a stream may send."""

    async def wait_for_window(self, stream: YamuxStream) -> int:
        """Return how many bytes of a stream may be sent, once some may; also when it has ended.

        Raises MuxedStreamError where the other side gives no window for long."""


class MuxedStream:
    """A multiplexed stream with exact reads through a buffer.

    libp2p reads lengths byte by byte, each with a window update; here a read takes what is there.
    """

    def __init__(self, stream: YamuxStream) -> None:
        self._stream = stream
        self._in = bytearray()

    @property
    def buffered(self) -> int:
        """Bytes that are here to be read."""
        return len(self._in)

    async def read(self, n: int) -> bytes:
        """Return exactly `n` bytes; raises `StreamBrokenError`."""
        while len(self._in) < n:
            self._in += await self._some(max(READ_AHEAD_BYTES, n - len(self._in)))
        result = bytes(memoryview(self._in)[:n])
        del self._in[:n]
        return result

    async def ended(self) -> bool:
        """Wait for the other side to send more (False), or to close or reset (True)."""
        if self._in:
            return False
        try:
            self._in += await self._some(READ_AHEAD_BYTES)
        except StreamBrokenError:
            return True
        return False

    async def abandoned(self) -> None:
        """Wait for the other side to reset the stream, or to send what nobody asked for. An end of
        its half alone means that it waits for ours."""
        if not await self.ended():
            return
        stream, events = self._stream, self._stream.conn.stream_events
        while stream.stream_id in events and not stream.reset_received:
            # What ended the read stays set; a reset sets whatever event is there.
            event = events[stream.stream_id] = trio.Event()
            await event.wait()

    async def write(self, data: bytes) -> None:
        """Send all of `data`; one task at a time. Raises `StreamBrokenError`.

        A stream whose write was cancelled is good for nothing but `reset`."""
        conn = cast(WindowedConn, self._stream.conn)
        at = 0
        try:
            while at < len(data):
                window = await conn.wait_for_window(self._stream)
                await self._stream.write(data[at : at + window])
                at += window
        except (MuxedStreamError, IOException, RawConnError) as error:
            raise StreamBrokenError(str(error)) from None

    async def close(self) -> None:
        """End our side."""
        with suppress(MuxedStreamError, IOException, RawConnError):
            await self._stream.close()

    async def reset(self) -> None:
        """End both sides at once, even when cancelled."""
        errors = (MuxedStreamError, IOException, RawConnError)
        with trio.CancelScope(shield=True), suppress(*errors):
            await self._stream.reset()

    async def _some(self, n: int) -> bytes:
        try:
            return await self._stream.read(n)
        except (MuxedStreamError, IOException, RawConnError) as error:
            raise StreamBrokenError(str(error)) from None


async def read_varint(stream: Bytes, most: int) -> int:
    """Read a length; raises `StreamFaultError` above `most`."""
    value = shift = 0
    while True:
        byte = (await stream.read(1))[0]
        value |= (byte & 0x7F) << shift
        if value > most or shift > 28:
            raise StreamFaultError(f"a length above {most}")
        if byte < 0x80:
            return value
        shift += 7


def varint(value: int) -> bytes:
    """Encode a length."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


async def propose(stream: Bytes, protocol: str, first: bytes = b"") -> None:
    """Agree on a protocol as the side that opened; raises `ProtocolNotServedError`,
    `StreamFaultError`.

    `first` is sent along, so that the peer that serves the protocol need not wait for it."""
    await stream.write(_line(MULTISTREAM) + _line(protocol) + first)
    if await _read_line(stream) != MULTISTREAM:
        raise StreamFaultError("no multistream-select")
    await _read_consent(stream, protocol)


async def propose_one_of(stream: Bytes, protocols: Sequence[str]) -> str:
    """Agree on the first of some protocols that the other side serves, and return it; raises as
    `propose` does."""
    first, *others = protocols
    try:
        await propose(stream, first)
        return first
    except ProtocolNotServedError:
        for protocol in others:
            await stream.write(_line(protocol))
            with suppress(ProtocolNotServedError):
                await _read_consent(stream, protocol)
                return protocol
        raise


async def _read_consent(stream: Bytes, protocol: str) -> None:
    answer = await _read_line(stream)
    if answer == "na":
        raise ProtocolNotServedError(protocol)
    if answer != protocol:
        raise StreamFaultError("an answer to something else")


async def agree(stream: Bytes, served: Container[str]) -> str:
    """Agree on a protocol as the side that accepted a connection; raises `ProtocolNotServedError`,
    `StreamFaultError`."""
    await _read_greeting(stream)
    # Some wait for it before they propose anything.
    await stream.write(_line(MULTISTREAM))
    return await _hear(stream, served, b"", PROPOSALS_MAX)


async def agree_on_stream(stream: MuxedStream, served: Container[str], pace: Pace) -> str:
    """Agree on a protocol as the side that accepted a stream, every proposal charged; raises
    `ProtocolNotServedError`, `StreamFaultError`, `StreamBrokenError`."""
    await _read_greeting(stream)
    greeting = _line(MULTISTREAM)
    if not stream.buffered:
        await stream.write(greeting)
        greeting = b""
    return await _hear(stream, served, greeting, STREAM_PROPOSALS_MAX, pace)


async def _read_greeting(stream: Bytes) -> None:
    if await _read_line(stream) != MULTISTREAM:
        raise StreamFaultError("no multistream-select")


async def _hear(
    stream: Bytes, served: Container[str], greeting: bytes, most: int, pace: Pace | None = None
) -> str:
    """Answer at most so many proposals, `greeting` before the first answer."""
    asked: list[str] = []
    while len(asked) < most:
        try:
            name = await _read_line(stream)
        except (StreamFaultError, StreamBrokenError, IOException):
            if not asked:
                raise
            break  # What was sent along with the proposal, or the other side gives up.
        asked.append(name)
        if pace is not None:
            await pace.spend(WORK_PER_PROPOSAL)
        if name in served:
            await stream.write(greeting + _line(name))
            return name
        await stream.write(greeting + _line("na"))
        greeting = b""
    raise ProtocolNotServedError(*asked)


def _line(text: str) -> bytes:
    data = text.encode() + b"\n"
    return varint(len(data)) + data


async def _read_line(stream: Bytes) -> str:
    data = await stream.read(await read_varint(stream, LINE_BYTES_MAX))
    if data[-1:] != b"\n" or b"\n" in data[:-1] or not data.isascii():
        raise StreamFaultError("not one line")
    return data[:-1].decode()
