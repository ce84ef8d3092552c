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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from unchained.node.base.counted import ChannelStatistics
from unchained.node.base.latency import LatencyStatistics
from unchained.node.base.ports import AUTO_PORTS_TRIED
from unchained.node.base.runner import Runner
from unchained.node.rpc.core.credential_files import TOKEN_FILE
from unchained.node.rpc.core.dispatcher import (
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
from unchained.node.rpc.core.rights import NODE_OWNER, Caller
from unchained.node.rpc.http.asgi import (
    CALLER,
    SESSION,
    caller_of,
    disconnected,
    header,
    headers,
    send_answer,
    send_error,
)
from unchained.node.rpc.http.criterion import ReadinessSource
from unchained.node.rpc.http.event_streams import (
    EventSource,
    EventStreams,
    StreamPlaces,
    WalletEventSource,
)
from unchained.node.rpc.http.gatekeeper import (
    Gatekeeper,
    cookie_file,
    token_file,
)
from unchained.node.rpc.http.listener import (
    CONNECTION,
    OWN_SOCKET,
    Listener,
    ListenerStatistics,
)
from unchained.node.rpc.http.rpc_settings import RpcSettings
from unchained.node.rpc.http.sessions import CSRF_HEADER, SessionRequest, Sessions
from unchained.node.rpc.http.sockets import is_loopback, listen, listen_at, shown, tls_context
from unchained.node.rpc.http.tokens import TokenBook
from unchained.node.rpc.http.web_site import SiteServices, WebPage, WebSite

_PATH: Final = re.compile(
    rb"/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*)?/?"
)
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.ASCII)
_SINGLE: Final = (
    b"host",
    b"authorization",
    b"cookie",
    b"origin",
    b"sec-fetch-site",
    b"content-encoding",
    b"content-type",
    CSRF_HEADER,
)
"""Headers that two readers could read differently if they came twice."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Where the server listens; `url` is how this machine reaches it."""

    host: str
    port: int
    url: str


class RpcStatistics(msgspec.Struct, frozen=True):
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
        tokens: TokenBook | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._sessions = Sessions() if sessions is None else sessions
        self._runner = runner
        self._log = log
        self._dispatcher = Dispatcher(
            registry, limits=settings.calls, log=log, translations=translations
        )
        self._stream_places = StreamPlaces(settings.streams)

        def streams(wallets: WalletEventSource | None, access: Access) -> EventStreams | None:
            return (
                None
                if events is None
                else EventStreams(
                    events,
                    wallets,
                    places=self._stream_places,
                    heartbeat_seconds=settings.heartbeat_seconds,
                    log=log,
                    access=access,
                )
            )

        self._streams = streams(wallet_events, Access.READ)
        # Whom the page shows it to is for the page to say.
        self._site_streams = streams(None, Access.PUBLIC)
        self._site = site
        self._readiness = readiness
        calls = _Calls(self._dispatcher, settings)
        self._router = Router(
            [
                Route("/rpc", calls),
                # A page at `/` is for browsers, which ask with GET; clients post there as they do
                # to Bitcoin Core.
                _PostRoute("/", calls),
                Route("/events", _Guarded(self._streams or _no_events, Access.PUBLIC)),
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

    @property
    def dispatcher(self) -> Dispatcher:
        """What answers calls, whatever carries them."""
        return self._dispatcher

    def statistics(self) -> RpcStatistics:
        """Return a snapshot."""
        calls = self._dispatcher.statistics()
        return RpcStatistics(
            self._listener.statistics(),
            self._stream_places.open,
            self._requests,
            dict(self._rejected),
            calls.methods,
            calls.latency,
            calls.queue,
        )

    async def serve(
        self, *, task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled. Started, with the bound address, once calls are answered.

        Raises ListenError where the address, the socket or TLS is not to be had, OSError where the
        data directory cannot be written, TokenError for a token file that holds something else.
        Once cancelled, it gives calls that run a moment (HttpLimits.stop_seconds), then gives them
        up, closes every connection and removes the cookie.
        """
        settings = self._settings
        last = min(settings.port + AUTO_PORTS_TRIED - 1, 0xFFFF) if settings.takes_next else 0
        tls = None if settings.tls is None else tls_context(*settings.tls)
        sockets = await listen(settings.host, settings.port, last)
        own: trio.SocketListener | None = None
        try:
            if settings.socket is not None:
                own = listen_at(settings.socket)
            host, port = sockets[0].socket.getsockname()[:2]
            reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
            scheme = "http" if tls is None else "https"
            bound = Bound(host, port, f"{scheme}://{shown(reach, port)}")
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
                    tokens=self._tokens,
                )
                if settings.takes_next and port != settings.port:
                    self._log.warning("rpc.port_in_use", port=settings.port, instead=port)
                self._log.info("rpc.listening", url=bound.url)
                if self._site is not None:
                    self._log.info("rpc.page", url=f"{bound.url}/")
                if own is not None:
                    self._log.info("rpc.socket", path=str(settings.socket))
                if not is_loopback(host) and tls is None:
                    self._log.warning("rpc.exposed", address=shown(host, port))
                task_status.started(bound)
                await self._listener.serve(sockets, tls=tls, own=own)
        finally:
            for listener in sockets:
                listener.socket.close()
            if own is not None and settings.socket is not None:
                own.socket.close()
                settings.socket.unlink(missing_ok=True)

    async def _gate(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._requests += 1
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            caller, session = await self._admit(scope)
        except RpcError as error:
            self._reject(scope, error)
            scope["state"][CONNECTION].trust = 0
            return await send_error(send, error, close=True)
        scope["state"][CONNECTION].trust = caller.trust
        scope["state"][CALLER] = caller
        scope["state"][SESSION] = session
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

    async def _admit(self, scope: Scope) -> tuple[Caller, SessionRequest | None]:
        """Return who asks, and the session that the request belongs to, if any.

        Raises the RpcError that turns it away.
        """
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
        credentials = given.get(b"authorization")
        if credentials is None and scope["state"].get(OWN_SOCKET):
            return NODE_OWNER, None
        session = self._sessions.admit(scope["method"], given) if credentials is None else None
        if session is not None and session.proven:
            return session.session.caller, session
        client = scope["client"]
        return await self._gatekeeper.caller(credentials, client[0] if client else ""), session

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
        services = SiteServices(
            self._dispatcher,
            self._gatekeeper,
            self._site_streams or _no_events,
            caller_of(scope),
            scope["state"][SESSION],
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
        gone = partial(disconnected, receive)
        answer = await self._dispatcher.answer(body, caller_of(scope), gone)
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
            return await send_error(send, error, status=405, close=True, allow=b"GET, HEAD")
        try:
            caller_of(scope).check_access(self._access)
        except UnauthorizedError as error:
            return await send_error(send, error, close=True)
        return await self._app(scope, receive, send)


class _PostRoute(Route):
    """A route for POST alone: what else is asked of its path goes to the routes below it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["method"] != "POST":
            return Match.NONE, {}
        return super().matches(scope)


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
