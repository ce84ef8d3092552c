"""`GET /events`: the gapless logs of the node and of its wallets as server-sent events."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, Protocol

import msgspec
import trio
from starlette.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from unchained.node.rpc.core.errors import (
    BusyError,
    ForbiddenError,
    InvalidParamsError,
    NotFoundError,
    UnauthorizedError,
    short,
)
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.registry import Scope as TokenScope
from unchained.node.rpc.core.rights import Caller
from unchained.node.rpc.core.values import encode
from unchained.node.rpc.http.asgi import caller_of, disconnected, header, send_error

_KINDS: Final = ("owner", "known", "token", "stranger")
_HEARTBEAT: Final = b": still here\n\n"
STREAMS_OF_A_WALLET: Final = 4
"""Streams that all tokens of one wallet have open together."""
_MAX_SEQUENCE: Final = 2**63 - 1
_ENCODER: Final = msgspec.json.Encoder(enc_hook=encode)


class LogEntry(msgspec.Struct, frozen=True):
    """One entry of the log. `sequence` grows by one; `kind` is a dotted name; `data` any value
    that a result may hold."""

    sequence: int
    kind: str
    data: Any


class EventsGoneError(Exception):
    """The log no longer holds what was asked for, or has never come so far: `oldest` is the first
    entry that it holds, `last` the last one."""

    def __init__(self, oldest: int, last: int) -> None:
        super().__init__(oldest, last)
        self.oldest = oldest
        self.last = last


Entries = AsyncIterator[Sequence[LogEntry]]
"""The log as it grows: each time what there is of it by then, some entries at least."""


class WalletEventSource(Protocol):
    """The logs of wallets that the streams show."""

    def open(
        self, wallet: str, since: int | None, log: str | None = None
    ) -> AbstractAsyncContextManager[Entries]:
        """Open a wallet's log as `EventSource.open` does, and only if `log` is its id where one is
        given; the entries end with the wallet's being closed. Raises a `RpcError` as well."""


class EventSource(Protocol):
    """The log that the streams show."""

    def open(self, since: int | None) -> AbstractAsyncContextManager[Entries]:
        """Open the log after a sequence number (None: from now on), and follow it without end.

        Entering the context raises EventsGoneError; leaving it gives up the reader's place.
        """


class StreamPlaces:
    """How many streams are open: `each` to the owner, to the read-only and the miners' token, to
    tokens of wallets, and to everybody else. Nobody takes the places of another."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many there are."""
        return sum(self._open[kind] for kind in _KINDS)

    def has_room(self, caller: Caller) -> bool:
        """Return whether a caller may have one more."""
        return all(
            self._open[lane] < (self._each if lane in _KINDS else STREAMS_OF_A_WALLET)
            for lane in _lanes_of(caller)
        )

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Hold a place of a caller's."""
        lanes = Counter(_lanes_of(caller))
        self._open += lanes
        try:
            yield
        finally:
            self._open -= lanes


class EventStreams:
    """The ASGI endpoint of the event stream. One per server."""

    def __init__(
        self,
        source: EventSource,
        wallets: WalletEventSource | None = None,
        *,
        places: StreamPlaces,
        heartbeat_seconds: float,
        log: FilteringBoundLogger,
        access: Access = Access.READ,
    ) -> None:
        """`access` is what the node's own log asks of a caller."""
        self._source = source
        self._wallets = wallets
        self._places = places
        self._heartbeat = heartbeat_seconds
        self._log = log
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client or the node goes away, or the caller's token is revoked; a client
        too slow is dropped."""
        if not self._places.has_room(caller_of(scope)):
            return await send_error(
                send, BusyError("too many event streams are open", retry_after=30)
            )
        try:
            wallet, since, log = _asked(scope)
            if wallet is None:
                caller_of(scope).check_access(self._access)
            else:
                caller_of(scope).check_wallet(wallet, TokenScope.READ)
        except (UnauthorizedError, ForbiddenError) as error:
            return await send_error(send, error, close=True)
        except InvalidParamsError as error:
            return await send_error(send, error, status=400)
        try:
            with self._places.place(caller_of(scope)):
                async with self._log_of(wallet, since, log) as entries:
                    await self._stream(entries, caller_of(scope), receive, send)
        except NotFoundError as error:
            await send_error(send, error, status=404)
        except EventsGoneError as gone:
            await send_error(
                send,
                NotFoundError(
                    f"the log begins at {gone.oldest}, ends at {gone.last}: read the state anew, "
                    "then follow from there",
                    error="EVENTS_GONE",
                    oldest=gone.oldest,
                    last=gone.last,
                ),
                status=410,
            )
        return None

    def _log_of(
        self, wallet: str | None, since: int | None, log: str | None
    ) -> AbstractAsyncContextManager[Entries]:
        if wallet is None:
            return self._source.open(since)
        if self._wallets is None:
            raise NotFoundError("this node has no wallets")
        return self._wallets.open(wallet, since, log)

    async def _stream(self, entries: Entries, caller: Caller, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream"),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ],
            }
        )
        await _write(send, _HEARTBEAT)
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                async for part in entries:
                    # In one go: a write costs more than the entries of a full anchor.
                    await _write(send, b"".join(map(render, part)))
                nursery.cancel_scope.cancel()

            async def beat() -> None:
                while True:
                    await trio.sleep(self._heartbeat)
                    await _write(send, _HEARTBEAT)

            async def end() -> None:
                await caller.wait_revoked()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end)
            nursery.start_soon(follow)
            nursery.start_soon(beat)
            await disconnected(receive)
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _lanes_of(caller: Caller) -> tuple[str, ...]:
    """Return whose places a caller's stream takes: his kind's, and those of his token's wallet."""
    if caller.rights is not None:
        return "token", f"wallet {caller.rights.wallet}"
    if not caller.is_known:
        return ("stranger",)
    return ("owner",) if caller.access is Access.FULL else ("known",)


def render(entry: LogEntry) -> bytes:
    """Return the entry as one server-sent event; JSON holds no line break."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        entry.sequence,
        entry.kind.encode(),
        _ENCODER.encode(entry.data),
    )


async def _write(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


def _asked(scope: Scope) -> tuple[str | None, int | None, str | None]:
    """Return the wallet whose log is asked for, if any, the sequence number after which to begin,
    and the id of the wallet's log that has it, if given. Raises InvalidParamsError.

    `Last-Event-ID`, which a reconnecting reader sends by itself, goes before the query.
    """
    query = bytes(scope["query_string"]).decode("latin-1")
    fields: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in ("since", "wallet", "log") or name in fields:
            raise InvalidParamsError(
                "/events takes since=SEQUENCE, wallet=NAME and log=ID, each once, not "
                f"{short(repr(name))}"
            )
        fields[name] = value
    last = header(scope, b"last-event-id")
    given = fields.get("since") if last is None else last.decode("latin-1")
    log = fields.get("log")
    if log is not None and "wallet" not in fields:
        raise InvalidParamsError("log=ID goes with wallet=NAME")
    return fields.get("wallet"), None if given is None else _sequence(given), log


def _sequence(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MAX_SEQUENCE):
        raise InvalidParamsError(f"a sequence number is a whole number, not {short(repr(text))}")
    return int(text)
