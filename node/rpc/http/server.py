"""The node over HTTP: JSON-RPC, events, health, and whatever pages are handed in.

Every request passes the gate before anything reads it: HTTP/1.1 only, a Host header that names
this machine (a web page that rebinds its name to 127.0.0.1 fails there), no other web page as
origin, a plain path, credentials that are right if there are any.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from unchained.node.base.config import PageAccess
from unchained.node.base.counted import ChannelStatistics
from unchained.node.base.latency import LatencyStatistics
from unchained.node.base.ports import AUTO_PORTS_TRIED
from unchained.node.base.runner import Runner
from unchained.node.rpc.core.credential_files import TOKEN_FILE
from unchained.node.rpc.core.dispatcher import (
    CallLimits,
    CallStatistics,
    Dispatcher,
    Translation,
    frames,
)
from unchained.node.rpc.core.errors import (
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    RpcError,
    TimedOutError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    short,
)
from unchained.node.rpc.core.registry import Access, Registry
from unchained.node.rpc.http.asgi import (
    ACCESS,
    disconnected,
    header,
    headers,
    send_answer,
    send_error,
)
from unchained.node.rpc.http.criterion import ReadinessSource
from unchained.node.rpc.http.event_streams import EventSource, EventStreams, WalletEventSource
from unchained.node.rpc.http.gatekeeper import (
    Gatekeeper,
    PasswordHash,
    cookie_file,
    token_file,
)
from unchained.node.rpc.http.listener import (
    HttpLimits,
    Listener,
    ListenerStatistics,
    is_loopback,
    listen,
    shown,
)

_PATH: Final = re.compile(
    rb"/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*)?/?"
)
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.ASCII)
_SINGLE: Final = (b"host", b"authorization", b"origin", b"sec-fetch-site", b"content-encoding")
"""Headers that two readers could read differently if they came twice."""


@dataclass(frozen=True, slots=True)
class RpcSettings:
    """What an operator decides about the server. `port` 0 takes a free one."""

    data_directory: Path
    host: str = "127.0.0.1"
    port: int = 0
    takes_next: bool = False
    """The next free port will do as well."""
    names: tuple[str, ...] = ()
    """Further host names under which the node may be addressed."""
    user: str | None = None
    password: PasswordHash | None = None
    mining_token_file: Path | None = None
    """Where the token of miners elsewhere is kept; None: there is none."""
    open_read: bool = False
    """Read-only methods need no token."""
    page: PageAccess = "loopback"
    """Who sees the page: `loopback`, a browser of this machine without credentials, others with a
    token; `token`, nobody without one; `off`: there is none."""
    http: HttpLimits = field(default_factory=HttpLimits)
    calls: CallLimits = field(default_factory=CallLimits)
    streams: int = 16
    heartbeat_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class WebPage:
    """A page of another room's: `GET path` gives what `endpoint` returns to callers with
    `access`."""

    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    access: Access = Access.READ


class MethodCaller(Protocol):
    """Calls the server's methods, as whoever has an access."""

    async def result(self, name: str, params: dict[str, Any], access: Access) -> bytes:
        """Return the result of one call as JSON. Raises an RpcError."""


class TokenCheck(Protocol):
    """Knows the tokens of the server."""

    async def access(self, header: bytes | None) -> Access:
        """Return what an Authorization header allows. Raises UnauthorizedError."""


class WebSite(Protocol):
    """A site that answers whatever path the server itself does not know."""

    async def serve(
        self, services: SiteServices, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that has passed the gate; its credentials allow `services.access`."""


@dataclass(frozen=True, slots=True)
class SiteServices:
    """What the server lends its site for one request."""

    methods: MethodCaller
    tokens: TokenCheck
    events: ASGIApp
    access: Access


@dataclass(frozen=True, slots=True)
class Bound:
    """Where the server listens; `url` is how this machine reaches it."""

    host: str
    port: int
    url: str


@dataclass(frozen=True, slots=True)
class RpcStatistics:
    """A snapshot: connections, open event streams, requests, rejections by word, calls by
    method, how long they took, and those that wait for their turn."""

    connections: ListenerStatistics
    streams: int
    requests: int
    rejected: Mapping[str, int]
    methods: Mapping[str, CallStatistics]
    latency: LatencyStatistics
    queue: ChannelStatistics


class Server:
    """The RPC server of one node."""

    def __init__(
        self,
        registry: Registry,
        *,
        settings: RpcSettings,
        runner: Runner,
        log: FilteringBoundLogger,
        readiness: ReadinessSource,
        events: EventSource | None = None,
        wallet_events: WalletEventSource | None = None,
        pages: Iterable[WebPage] = (),
        site: WebSite | None = None,
        translations: Iterable[Translation] = (),
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._log = log
        self._dispatcher = Dispatcher(
            registry, limits=settings.calls, log=log, translations=translations
        )
        self._streams = None if events is None else _streams(events, wallet_events, settings, log)
        # Apart, so that who needs no credentials takes no place of those who have them.
        self._site_streams = None if events is None else _streams(events, None, settings, log)
        self._site = site
        self._readiness = readiness
        self._router = Router(
            [
                Route("/rpc", _Calls(self._dispatcher, settings)),
                Route("/events", _Guarded(self._streams or _no_events, Access.READ)),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                *(_page(page) for page in pages),
            ],
            redirect_slashes=False,
            default=_not_found if site is None else self._serve_site,
        )
        self._requests = 0
        self._rejected: Counter[str] = Counter()
        self._gatekeeper: Gatekeeper | None = None
        self._listener = Listener(self._gate, limits=settings.http, log=log)

    def statistics(self) -> RpcStatistics:
        """Return a snapshot."""
        return RpcStatistics(
            self._listener.statistics(),
            sum(streams.open for streams in (self._streams, self._site_streams) if streams),
            self._requests,
            dict(self._rejected),
            self._dispatcher.statistics(),
            self._dispatcher.latency.statistics(),
            self._dispatcher.queue(),
        )

    async def serve(
        self, *, task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled. Started, with the bound address, once calls are answered.

        Raises ListenError where the address is not to be had, OSError where the data directory
        cannot be written, TokenError for a token file that holds something else. Once
        cancelled, it gives calls that run a moment (HttpLimits.stop_seconds), then gives them
        up, closes every connection and removes the cookie.
        """
        settings = self._settings
        last = min(settings.port + AUTO_PORTS_TRIED - 1, 0xFFFF) if settings.takes_next else 0
        sockets = await listen(settings.host, settings.port, last)
        try:
            host, port = sockets[0].socket.getsockname()[:2]
            reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
            bound = Bound(host, port, f"http://{shown(reach, port)}")
            token = token_file(settings.data_directory / TOKEN_FILE)
            mining = settings.mining_token_file
            with cookie_file(settings.data_directory, bound.url) as cookie:
                self._gatekeeper = Gatekeeper(
                    cookie=cookie,
                    token=token,
                    mining_token=None if mining is None else token_file(mining),
                    runner=self._runner,
                    user=settings.user,
                    password=settings.password,
                    anonymous=Access.READ if settings.open_read else Access.PUBLIC,
                )
                if settings.takes_next and port != settings.port:
                    self._log.warning("rpc.port_in_use", port=settings.port, taken=port)
                self._log.info("rpc.listening", url=bound.url)
                if self._site is not None:
                    self._log.info("rpc.page", url=f"{bound.url}/")
                if not is_loopback(host):
                    self._log.warning("rpc.exposed", address=shown(host, port))
                task_status.started(bound)
                await self._listener.serve(sockets)
        finally:
            for listener in sockets:
                listener.socket.close()

    async def _gate(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._requests += 1
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            access = await self._admit(scope)
        except RpcError as error:
            self._reject(scope, error)
            return await send_error(send, error, close=True)
        scope["state"][ACCESS] = access
        try:
            await self._router(scope, receive, watched)
        except Exception as error:
            self._log.error(
                "rpc.page_failed",
                path=short(scope["path"]),
                error=type(error).__name__,
                where=frames(error),
            )
            if started:
                raise
            await send_error(
                send, InternalError("the page failed: see rpc.page_failed in the log"), status=500
            )
        return None

    async def _admit(self, scope: Scope) -> Access:
        """Return what the request's credentials allow. Raises the RpcError that turns it away."""
        if scope["http_version"] not in ("1.1", "1.0"):
            raise InvalidRequestError("this server speaks HTTP/1.1")
        given: dict[bytes, bytes] = dict(scope["headers"])
        if len(given) < len(scope["headers"]):
            for name in _SINGLE:
                if len(headers(scope, name)) > 1:
                    raise InvalidRequestError(f"a request has one {name.decode()} header at most")
        host = given.get(b"host", b"")
        self._check_host(host, scope["server"])
        origin = given.get(b"origin")
        if origin is not None and origin not in (b"http://" + host, b"https://" + host):
            raise ForbiddenError("web pages of other origins are not served", error="BAD_ORIGIN")
        site = given.get(b"sec-fetch-site")
        if scope["method"] == "POST" and site not in (None, b"same-origin", b"none"):
            raise ForbiddenError("web pages of other origins are not served", error="BAD_ORIGIN")
        if _PATH.fullmatch(scope["raw_path"]) is None:
            raise InvalidRequestError("the path is not a plain one", error="BAD_PATH")
        if self._gatekeeper is None:
            raise UnavailableError("the server is starting")
        client = scope["client"]
        return await self._gatekeeper.access(
            given.get(b"authorization"), client[0] if client else ""
        )

    def _check_host(self, raw: bytes, server: tuple[str, int] | None) -> None:
        wrong = ForbiddenError(
            "the Host header names another machine (allow it with the setting rpc.names)",
            error="BAD_HOST",
        )
        match = _HOST.fullmatch(raw.decode("latin-1").lower())
        if match is None:
            raise wrong
        name = match[1] or match[2]
        if name in {"localhost", self._settings.host.lower(), *self._settings.names}:
            return
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            raise wrong from None
        if not address.is_loopback and (
            server is None or address != ipaddress.ip_address(server[0].partition("%")[0])
        ):
            raise wrong

    async def _serve_site(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._site is not None and self._gatekeeper is not None, "it has been let in"  # noqa: PT018
        access: Access = scope["state"][ACCESS]
        services = SiteServices(
            self._dispatcher, self._gatekeeper, self._site_streams or _no_events, access
        )
        await self._site.serve(services, scope, receive, send)

    def _reject(self, scope: Scope, error: RpcError) -> None:
        self._rejected[error.error] += 1
        client = scope["client"]
        self._log.info("rpc.rejected", error=error.error, client=client[0] if client else None)

    async def _healthz(self, _: Request) -> Response:
        # That this runs says that the loop turns; how long a turn takes says how well.
        began = time.perf_counter()
        await trio.lowlevel.checkpoint()
        return _json(200, {"status": "ok", "turn_seconds": time.perf_counter() - began})

    async def _readyz(self, _: Request) -> Response:
        report = self._readiness.check()
        return _json(200 if report.ready else 503, report)


class _Calls:
    """`POST /rpc`."""

    def __init__(self, dispatcher: Dispatcher, settings: RpcSettings) -> None:
        self._dispatcher = dispatcher
        self._limit = settings.calls.body_bytes
        self._seconds = settings.http.body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            error = InvalidRequestError("JSON-RPC takes POST alone", error="BAD_METHOD")
            return await send_error(send, error, status=405, close=True, allow=b"POST")
        if header(scope, b"content-encoding") not in (None, b"identity"):
            error = InvalidRequestError("compressed bodies are not read", error="BAD_ENCODING")
            return await send_error(send, error, status=415, close=True)
        length = header(scope, b"content-length")
        if length is not None and int(length) > self._limit:
            return await send_error(send, self._too_large(), close=True)
        body: bytes | None = None
        try:
            with trio.move_on_after(self._seconds) as reading:
                body = await self._read(receive)
        except TooLargeError as error:
            return await send_error(send, error, close=True)
        if reading.cancelled_caught:
            slow = TimedOutError(f"the body did not arrive within {self._seconds:g} s")
            return await send_error(send, slow, status=408, close=True)
        if body is None:
            return None
        access: Access = scope["state"][ACCESS]
        answer = await self._dispatcher.answer(body, access, partial(disconnected, receive))
        return await send_answer(send, answer)

    async def _read(self, receive: Receive) -> bytes | None:
        """Return the whole body, or None if the client went away. Raises TooLargeError."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"a request has at most {self._limit} bytes", limit=self._limit)


class _Guarded:
    """An ASGI application for callers with enough access."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            error = InvalidRequestError("this page takes GET alone", error="BAD_METHOD")
            await send_error(send, error, status=405, close=True, allow=b"GET, HEAD")
        elif scope["state"][ACCESS] < self._access:
            await send_error(send, UnauthorizedError("this page needs credentials"), close=True)
        else:
            await self._app(scope, receive, send)


def _streams(
    events: EventSource,
    wallets: WalletEventSource | None,
    settings: RpcSettings,
    log: FilteringBoundLogger,
) -> EventStreams:
    return EventStreams(
        events,
        wallets,
        streams=settings.streams,
        heartbeat_seconds=settings.heartbeat_seconds,
        log=log,
    )


def access_of(request: Request) -> Access:
    """Return what the caller of a page may do."""
    access: Access = request.scope["state"][ACCESS]
    return access


def _json(status: int, value: object) -> Response:
    return Response(
        msgspec.json.encode(value),
        status,
        {"cache-control": "no-store"},
        media_type="application/json",
    )


def _page(page: WebPage) -> BaseRoute:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await page.endpoint(Request(scope, receive))
        await response(scope, receive, send)

    return Route(page.path, _Guarded(app, page.access))


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    await send_error(send, NotFoundError("there is no such page"), status=404, close=True)


async def _no_events(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    await send_error(send, UnavailableError("this node keeps no event log"), status=404)
