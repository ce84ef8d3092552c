"""A small client of a node's RPC that blocks. `TrioClient` beside it is alike and does not.

Errors of the node come back as the classes of `unchained.node.rpc.core.errors`. Each call opens its
own connection: a request is never sent twice, so that nothing is ever paid twice. What a command
needs to ask one question is all that this module imports.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, overload

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
    ClientError,
    Endpoint,
    NodeNotRunningError,
    NodeTimedOutError,
    UnreachableError,
    late,
    unreachable,
)

__all__ = [
    "Client",
    "ClientError",
    "Endpoint",
    "EventParser",
    "LogEvent",
    "NodeNotRunningError",
    "NodeTimedOutError",
    "UnreachableError",
]

T = TypeVar("T")


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, host: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _connection(end: Endpoint, seconds: float) -> http.client.HTTPConnection:
    """Return a connection to be made. Raises UnreachableError."""
    if end.socket is not None:
        return _SocketConnection(end.socket, end.host, seconds)
    if end.secure:
        return http.client.HTTPSConnection(end.host, end.port, timeout=seconds, context=end.tls())
    return http.client.HTTPConnection(end.host, end.port, timeout=seconds)


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
        body, read = request_of(next(self._ids), method, params, into)
        with self._send("POST", "/rpc", body, seconds or self._timeout) as answer:
            return read(self._whole(answer))

    def batch(self, calls: Iterable[tuple[str, Params]]) -> list[Any]:
        """Return the results of several calls, run in order; an RpcError stands in for the
        result of one that failed. Raises ClientError, and RpcError if the batch was refused."""
        body, read = batch_of(self._ids, calls)
        with self._send("POST", "/rpc", body, self._timeout) as answer:
            return read(self._whole(answer))

    @contextmanager
    def events(
        self, since: int | None = None, *, wallet: str | None = None
    ) -> Iterator[Iterator[LogEvent]]:
        """Follow the log, or that of a wallet, after `since` (None: from now on) until the node or
        the caller ends it.

        Raises NotFoundError: with the word EVENTS_GONE if the log begins later, or
        has never come so far.
        """
        with self._send("GET", events_path(since, wallet), None, self._timeout) as answer:
            if answer.status != 200:
                raise refusal_in(self._whole(answer))
            expect_events(answer.headers.get("content-type"))
            yield self._follow(answer)

    def _follow(self, answer: http.client.HTTPResponse) -> Iterator[LogEvent]:
        parser = EventParser()
        while True:
            with self._reported(self._timeout):
                data = answer.read1(PIECE_BYTES)
            if not data:
                return
            yield from parser.feed(data)

    @contextmanager
    def _send(
        self, verb: str, path: str, body: bytes | None, seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        end = self._endpoint
        with closing(_connection(end, seconds)) as connection:
            with self._reported(seconds):
                connection.request(
                    verb, path, body, end.headers(None if body is None else len(body))
                )
                answer = connection.getresponse()
            with answer:
                yield answer

    def _whole(self, answer: http.client.HTTPResponse) -> bytes:
        with self._reported(self._timeout):
            body = answer.read(ANSWER_BYTES_MAX + 1)
        if len(body) > ANSWER_BYTES_MAX:
            raise UnreachableError(f"the answer is above {ANSWER_BYTES_MAX} bytes")
        return body

    @contextmanager
    def _reported(self, seconds: float) -> Iterator[None]:
        """Turn what the network raises into words for a person."""
        try:
            yield
        except (ConnectionRefusedError, FileNotFoundError):
            raise NodeNotRunningError from None
        except TimeoutError:
            raise NodeTimedOutError(late(seconds)) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self._endpoint, error) from None
