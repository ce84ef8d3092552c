"""The site: which path is which page, who is let in, and what goes out with every answer.

    /                            the chain live; /wall is that for a screen on a wall
    /anchor/ID-OR-HEIGHT, /coin/ID, /transfer/ID, /lock/LOCK-OR-ADDRESS
    /tree, /charts, /mempool, /peers, /mining, /network
    /replay?since=N&limit=N      the log, to be played
    /compare?one=ID&other=ID     two anchors side by side
    /search?q=TEXT               leads to one of them
    /verify/ID, /receipt         forms: proofs checked by the node, under its budget
    any of these with .json      the same facts, raw
    any of them with ?parts=ID…  no other parts of the page than these need be there
    /live                        the gapless log, as /events
    /login, /logout              a session by a read token
    /theme                       a form: light, dark, or as the browser asks
    /wallet/KEY…                 balance, receiving, sending; in the session begun by /open/CODE
                                 that was told the key
    /static/NAME                 scripts, styles and pictures

Everything is complete without script. No page calls a method above `read`, but for those of the
wallet, which there are only with `rpc.wallet_page`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import msgspec
from starlette.types import Receive, Scope, Send

from unchained.node.base.clock import Clock
from unchained.node.base.config import PageAccess
from unchained.node.base.runner import Runner
from unchained.node.consensus.params import Network
from unchained.node.rpc.core.errors import (
    ForbiddenError,
    InvalidParamsError,
    InvalidRequestError,
    NotFoundError,
    NotReadyError,
    ProtocolRuleError,
    RefusedError,
    RpcError,
    TimedOutError,
    UnauthorizedError,
    UnavailableError,
    WalletRefusedError,
)
from unchained.node.rpc.core.rights import Caller
from unchained.node.rpc.http.asgi import CALLER, header
from unchained.node.rpc.http.sessions import (
    Login,
    PageSession,
    SessionRequest,
    Sessions,
)
from unchained.node.rpc.http.web_site import SiteServices
from unchained.node.rpc.web import views, wallet_views
from unchained.node.rpc.web.admission import check_is_no_other_site, is_of_this_machine
from unchained.node.rpc.web.forms import query_of, read_form
from unchained.node.rpc.web.reads import PAGE_ACCESS, PageReads
from unchained.node.rpc.web.renderer import Renderer
from unchained.node.rpc.web.static_files import StaticFiles
from unchained.node.rpc.web.theme import THEMES, place_of, theme_cookie, theme_of, way_back
from unchained.node.wallet.payment_request import qr_svg

JSON: Final = ".json"

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a browser lets the page do: nothing inline, nothing from or to anywhere else."""

_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # With "no-referrer" a browser says of its own forms that they come from nowhere.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class PageView(Protocol):
    """Reads the facts of a page."""

    def __call__(
        self, reads: PageReads, argument: str, query: Mapping[str, str], /
    ) -> Awaitable[views.Facts]:
        """Return them. Raises an RpcError."""


class SitePage(msgspec.Struct, frozen=True):
    """A kind of page: what it is called, how it is read, and whether its path names a thing."""

    title: str
    view: PageView
    named: bool = False
    post: bool = False
    """It takes a form alone: what it shows costs work."""


PAGES: Final[Mapping[str, SitePage]] = {
    "home": SitePage("Live", views.home),
    "wall": SitePage("Wall", views.home),
    "tree": SitePage("Tree", views.tree),
    "compare": SitePage("Two anchors", views.compare),
    "replay": SitePage("Replay", views.replay),
    "charts": SitePage("Charts", views.charts),
    "mempool": SitePage("Mempool", views.mempool),
    "peers": SitePage("Peers", views.peers),
    "mining": SitePage("Mining", views.mining),
    "network": SitePage("Network", views.network),
    "anchor": SitePage("Anchor", views.anchor, named=True),
    "coin": SitePage("Coin", views.coin, named=True),
    "transfer": SitePage("Transfer", views.transfer, named=True),
    "lock": SitePage("Lock", views.lock, named=True),
    "verify": SitePage("Coin verified", views.verify, named=True, post=True),
    "receipt": SitePage("Receipt verified", views.receipt, post=True),
}

NAVIGATION: Final = ("home", "tree", "replay", "charts", "mempool", "peers", "mining", "network")


class Reply(msgspec.Struct, frozen=True):
    """An answer: status, body, type, and further headers."""

    status: int
    body: bytes
    media_type: str
    headers: Mapping[str, str] = {}


class Site:
    """The page of one node. `access`: who sees it (`rpc.page`)."""

    def __init__(
        self,
        access: PageAccess,
        clock: Clock,
        runner: Runner,
        network: Network,
        sessions: Sessions,
        *,
        wallet_page: bool = False,
    ) -> None:
        self._wallet_page = wallet_page
        self._open_to_machine = access == "loopback"
        self._clock = clock
        self._runner = runner
        self._network = network
        self._renderer = Renderer()
        self._files = StaticFiles()
        self._sessions = sessions

    async def serve(
        self, services: SiteServices, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request. What the caller did wrong is answered for; a bug is raised."""
        path: str = scope["path"]
        raw = path.endswith(JSON)
        try:
            check_is_no_other_site(scope)
            if path == "/live" and scope["method"] == "GET":
                self._check_admitted(services, scope)
                # Who is let in sees the chain's log, and no wallet's.
                scope["state"][CALLER] = Caller(PAGE_ACCESS, is_known=services.caller.is_known)
                await services.events(scope, receive, send)
                return
            reply = await self._answer(services, scope, receive, path.removesuffix(JSON), raw)
        except RpcError as error:
            reply = await self._refuse(error, scope, raw)
        await _send(reply, scope, send)

    async def _answer(
        self, services: SiteServices, scope: Scope, receive: Receive, path: str, raw: bool
    ) -> Reply:
        parts = [part for part in path.split("/") if part]
        if parts[:1] == ["static"] and len(parts) == 2:
            _check_method(scope, "GET", "HEAD")
            return self._static(parts[1], scope)
        if parts == ["theme"]:
            _check_method(scope, "POST")
            # It changes nothing but this browser's own cookie, so it takes no session's token.
            form = await read_form(scope, receive)
            kept = theme_cookie(form.get("theme", ""), secure=_is_secure(scope))
            return _redirect(way_back(form.get("back", "/")), {"set-cookie": kept})
        if parts == ["login"]:
            return await self._log_in(services, scope, receive)
        if parts[:1] == ["open"] and len(parts) == 2 and self._wallet_page:
            _check_method(scope, "GET")
            login = self._sessions.log_in(parts[1], secure=_is_secure(scope))
            wallet = query_of(scope).get("wallet")
            return _let_in(_wallet_path(login.session) + _showing(wallet), login)
        self._check_admitted(services, scope)
        if parts == ["logout"]:
            return await self._log_out(services, scope, receive)
        if parts[:1] == ["wallet"] and self._wallet_page:
            return await self._answer_wallet(services, scope, receive, parts[1:], raw)
        reads = PageReads(services.methods, is_known=services.caller.is_known)
        if parts == ["search"]:
            _check_method(scope, "GET", "HEAD")
            query = query_of(scope)
            if "q" in query:
                return _redirect(await views.find(reads, query))
            return await self._render(
                scope, "search.html", 200, "Search", {}, session=services.session
            )
        name = parts[0] if parts else "home"
        page = PAGES.get(name)
        if page is None or len(parts) > 1 + page.named or (page.named and len(parts) != 2):
            raise NotFoundError("there is no such page")
        if page.post:
            _check_method(scope, "POST")
            query = await _form_of(services, scope, receive)
        else:
            _check_method(scope, "GET", "HEAD")
            query = query_of(scope)
        argument = parts[1] if page.named else ""
        facts = await page.view(reads, argument, query)
        if raw:
            body = msgspec.json.format(msgspec.json.encode(facts), indent=2)
            return Reply(200, body, "application/json")
        return await self._render(
            scope,
            f"{name}.html",
            200,
            page.title,
            facts,
            path=path,
            page=name,
            parts=views.Parts(query),
            session=services.session,
        )

    async def _render(
        self,
        scope: Scope,
        template: str,
        status: int,
        title: str,
        facts: views.Facts,
        *,
        session: SessionRequest | None = None,
        **more: Any,
    ) -> Reply:
        """Render a page; `session`: whose it is, and whose forms it holds."""
        values = {
            "facts": facts,
            "title": title,
            "network": self._network.name,
            "now": self._clock.now_ms(),
            "pages": [(name, PAGES[name].title) for name in NAVIGATION],
            # Told to its own pages alone: any other is shown to whoever has the cookie.
            "wallet_path": "",
            "csrf": "" if session is None else session.session.csrf,
            "theme": theme_of(scope),
            "themes": THEMES,
            "here": place_of(scope),
            "path": "/",
            "page": "",
            "parts": views.Parts({}),
            **more,
        }
        body = await self._runner.run(self._renderer.render, template, values)
        return Reply(status, body, "text/html; charset=utf-8")

    async def _refuse(self, error: RpcError, scope: Scope, raw: bool) -> Reply:
        status = status_of(error)
        headers = {"allow": str(error.data["allow"])} if "allow" in error.data else {}
        if "retry_after" in error.data:
            headers["retry-after"] = str(error.data["retry_after"])
        if raw:
            body = msgspec.json.encode({"error": error.error, "message": error.message})
            return Reply(status, body, "application/json", headers)
        if isinstance(error, UnauthorizedError):
            reply = await self._render(
                scope, "login.html", status, "Log in", {}, message=error.message
            )
        else:
            title = _TITLES.get(status, "Not possible")
            reply = await self._render(
                scope, "error.html", status, title, {"message": error.message}
            )
        return msgspec.structs.replace(reply, headers=headers)

    def _static(self, name: str, scope: Scope) -> Reply:
        found = self._files.find(name)
        if found is None:
            raise NotFoundError("there is no such file")
        headers = {"etag": found.tag, "cache-control": "no-cache"}
        if (header(scope, b"if-none-match") or b"").decode("latin-1") == found.tag:
            return Reply(304, b"", found.media_type, headers)
        return Reply(200, found.body, found.media_type, headers)

    # Who is let in

    def _check_admitted(self, services: SiteServices, scope: Scope) -> None:
        """Raise UnauthorizedError for who has neither this machine, nor credentials, nor a
        session."""
        if self._open_to_machine and is_of_this_machine(scope):
            return
        session = services.session
        if session is not None and session.session.caller.access >= PAGE_ACCESS:
            return  # if it is a form, that is checked where it is read
        if services.caller.access >= PAGE_ACCESS:
            return
        raise UnauthorizedError("from here this page asks for the read token of the node")

    async def _log_in(self, services: SiteServices, scope: Scope, receive: Receive) -> Reply:
        _check_method(scope, "GET", "HEAD", "POST")
        if scope["method"] != "POST":
            message = "The page of this node asks for its read token."
            return await self._render(scope, "login.html", 200, "Log in", {}, message=message)
        # Of a session, if there is one, it uses nothing: another begins.
        form = await read_form(scope, receive)
        token = form.get("token", "").strip()
        if not token.isascii():
            raise UnauthorizedError("the token is wrong")

        bearer = await services.tokens.caller(b"Bearer " + token.encode())
        if bearer.access < PAGE_ACCESS:
            raise UnauthorizedError("the token is a wallet's, not the read token of the node")
        # What the token gives beyond the pages is not for a browser that was given it.
        reader = replace(bearer, access=PAGE_ACCESS)
        return _let_in("/", self._sessions.begin(reader, secure=_is_secure(scope)))

    async def _log_out(self, services: SiteServices, scope: Scope, receive: Receive) -> Reply:
        _check_method(scope, "POST")
        if services.session is None:
            return _redirect("/")
        await _form_of(services, scope, receive)
        gone = self._sessions.log_out(services.session.session, secure=_is_secure(scope))
        return _redirect("/", {"set-cookie": gone})

    def link_path(self, caller: Caller, wallet: str | None = None) -> str | None:
        """Return the path of a fresh link that begins a caller's session for the wallet's pages, at
        that of a wallet; None where there are none. Raises `BusyError`."""
        if not self._wallet_page:
            return None
        return f"/open/{self._sessions.link(caller)}{_showing(wallet)}"

    async def _answer_wallet(
        self, services: SiteServices, scope: Scope, receive: Receive, parts: list[str], raw: bool
    ) -> Reply:
        session = None if services.session is None else services.session.session
        if session is None or not parts or not session.opens_wallets(parts[0]):
            raise ForbiddenError(
                "the wallet's page is opened by the link of `unchained-node wallet page`",
                error="NO_SESSION",
            )
        reads = PageReads(services.methods, wallet_views.METHODS)
        path, parts = _wallet_path(session), parts[1:]
        if parts in (["confirm"], ["send"]) and not raw:
            _check_method(scope, "POST")
            form = await _form_of(services, scope, receive)
            if parts == ["confirm"]:
                view, template, title = wallet_views.confirmation, "wallet_confirm", "Send this?"
            else:
                view, template, title = wallet_views.send, "wallet_sent", "Sent"
            facts = await view(reads, form)
            return await self._render(
                scope,
                f"{template}.html",
                200,
                title,
                facts,
                session=services.session,
                wallet_path=path,
            )
        _check_method(scope, "GET", "HEAD")
        query = query_of(scope)
        if parts == ["history.csv"]:
            body = await wallet_views.history_csv(reads, query)
            name = {"content-disposition": 'attachment; filename="history.csv"'}
            return Reply(200, body, "text/csv; charset=utf-8", name)
        if parts == ["qr.svg"]:
            wallet = query.get("wallet", "default")
            receiving = await reads.get("wallet.address", wallet=wallet)
            body = await self._runner.run(qr_svg, receiving["uri"])
            return Reply(200, body, "image/svg+xml")
        if parts or raw:
            raise NotFoundError("there is no such page")
        facts = await wallet_views.overview(reads, query)
        return await self._render(
            scope,
            "wallet.html",
            200,
            "Wallet",
            facts,
            page="wallet",
            wallet_path=path,
            session=services.session,
        )


_TITLES: Final = {
    400: "Not understood",
    403: "Not allowed",
    404: "Not found",
    409: "Refused",
    429: "Too much at once",
    503: "Not ready",
    504: "Too slow",
}

_STATUS: Final[tuple[tuple[type[RpcError], int], ...]] = (
    (NotFoundError, 404),
    (InvalidParamsError, 400),
    (InvalidRequestError, 400),
    (ProtocolRuleError, 400),
    (RefusedError, 409),
    (WalletRefusedError, 409),
    (UnavailableError, 404),
    (NotReadyError, 503),
    (TimedOutError, 504),
)


def status_of(error: RpcError) -> int:
    """Return the HTTP status of a page that an error takes the place of."""
    if "allow" in error.data:
        return 405
    for family, status in _STATUS:
        if isinstance(error, family):
            return status
    return error.status if error.status >= 400 else 500


def _check_method(scope: Scope, *allowed: str) -> None:
    if scope["method"] not in allowed:
        allow = ", ".join(allowed)
        raise InvalidRequestError(f"this page takes {allow} alone", error="BAD_METHOD", allow=allow)


async def _form_of(services: SiteServices, scope: Scope, receive: Receive) -> dict[str, str]:
    """Return the fields of a form; one with a session's cookie is of that session's page."""
    form = await read_form(scope, receive)
    if services.session is not None:
        services.session.check_form(form)
    return form


def _wallet_path(session: PageSession) -> str:
    return f"/wallet/{session.wallet_key}"


def _is_secure(scope: Scope) -> bool:
    return bool(scope["scheme"] == "https")


def _showing(wallet: str | None) -> str:
    return "" if wallet is None else f"?{urlencode({'wallet': wallet})}"


def _let_in(path: str, login: Login) -> Reply:
    return _redirect(path, {"set-cookie": login.set_cookie})


def _redirect(path: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(303, b"", "text/plain", {"location": path, **(headers or {})})


async def _send(reply: Reply, scope: Scope, send: Send) -> None:
    given = {
        "content-type": reply.media_type,
        "cache-control": "no-store",
        **_HEADERS,
        **reply.headers,
    }
    if reply.status != 304:
        given["content-length"] = str(len(reply.body))
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
    )
    body = b"" if scope["method"] == "HEAD" else reply.body
    await send({"type": "http.response.body", "body": body, "more_body": False})
