"""A small SOCKS5 server for tests: it takes any user name, and knows a few names of its own."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

VERSION, CONNECT = 5, 1
OK, REFUSED, UNREACHABLE = 0, 5, 4
IPV4, NAME, IPV6 = 1, 3, 4


@dataclass
class SocksServer:
    """`known` maps what is asked for to a port of this machine; all else is unreachable."""

    known: Mapping[tuple[str, int], int]
    port: int = 0
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """User, host and port of each request."""

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await self._serve(stream)
            except (trio.BrokenResourceError, EOFError):
                return

    async def _serve(self, stream: trio.SocketStream) -> None:
        version, count = await _read(stream, 2)
        methods = await _read(stream, count)
        assert version == VERSION
        assert 2 in methods, "circuits are kept apart by their user names"
        await stream.send_all(bytes((VERSION, 2)))
        _, size = await _read(stream, 2)
        user = (await _read(stream, size)).decode()
        (size,) = await _read(stream, 1)
        await _read(stream, size)
        await stream.send_all(b"\1\0")
        _, command, _, kind = await _read(stream, 4)
        assert command == CONNECT
        if kind == NAME:
            (size,) = await _read(stream, 1)
            host = (await _read(stream, size)).decode()
        else:
            host = str(ipaddress.ip_address(await _read(stream, 4 if kind == IPV4 else 16)))
        port = int.from_bytes(await _read(stream, 2), "big")
        self.asked.append((user, host, port))
        reply = partial(bytes.__add__, b"\5")
        place = self.known.get((host, port))
        if place is None:
            await stream.send_all(reply(bytes((UNREACHABLE, 0, IPV4, 0, 0, 0, 0, 0, 0))))
            return
        try:
            other = await trio.open_tcp_stream("127.0.0.1", place)
        except OSError:
            await stream.send_all(reply(bytes((REFUSED, 0, IPV4, 0, 0, 0, 0, 0, 0))))
            return
        await stream.send_all(reply(bytes((OK, 0, IPV4, 0, 0, 0, 0, 0, 0))))
        async with other, trio.open_nursery() as nursery:
            nursery.start_soon(_pump, stream, other, nursery.cancel_scope)
            nursery.start_soon(_pump, other, stream, nursery.cancel_scope)


async def _read(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


async def _pump(
    source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


@asynccontextmanager
async def socks_server(known: Mapping[tuple[str, int], int]) -> AsyncIterator[SocksServer]:
    """Run a server on a port of loopback."""
    server = SocksServer(known)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listeners[0].socket.getsockname()[1]
    assert listeners[0].socket.family == socket.AF_INET
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()
