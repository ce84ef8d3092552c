"""Bytes between two sides in memory, as `TcpStream` takes and gives them."""

from __future__ import annotations

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError


class MemoryWire(ReadWriteCloser):
    """One end; what is written is there for the other end at once."""

    def __init__(self) -> None:
        self.peer: MemoryWire | None = None
        self.sent = 0
        """Bytes written at this end."""
        self.flights: list[MemoryWire] = []
        """Who wrote in turn, shared by both ends."""
        self._parts: list[bytes] = []
        self._arrived_bytes = 0
        self._arrived = trio.Event()
        self._is_closed = False

    async def drain(self) -> None:
        pass

    async def read(self, n: int | None = None) -> bytes:
        wanted = 1 if n is None else n
        while self._arrived_bytes < wanted:
            if self._is_closed:
                raise ConnectionClosedError("the connection is closed")
            self._arrived = trio.Event()
            await self._arrived.wait()
        # What comes whole is given whole: copies are not what is measured over it.
        data = b"".join(self._parts)
        taken = len(data) if n is None else n
        self._parts = [data[taken:]]
        self._arrived_bytes -= taken
        return data[:taken]

    async def write(self, data: bytes) -> None:
        assert self.peer is not None
        if not self.flights or self.flights[-1] is not self:
            self.flights.append(self)
        self.sent += len(data)
        self.peer._take(data)

    def _take(self, data: bytes) -> None:
        self._parts.append(data)
        self._arrived_bytes += len(data)
        self._arrived.set()

    async def close(self) -> None:
        for end in (self, self.peer):
            assert end is not None
            end._is_closed = True
            end._arrived.set()

    def get_remote_address(self) -> None:
        return None


def wires() -> tuple[MemoryWire, MemoryWire]:
    """Return the two ends of a connection."""
    one, other = MemoryWire(), MemoryWire()
    one.peer, other.peer = other, one
    other.flights = one.flights
    return one, other
