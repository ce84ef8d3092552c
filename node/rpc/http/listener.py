"""HTTP/1.1 for an ASGI application: Hypercorn's protocol on Trio streams, bounded on all sides.

Hypercorn's own Trio server has no limit on connections, waits without end for a client that does
not read, and lets one connection's failure end them all. So its protocol is driven from here:
each connection is one task tree with deadlines, at most `connections` of them live at once, and
what goes wrong in one stays in it. HTTP/2 and web sockets are not spoken.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, cast

import h11
import msgspec
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    Scope,
)
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from unchained.node.rpc.core.dispatcher import frames

OWN_SOCKET: Final = "unchained.own_socket"
"""In the state of requests that came by the socket that the node's owner alone can open."""

CONNECTION: Final = "unchained.connection"
"""In the state of every request: its connection, for the gate to say who has come by it."""

_PIECE: Final = 64 * 1024
_APP_QUEUE: Final = 10
_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 8 * 1024 * 1024
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds on connections and their pace. Times are in seconds."""

    connections: int = 64
    own_connections: int = 16
    """By the owner's socket: places of their own."""
    unsent_bytes: int = 64 * 1024 * 1024
    """Of answers that clients have not taken yet, all connections together."""
    header_bytes: int = 16 * 1024
    header_seconds: float = 10.0
    """From the connection, or from the answer before, until a request's header is there."""
    body_seconds: float = 20.0
    """From a request's header until the end of its body."""
    write_seconds: float = 10.0
    """For a client to take 64 KiB."""
    stop_seconds: float = 1.0
    """For requests under way to be answered once the server stops."""


class ListenerStatistics(msgspec.Struct, frozen=True, gc=False):
    """Connections open now, and since the start: taken, evicted while they waited for their
    client, turned away. `unsent_bytes` are of answers that clients have not taken yet."""

    connections: int
    accepted: int
    evicted: int
    turned_away: int
    unsent_bytes: int


class Listener:
    """Serves one ASGI application over HTTP/1.1. The application sees no lifespan events."""

    def __init__(self, app: ASGIApp, *, limits: HttpLimits, log: FilteringBoundLogger) -> None:
        self._app = ASGIWrapper(cast(ASGIFramework, app))
        self._limits = limits
        self._log = log
        self._config = _silent_config(limits)
        self._open: dict[_Connection, None] = {}
        self._open_own: dict[_Connection, None] = {}
        self._accepted = 0
        self._evicted = 0
        self._turned_away = 0

    def statistics(self) -> ListenerStatistics:
        """Return a snapshot."""
        every = [*self._open, *self._open_own]
        unsent = sum(one.unsent for one in every)
        return ListenerStatistics(
            len(every), self._accepted, self._evicted, self._turned_away, unsent
        )

    async def serve(
        self,
        sockets: list[trio.SocketListener],
        *,
        tls: ssl.SSLContext | None = None,
        own: trio.SocketListener | None = None,
    ) -> None:
        """Serve until cancelled. Requests under way then have `stop_seconds` to be answered, so
        that the call that stops the node is; those that wait for something end at once.

        tls: what connections are encrypted by. own: a Unix socket that the node's owner alone can
        open; requests that come by it have `OWN_SOCKET` in their state.
        """
        listeners = sockets if own is None else [*sockets, own]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, partial(self._take, tls=tls), sockets, nursery)
                if own is not None:
                    take = partial(self._take, is_own=True)
                    nursery.start_soon(self._serve, take, [own], nursery)
        finally:
            for listener in listeners:
                listener.socket.close()

    @staticmethod
    async def _serve(
        take: Callable[[trio.SocketStream], Awaitable[None]],
        sockets: list[trio.SocketListener],
        nursery: trio.Nursery,
    ) -> None:
        await trio.serve_listeners(take, sockets, handler_nursery=nursery)

    async def _take(
        self,
        stream: trio.SocketStream,
        *,
        tls: ssl.SSLContext | None = None,
        is_own: bool = False,
    ) -> None:
        opened = self._open_own if is_own else self._open
        try:
            if not self._make_room(
                opened, self._limits.own_connections if is_own else self._limits.connections
            ):
                self._turned_away += 1
                self._log.warning("rpc.turned_away", connections=len(opened))
                with trio.move_on_after(1):
                    await stream.send_all(_FULL)
                return
            self._accepted += 1
            connection = _Connection(
                stream,
                self._app,
                self._config,
                self._limits,
                self._log,
                tls,
                is_own,
                self,
            )
            opened[connection] = None
            try:
                await connection.run()
            finally:
                opened.pop(connection, None)
        except OSError:
            return
        except trio.BrokenResourceError:
            return
        finally:
            stream.socket.close()

    def _make_room(self, opened: dict[_Connection, None], most: int) -> bool:
        """Return whether one more fits, if need be by evicting one that waits for its client: for a
        request, for the rest of one, or for an answer to be taken."""
        if len(opened) < most:
            return True
        evicted = self._evict(one for one in opened if one.waits_since < math.inf)
        if evicted is not None:
            del opened[evicted]
        return evicted is not None

    def bound_unsent(self) -> None:
        """Evict who has not taken his answers until what is held for all of them fits."""
        every = [*self._open, *self._open_own]
        unsent = sum(one.unsent for one in every)
        while unsent > self._limits.unsent_bytes:
            evicted = self._evict(one for one in every if one.unsent)
            if evicted is None:
                return
            unsent -= evicted.unsent
            evicted.unsent = 0

    def _evict(self, waiting: Iterable[_Connection]) -> _Connection | None:
        """End the connection that its client has kept waiting longest, of those whose credentials
        give least, and return it; None if there is none."""
        found = min(waiting, key=lambda one: (one.trust, one.waits_since), default=None)
        if found is not None:
            found.abort()
            self._evicted += 1
        return found


class _Http1(H11Protocol):
    """Hypercorn's HTTP/1.1 without the ways out of it: no upgrade to HTTP/2 or a web socket."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Ignore what the request wants to upgrade to, as RFC 9110 §7.8 allows."""

    async def _create_stream(self, request: h11.Request) -> None:
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        self.keep_alive_requests += 1
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )


class _Connection:
    """One client's connection; Hypercorn's task group for it."""

    def __init__(
        self,
        stream: trio.SocketStream,
        app: AppWrapper,
        config: Config,
        limits: HttpLimits,
        log: FilteringBoundLogger,
        tls: ssl.SSLContext | None,
        is_own: bool,
        listener: Listener,
    ) -> None:
        self.idle_since = trio.current_time()
        """Since when no request is under way, on Trio's clock; infinite while one is."""
        self.body_since = math.inf
        """Since when a request has its header but not all of its body; else infinite."""
        self.blocked_since = math.inf
        """Since when a piece of an answer waits for the client to take it; else infinite."""
        self.unsent = 0
        """Bytes of the answer that is being sent."""
        self.trust = 0
        """What the credentials of the last request give, more being kept longer."""
        self._listener = listener
        self._plain = stream
        # The handshake is made by the first read, and so within the time for a request's header.
        self._stream: trio.abc.Stream = (
            stream
            if tls is None
            else trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        )
        self._limits = limits
        self._log = log
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._deadline = self.idle_since + limits.header_seconds
        self._ending = False
        self._sending = trio.Lock()
        self._tasks: trio.Nursery
        self._requests: dict[trio.CancelScope, trio.MemorySendChannel[ASGIReceiveEvent]] = {}
        self._protocol = _Http1(
            app,
            config,
            WorkerContext(None),
            self,
            ConnectionState({CONNECTION: self} | ({OWN_SOCKET: True} if is_own else {})),
            tls is not None,
            _address(stream.socket.getpeername()),
            _address(stream.socket.getsockname()),
            self._handle,
        )

    @property
    def waits_since(self) -> float:
        """Since when the client owes something: a request, the rest of one, or to take what was
        sent; else infinite."""
        return min(self.idle_since, self.body_since, self.blocked_since)

    def abort(self) -> None:
        """End the connection and whatever it runs, at once."""
        self._scope.cancel()
        for request in self._requests:
            request.cancel()

    async def run(self) -> None:
        """Serve requests until either side ends the connection."""
        with self._scope:
            async with trio.open_nursery() as watch:
                watch.start_soon(self._wind_up)
                async with trio.open_nursery() as self._tasks:
                    try:
                        await self._read()
                    except Exception as error:  # noqa: BLE001 - stays in this connection
                        self._failed(error)
                watch.cancel_scope.cancel()

    async def _wind_up(self) -> None:
        """Once cancelled, end the requests that wait, and bound those that run."""
        try:
            await trio.sleep_forever()
        finally:
            deadline = trio.current_time() + self._limits.stop_seconds
            for request, give in self._requests.items():
                request.deadline = min(request.deadline, deadline)
                with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                    give.send_nowait({"type": "http.disconnect"})

    async def _read(self) -> None:
        lingered = 0
        while True:
            data = b""
            with trio.CancelScope(deadline=self._deadline) as self._reading:
                try:
                    data = bytes(await self._stream.receive_some(_PIECE))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.abort()
            if self._ending:
                lingered += len(data)
                if not data or lingered > _LINGER_BYTES:
                    return
                continue
            if self._reading.cancelled_caught:
                break
            await self._protocol.handle(RawData(data))
            if not data:
                break
        await self._protocol.handle(Closed())

    async def _handle(self, event: Event) -> None:
        """Carry out what the protocol wants: send, end, or note that a request began or ended."""
        if isinstance(event, RawData):
            if event.data:
                await self._send(event.data)
        elif isinstance(event, Closed):
            await self._end()
        elif isinstance(event, Updated):
            now = trio.current_time()
            self.idle_since = now if event.idle else math.inf
            if event.idle:
                self.body_since = math.inf
            self._set_deadline(now + self._limits.header_seconds if event.idle else math.inf)

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        async with self._sending:
            if self._ending:
                return None
            self.unsent = len(view)
            try:
                for start in range(0, len(view), _PIECE):
                    self.blocked_since = trio.current_time()
                    if start == 0:
                        self._listener.bound_unsent()
                    with trio.fail_after(self._limits.write_seconds):
                        await self._stream.send_all(view[start : start + _PIECE])
            except trio.TooSlowError:
                self._log.info("rpc.slow_client")
                return self.abort()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return self.abort()
            finally:
                self.blocked_since = math.inf
                self.unsent = 0
        return None

    async def _end(self) -> None:
        """Say that nothing more is sent, and read on for a moment: to close on unread bytes
        would reset the connection before the client has seen its answer."""
        if self._ending:
            return
        self._ending = True
        self.idle_since = trio.current_time()
        self._set_deadline(self.idle_since + _LINGER_SECONDS)
        try:
            async with self._sending:
                await self._plain.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.abort()

    def _set_deadline(self, deadline: float) -> None:
        self._deadline = self._reading.deadline = deadline

    def _failed(self, error: Exception) -> None:
        self._log.error("rpc.connection_failed", error=type(error).__name__, where=frames(error))
        self.abort()

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application on a request; return how to hand it the body."""
        give, take = trio.open_memory_channel[ASGIReceiveEvent](_APP_QUEUE)

        async def run() -> None:
            try:
                with trio.CancelScope(shield=True) as request:
                    self._requests[request] = give
                    try:
                        with give, take:
                            await app(
                                scope,
                                take.receive,
                                send,
                                trio.to_thread.run_sync,
                                trio.from_thread.run,
                            )
                        await send(None)
                    finally:
                        del self._requests[request]
            except Exception as error:  # noqa: BLE001 - stays in this connection
                self._failed(error)

        self.body_since = trio.current_time()

        async def put(event: ASGIReceiveEvent) -> None:
            if event["type"] != "http.request" or not event.get("more_body"):
                self.body_since = math.inf
            try:
                await give.send(event)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

        self._tasks.start_soon(run)
        return put

    def spawn(self, func: Callable[..., Any], *args: Any) -> None:
        """Start a task of Hypercorn's in this connection."""
        self._tasks.start_soon(func, *args)

    async def __aenter__(self) -> _Connection:
        return self

    async def __aexit__(self, exc_type: type, exc_value: BaseException, tb: TracebackType) -> None:
        return None


def _address(name: Any) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None


def _silent_config(limits: HttpLimits) -> Config:
    """Return Hypercorn's settings; what it would log is logged by this package instead."""
    logger = logging.Logger("unchained.silent", logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())
    config = Config()
    config.errorlog = logger
    config.accesslog = None
    config.h11_max_incomplete_size = limits.header_bytes
    config.include_server_header = False
    return config
