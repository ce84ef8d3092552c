"""A small client of a node's RPC under Trio, alike to the blocking `Client`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from itertools import count
from typing import Any, TypeVar, overload

import h11
import trio

from unchained.node.rpc.client.calls import (
    ANSWER_BYTES_MAX,
    PIECE_BYTES,
    EventParser,
    LogEvent,
    Params,
    batch_of,
    events_path,
    expect_events,
    refusal_in,
    request_of,
)
from unchained.node.rpc.client.endpoint import (
    Endpoint,
    NodeNotRunningError,
    NodeTimedOutError,
    UnreachableError,
    is_refusal,
    late,
    unreachable,
)

T = TypeVar("T")


class TrioClient:
    """Calls a node under Trio. It holds no connection."""

    def __init__(self, endpoint: Endpoint, *, timeout: float = 60.0) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._ids = count(1)

    @overload
    async def call(
        self, method: str, params: Params = ..., *, seconds: float | None = ...
    ) -> Any: ...
    @overload
    async def call(
        self, method: str, params: Params = ..., *, into: type[T], seconds: float | None = ...
    ) -> T: ...
    async def call(
        self,
        method: str,
        params: Params = (),
        *,
        into: Any = Any,
        seconds: float | None = None,
    ) -> Any:
        """Return the result of `method`, as a value of the type `into`.

        seconds: how long to wait, instead of the client's timeout. Raises RpcError for what the
        node refused, ClientError where it was not reached. Cancelled, it leaves open whether
        the node acted.
        """
        body, read = request_of(next(self._ids), method, params, into)
        return read(await self._post(body, seconds or self._timeout))

    async def batch(self, calls: Iterable[tuple[str, Params]]) -> list[Any]:
        """Return the results of several calls, run in order; an RpcError stands in for the
        result of one that failed. Raises ClientError, and RpcError if the batch was refused."""
        body, read = batch_of(self._ids, calls)
        return read(await self._post(body, self._timeout))

    @asynccontextmanager
    async def events(
        self, since: int | None = None, *, wallet: str | None = None
    ) -> AsyncIterator[AsyncIterator[LogEvent]]:
        """Follow the log, or that of a wallet, after `since` (None: from now on) until the node or
        the caller ends it.

        Raises NotFoundError: with the word EVENTS_GONE if the log begins later, or
        has never come so far.
        """
        with trio.move_on_after(self._timeout) as opening:
            exchange = await _Exchange.open(self._endpoint, "GET", events_path(since, wallet), None)
        if opening.cancelled_caught:
            raise NodeTimedOutError(late(self._timeout))
        async with exchange.stream:
            if exchange.status != 200:
                raise refusal_in(await exchange.whole())
            expect_events(exchange.content_type)
            async with aclosing(self._follow(exchange)) as entries:
                yield entries

    async def _follow(self, exchange: _Exchange) -> AsyncGenerator[LogEvent, None]:
        parser = EventParser()
        while True:
            with trio.move_on_after(self._timeout) as waiting:
                data = await exchange.some()
            if waiting.cancelled_caught:
                raise NodeTimedOutError(late(self._timeout))
            if not data:
                return
            for event in parser.feed(data):
                yield event

    async def _post(self, body: bytes, seconds: float) -> bytes:
        with trio.move_on_after(seconds):
            exchange = await _Exchange.open(self._endpoint, "POST", "/rpc", body)
            async with exchange.stream:
                return await exchange.whole()
        raise NodeTimedOutError(late(seconds))


async def _stream(end: Endpoint) -> trio.abc.Stream:
    """Connect. Raises OSError, UnreachableError."""
    if end.socket is not None:
        return await trio.open_unix_socket(end.socket)
    if end.secure:
        stream = await trio.open_ssl_over_tcp_stream(
            end.host, end.port, ssl_context=end.tls(), https_compatible=True
        )
        try:
            # here, so that what is wrong with a certificate is not taken for a closed connection
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream
    return await trio.open_tcp_stream(end.host, end.port)


class _Exchange:
    """One request, sent, and its answer, being read."""

    def __init__(self, stream: trio.abc.Stream, endpoint: Endpoint) -> None:
        self.stream = stream
        self.status = 0
        self.content_type = ""
        self._endpoint = endpoint
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, end: Endpoint, verb: str, path: str, body: bytes | None) -> _Exchange:
        """Connect, send, and return once the status of the answer is known."""
        try:
            stream = await _stream(end)
        except OSError as error:
            if is_refusal(error):
                raise NodeNotRunningError from None
            raise unreachable(end, error) from None
        except trio.BrokenResourceError as error:
            raise unreachable(end, error) from None
        made = cls(stream, end)
        try:
            headers = end.headers(None if body is None else len(body))
            head = made._http.send(
                h11.Request(method=verb, target=path, headers=[*headers.items()])
            )
            data = made._http.send(h11.Data(body)) if body else b""
            end_mark = made._http.send(h11.EndOfMessage())
            await made._send((head or b"") + (data or b"") + (end_mark or b""))
            event = await made._next()
            if not isinstance(event, h11.Response):
                raise unreachable(end, None)
            made.status = event.status_code
            made.content_type = dict(event.headers).get(b"content-type", b"").decode("latin-1")
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return made

    async def some(self) -> bytes:
        """Return the next bytes of the answer's body; nothing at its end."""
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def whole(self) -> bytes:
        """Return what is left of the answer's body."""
        body = bytearray()
        while data := await self.some():
            body += data
            if len(body) > ANSWER_BYTES_MAX:
                raise UnreachableError(f"the answer is above {ANSWER_BYTES_MAX} bytes")
        return bytes(body)

    async def _send(self, data: bytes) -> None:
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            # A server that refuses a request early has answered before it closed.
            return

    async def _next(self) -> Any:
        try:
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._http.receive_data(bytes(await self.stream.receive_some(PIECE_BYTES)))
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise unreachable(self._endpoint, error) from None
