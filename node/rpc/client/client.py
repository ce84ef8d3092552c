"""A small client of a node's RPC: `Client` blocks, `TrioClient` does not; both are alike.

Errors of the node come back as the classes of `unchained.node.rpc.core.errors`. Each call opens its
own connection: a request is never sent twice, so that nothing is ever paid twice.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from itertools import count
from typing import Any, Final, TypeVar, overload

import h11
import msgspec
import trio

from unchained.node.rpc.client.endpoint import (
    ClientError,
    Endpoint,
    NodeNotRunningError,
    NodeTimedOutError,
    UnreachableError,
    is_refusal,
    late,
    unreachable,
)
from unchained.node.rpc.core.errors import RpcError, from_wire, short
from unchained.node.rpc.core.values import decode, encode

__all__ = [
    "Client",
    "ClientError",
    "Endpoint",
    "EventParser",
    "LogEvent",
    "NodeNotRunningError",
    "NodeTimedOutError",
    "TrioClient",
    "UnreachableError",
]

T = TypeVar("T")
Params = Mapping[str, object] | Sequence[object]

_MAX_ANSWER: Final = 64 * 1024 * 1024
_MAX_LINE: Final = 1024 * 1024
_PIECE: Final = 64 * 1024


class LogEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of the node's log, `data` as plain JSON."""

    sequence: int
    kind: str
    data: Any


class Client:
    """Calls a node and waits for it. It holds no connection."""

    def __init__(self, endpoint: Endpoint, *, timeout: float = 60.0) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._ids = count(1)

    @overload
    def call(self, method: str, params: Params = ..., *, seconds: float | None = ...) -> Any: ...
    @overload
    def call(
        self, method: str, params: Params = ..., *, into: type[T], seconds: float | None = ...
    ) -> T: ...
    def call(
        self,
        method: str,
        params: Params = (),
        *,
        into: Any = Any,
        seconds: float | None = None,
    ) -> Any:
        """Return the result of `method`, as a value of the type `into`.

        seconds: how long to wait, instead of the client's timeout. Raises RpcError for what the
        node refused, ClientError where it was not reached.
        """
        body, read = _request(next(self._ids), method, params, into)
        with self._send("POST", "/rpc", body, seconds or self._timeout) as answer:
            return read(self._whole(answer))

    def batch(self, calls: Iterable[tuple[str, Params]]) -> list[Any]:
        """Return the results of several calls, run in order; an RpcError stands in for the
        result of one that failed. Raises ClientError, and RpcError if the batch was refused."""
        body, read = _batch(self._ids, calls)
        with self._send("POST", "/rpc", body, self._timeout) as answer:
            return read(self._whole(answer))

    @contextmanager
    def events(self, since: int | None = None) -> Iterator[Iterator[LogEvent]]:
        """Follow the log after `since` (None: from now on) until the node or the caller ends it.

        Raises NotFoundError with the word EVENTS_GONE if the log begins later.
        """
        with self._send("GET", _events_path(since), None, self._timeout) as answer:
            if answer.status != 200:
                raise _refused(self._whole(answer))
            _expect_events(answer.headers.get("content-type"))
            yield self._follow(answer)

    def _follow(self, answer: http.client.HTTPResponse) -> Iterator[LogEvent]:
        parser = EventParser()
        while True:
            with self._reported(self._timeout):
                data = answer.read1(_PIECE)
            if not data:
                return
            yield from parser.feed(data)

    @contextmanager
    def _send(
        self, verb: str, path: str, body: bytes | None, seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        end = self._endpoint
        kind = http.client.HTTPSConnection if end.secure else http.client.HTTPConnection
        with closing(kind(end.host, end.port, timeout=seconds)) as connection:
            with self._reported(seconds):
                connection.request(
                    verb, path, body, end.headers(None if body is None else len(body))
                )
                answer = connection.getresponse()
            with answer:
                yield answer

    def _whole(self, answer: http.client.HTTPResponse) -> bytes:
        with self._reported(self._timeout):
            body = answer.read(_MAX_ANSWER + 1)
        if len(body) > _MAX_ANSWER:
            raise UnreachableError(f"the answer is above {_MAX_ANSWER} bytes")
        return body

    @contextmanager
    def _reported(self, seconds: float) -> Iterator[None]:
        """Turn what the network raises into words for a person."""
        try:
            yield
        except ConnectionRefusedError:
            raise NodeNotRunningError from None
        except TimeoutError:
            raise NodeTimedOutError(late(seconds)) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self._endpoint, error) from None


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
        body, read = _request(next(self._ids), method, params, into)
        return read(await self._post(body, seconds or self._timeout))

    async def batch(self, calls: Iterable[tuple[str, Params]]) -> list[Any]:
        """Return the results of several calls, run in order; an RpcError stands in for the
        result of one that failed. Raises ClientError, and RpcError if the batch was refused."""
        body, read = _batch(self._ids, calls)
        return read(await self._post(body, self._timeout))

    @asynccontextmanager
    async def events(self, since: int | None = None) -> AsyncIterator[AsyncIterator[LogEvent]]:
        """Follow the log after `since` (None: from now on) until the node or the caller ends it.

        Raises NotFoundError with the word EVENTS_GONE if the log begins later.
        """
        with trio.move_on_after(self._timeout) as opening:
            exchange = await _Exchange.open(self._endpoint, "GET", _events_path(since), None)
        if opening.cancelled_caught:
            raise NodeTimedOutError(late(self._timeout))
        async with exchange.stream:
            if exchange.status != 200:
                raise _refused(await exchange.whole())
            _expect_events(exchange.content_type)
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
            stream: trio.abc.Stream = (
                await trio.open_ssl_over_tcp_stream(
                    end.host, end.port, ssl_context=ssl.create_default_context()
                )
                if end.secure
                else await trio.open_tcp_stream(end.host, end.port)
            )
        except OSError as error:
            if is_refusal(error):
                raise NodeNotRunningError from None
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
            if len(body) > _MAX_ANSWER:
                raise UnreachableError(f"the answer is above {_MAX_ANSWER} bytes")
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
                self._http.receive_data(bytes(await self.stream.receive_some(_PIECE)))
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise unreachable(self._endpoint, error) from None


class EventParser:
    """Server-sent events from the bytes of a stream, in whatever pieces they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[LogEvent]:
        """Return the events that `data` completes. Raises UnreachableError for what is none."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > _MAX_LINE:
            raise UnreachableError(f"an event is above {_MAX_LINE} bytes")
        return [event for block in blocks if (event := self._read(block)) is not None]

    @staticmethod
    def _read(block: bytes) -> LogEvent | None:
        fields = {
            name: value.removeprefix(b" ")
            for name, _, value in (line.partition(b":") for line in block.split(b"\n"))
            if name
        }
        if not fields:
            return None
        try:
            sequence, kind, data = fields[b"id"], fields[b"event"], fields[b"data"]
            return LogEvent(int(sequence), kind.decode(), msgspec.json.decode(data))
        except (KeyError, ValueError):
            raise UnreachableError("the node sent an event that cannot be read") from None


def _request(
    identity: int, method: str, params: Params, into: Any
) -> tuple[bytes, Callable[[bytes], Any]]:
    """Return the body of a call, and what turns the answer's body into its result."""

    def read(answer: bytes) -> Any:
        reply = _json(answer)
        result = _result(reply)
        if isinstance(result, RpcError):
            raise result
        if reply.get("id") != identity:
            raise UnreachableError("the answer belongs to another call")
        try:
            return msgspec.convert(result, into, dec_hook=decode)
        except msgspec.ValidationError as error:
            raise UnreachableError(short(f"{method} gave another result: {error}")) from None

    return _encode(identity, method, params), read


def _batch(
    ids: Iterator[int], calls: Iterable[tuple[str, Params]]
) -> tuple[bytes, Callable[[bytes], list[Any]]]:
    bodies: dict[int, bytes] = {}
    for method, params in calls:
        identity = next(ids)
        bodies[identity] = _encode(identity, method, params)

    def read(answer: bytes) -> list[Any]:
        replies = _json(answer)
        if not isinstance(replies, list):
            raise _refused(answer)
        found = {reply["id"]: _result(reply) for reply in replies}
        if found.keys() != bodies.keys():
            raise UnreachableError("the answer belongs to another batch")
        return [found[identity] for identity in bodies]

    return b"[" + b",".join(bodies.values()) + b"]", read


def _encode(identity: int, method: str, params: Params) -> bytes:
    call = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
    return msgspec.json.encode(call, enc_hook=encode)


def _json(answer: bytes) -> Any:
    try:
        return msgspec.json.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise UnreachableError("the answer is no JSON: is this a node's RPC port?") from None


def _result(reply: Any) -> Any:
    """Return the result in a reply, or raise the error that it reports."""
    if isinstance(reply, dict):
        error = reply.get("error")
        if isinstance(error, dict):
            code, message = error.get("code"), error.get("message")
            if isinstance(code, int) and isinstance(message, str):
                return from_wire(code, message, error.get("data"))
        elif "result" in reply and "id" in reply:
            return reply["result"]
    raise UnreachableError("the answer is no JSON-RPC: is this a node's RPC port?")


def _refused(answer: bytes) -> Exception:
    error = _result(_json(answer))
    return error if isinstance(error, RpcError) else UnreachableError("the answer is no error")


def _expect_events(content_type: str | None) -> None:
    if content_type != "text/event-stream":
        raise UnreachableError("the answer is no stream of events: is this a node's RPC port?")


def _events_path(since: int | None) -> str:
    return "/events" if since is None else f"/events?since={since}"
