"""The site without a node: who is let in, what is refused, and what goes out with every answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import trio
from starlette.types import Message, Receive, Scope, Send

from unchained.node.base.clock import SystemClock
from unchained.node.base.config import PageAccess
from unchained.node.base.runner import InlineRunner
from unchained.node.consensus.params import REG
from unchained.node.rpc.core.errors import BusyError, NotFoundError, RpcError, UnauthorizedError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.registry import Scope as TokenScope
from unchained.node.rpc.core.rights import NODE_OWNER, STRANGER, Caller
from unchained.node.rpc.http.asgi import caller_of
from unchained.node.rpc.http.sessions import IDLE_SECONDS, Sessions
from unchained.node.rpc.http.web_site import SiteServices
from unchained.node.rpc.web.forms import FORM_BYTES_MAX
from unchained.node.rpc.web.site import POLICY, Site

TOKEN = "5a" * 32
OTHER_TOKEN = "unct_" + "5b" * 40
STATUS = {"version": "1", "ready": True, "checks": {"synced": "<b>ok</b>"}, "uptime_ms": 5}
PARAMS = {
    "network": "reg",
    "genesis": "00" * 32,
    "chain_id": 5,
    "birth_time": 0,
    "epoch_ms": 1000,
    "coins_per_epoch": 4,
    "mem_kib": 8,
    "window": 16,
    "maturity": 1,
    "max_reorg": 720,
    "max_body_size": 1000,
    "subsidy": "1.00000000",
    "address_prefix": "runc",
}


@dataclass
class Methods:
    """Answers what it was told to; everything else is not found."""

    results: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any], Caller]] = field(default_factory=list)

    async def result(self, name: str, params: dict[str, Any], caller: Caller) -> bytes:
        self.asked.append((name, params, caller))
        found = self.results.get(name, NotFoundError(f"no {name} here"))
        if isinstance(found, RpcError):
            raise found
        return msgspec.json.encode(found)


class Tokens:
    async def caller(self, header: bytes | None) -> Caller:
        if header == b"Bearer " + TOKEN.encode():
            return Caller(Access.READ)
        if header == b"Bearer " + OTHER_TOKEN.encode():
            return STRANGER
        raise UnauthorizedError("the token is wrong")


@dataclass
class Events:
    """Answers at once; `followers` are those whom it was asked for."""

    followers: list[Caller] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.followers.append(caller_of(scope))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-live", b"1")]})
        await send({"type": "http.response.body", "body": b": live\n\n"})


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    text: str


class Browser:
    """Asks a site as a browser does."""

    def __init__(self, access: PageAccess = "loopback", **results: Any) -> None:
        self.methods = Methods({name.replace("__", "."): value for name, value in results.items()})
        self.sessions = Sessions()
        self.events = Events()
        self.site = Site(access, SystemClock(), InlineRunner(), REG, self.sessions)
        self.given = STRANGER

    async def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        body: bytes = b"",
        client: str = "127.0.0.1",
        scheme: str = "http",
        http_version: str = "1.1",
        **headers: str,
    ) -> Reply:
        target, _, query = path.partition("?")
        sent = {"host": "127.0.0.1:8655", **{k.replace("_", "-"): v for k, v in headers.items()}}
        given_headers = [(k.encode(), v.encode("latin-1")) for k, v in sent.items()]
        session = self.sessions.admit(method, dict(given_headers))
        scope: Scope = {
            "type": "http",
            "http_version": http_version,
            "scheme": scheme,
            "method": method,
            "path": target,
            "query_string": query.encode(),
            "headers": given_headers,
            "client": (client, 5),
            "state": {},
        }
        out: list[Message] = []
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return given.pop(0) if given else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            out.append(message)

        # As the server does it: a form proves itself later.
        is_proven = session is not None and session.proven
        caller = session.session.caller if session is not None and is_proven else self.given
        services = SiteServices(self.methods, Tokens(), self.events, caller, session)
        await self.site.serve(services, scope, receive, send)
        start, *rest = out
        return Reply(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message["body"] for message in rest).decode(),
        )


FORM = {"content_type": "application/x-www-form-urlencoded", "sec_fetch_site": "same-origin"}


async def test_a_browser_of_this_machine_needs_nothing() -> None:
    browser = Browser(
        mine__status={"state": "off", "pauses": [], "rate": 0.0}, chain__params=PARAMS
    )
    for host in ("127.0.0.1:8655", "localhost:8655", "localhost", "[::1]:8655", "127.9.9.9"):
        for client in ("127.0.0.1", "::1"):
            reply = await browser.ask("/network.json", host=host, client=client)
            assert reply.status == 404, reply
            assert "no node.status here" in reply.text
    inside = {"sec_fetch_site": "same-origin", "referer": "http://localhost:8655/tree"}
    assert (await browser.ask("/network.json", host="localhost:8655", **inside)).status == 404


@pytest.mark.parametrize(
    "change",
    [
        {"client": "192.0.2.7"},
        {"host": "node.example"},
        {"host": "192.168.1.5:8655"},
        {"host": ""},
        {"host": "127.0.0.1.example"},
        {"host": "localhost.example:80"},
        {"forwarded": "for=192.0.2.7"},
        {"x_forwarded_for": "192.0.2.7"},
        {"x_real_ip": "192.0.2.7"},
        {"via": "1.1 proxy"},
        # What nginx passes on with `proxy_pass` alone.
        {"http_version": "1.0", "connection": "close"},
        {"sec_fetch_site": "same-origin", "referer": "https://node.example/"},
    ],
)
async def test_everybody_else_is_asked_for_the_token(change: dict[str, Any]) -> None:
    browser = Browser()
    for path in ("/", "/home.json", "/live", "/search?q=5", "/logout", "/nothing"):
        reply = await browser.ask(path, **change)
        assert reply.status == 401
        assert browser.methods.asked == []
        if path == "/":
            assert 'action="/login"' in reply.text
    browser.given = Caller(Access.READ)
    assert (await browser.ask("/network.json", **change)).status == 404


async def test_with_token_alone_this_machine_is_asked_too() -> None:
    browser = Browser("token")
    assert (await browser.ask("/")).status == 401
    assert (await browser.ask("/live")).status == 401


async def test_a_session_is_begun_by_the_token_kept_and_ended() -> None:
    browser = Browser("token")
    page = await browser.ask("/login")
    assert (page.status, 'type="password"' in page.text) == (200, True)
    wrong = await browser.ask("/login", "POST", body=b"token=" + b"00" * 32, **FORM)
    assert (wrong.status, "the token is wrong" in wrong.text) == (401, True)
    wallets = await browser.ask("/login", "POST", body=f"token={OTHER_TOKEN}".encode(), **FORM)
    assert (wallets.status, "the token is a wallet" in wallets.text) == (401, True)
    reply = await browser.ask("/login", "POST", body=b"token=" + TOKEN.encode(), **FORM)
    assert (reply.status, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    session = cookie.split(";")[0]
    assert (await browser.ask("/live", cookie=session)).status == 200
    assert (await browser.ask("/live", cookie=session[:-1] + "x")).status == 401
    csrf = csrf_in((await browser.ask("/search", cookie=session)).text)
    for wrong in (b"", b"csrf=" + b"00" * 32, b"csrf=%C3%A4"):
        refused = await browser.ask("/logout", "POST", body=wrong, cookie=session, **FORM)
        assert refused.status == 403
    assert (await browser.ask("/live", cookie=session)).status == 200
    body = f"csrf={csrf}".encode()
    ended = await browser.ask("/logout", "POST", body=body, cookie=session, **FORM)
    assert ended.status == 303
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert (await browser.ask("/live", cookie=session)).status == 401


async def test_what_a_page_follows_ends_with_the_session() -> None:
    browser = Browser("token")
    begun = [browser.sessions.begin(NODE_OWNER, secure=False) for _ in range(2)]
    for login in begun:
        cookie = login.set_cookie.split(";")[0]
        assert (await browser.ask("/live", cookie=cookie)).status == 200
    left, idle = browser.events.followers
    for follower in (left, idle):
        # Who is let in sees the chain's log, and no wallet's.
        assert follower.access is Access.READ
        with pytest.raises(UnauthorizedError):
            follower.check_wallet("default", TokenScope.READ)
    browser.sessions.log_out(begun[0].session, secure=False)
    with trio.fail_after(1):
        await left.wait_revoked()
    assert not left.stands()
    assert idle.stands()
    with trio.fail_after(IDLE_SECONDS + 1):
        await idle.wait_revoked()
    assert not idle.stands()


async def test_what_is_followed_by_a_token_ends_with_it() -> None:
    browser = Browser("token")
    given = trio.Event()

    class Standing:
        def stands(self) -> bool:
            return not given.is_set()

        async def wait_revoked(self) -> None:
            await given.wait()

    browser.given = Caller(Access.READ, session=Standing())
    assert (await browser.ask("/live")).status == 200
    (follower,) = browser.events.followers
    assert follower.stands()
    given.set()
    with trio.fail_after(1):
        await follower.wait_revoked()


def csrf_in(page: str) -> str:
    return re.findall(r'name="csrf" value="([0-9a-f]{64})"', page)[0]


@pytest.mark.parametrize("path", ["/verify/" + "00" * 32, "/receipt", "/logout"])
async def test_every_form_of_a_session_is_of_its_own_pages(path: str) -> None:
    browser = Browser("token", coin__verify=BusyError(), transfer__verify_receipt=BusyError())
    one, other = (browser.sessions.begin(Caller(Access.READ), secure=False) for _ in range(2))
    cookie = one.set_cookie.partition(";")[0]
    for csrf in ("", other.session.csrf, one.session.csrf[:-1]):
        body = f"receipt=00&csrf={csrf}".encode()
        refused = await browser.ask(path, "POST", body=body, cookie=cookie, **FORM)
        assert refused.status == 403
    assert browser.methods.asked == []
    # By the header as well, which pages with script send.
    headers = {"x_csrf_token": one.session.csrf, "cookie": cookie, **FORM}
    taken = await browser.ask(path, "POST", body=b"receipt=00", **headers)
    assert taken.status == (303 if path == "/logout" else 429)


async def test_under_tls_the_cookie_goes_no_other_way() -> None:
    browser = Browser("token")
    body = b"token=" + TOKEN.encode()
    for scheme, secure in (("http", False), ("https", True)):
        reply = await browser.ask("/login", "POST", body=body, scheme=scheme, **FORM)
        cookie = reply.headers["set-cookie"]
        assert ("Secure" in cookie.split("; ")) == secure
        session = browser.sessions.find(cookie.partition(";")[0].encode())
        assert session is not None
        body_out = f"csrf={session.csrf}".encode()
        ended = await browser.ask(
            "/logout", "POST", body=body_out, scheme=scheme, cookie=cookie.partition(";")[0], **FORM
        )
        assert ("Secure" in ended.headers["set-cookie"].split("; ")) == secure


async def test_a_form_of_another_page_begins_no_session() -> None:
    browser = Browser("token")
    body = b"token=" + TOKEN.encode()
    kind = FORM["content_type"]
    assert (await browser.ask("/login", "POST", body=body, content_type=kind)).status == 403
    for site in ("cross-site", "same-site"):
        reply = await browser.ask(
            "/login", "POST", body=body, content_type=kind, sec_fetch_site=site
        )
        assert reply.status == 403


async def test_other_pages_can_link_here_and_load_nothing() -> None:
    browser = Browser()
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert (await browser.ask("/login", **link)).status == 200
    for mode in ("no-cors", "cors", "same-origin"):
        reply = await browser.ask("/login", sec_fetch_site="cross-site", sec_fetch_mode=mode)
        assert reply.status == 403


async def test_every_answer_carries_the_policy() -> None:
    browser = Browser()
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'")
    for path in ("/login", "/nothing", "/static/page.css", "/home.json", "/search?q=5"):
        headers = (await browser.ask(path)).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_methods_are_called_with_read_access_whoever_looks() -> None:
    browser = Browser()
    browser.given = NODE_OWNER
    for path in (
        "/",
        "/anchor/5",
        "/coin/" + "00" * 32,
        "/lock/x",
        "/mempool",
        "/peers",
        "/mining",
    ):
        await browser.ask(path)
    assert browser.methods.asked
    assert {caller for _, _, caller in browser.methods.asked} == {Caller(Access.READ)}
    browser.methods.asked.clear()
    browser.given = STRANGER
    await browser.ask("/")
    # He takes no place of those who have credentials.
    seen = {caller for _, _, caller in browser.methods.asked}
    assert seen == {Caller(Access.READ, is_known=False)}


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nothing", 404, "there is no such page"),
        ("/anchor", 404, "there is no such page"),
        ("/anchor/1/2", 404, "there is no such page"),
        ("/mempool/1", 404, "there is no such page"),
        ("/static/../site.py", 404, ""),
        ("/static/nothing.js", 404, "there is no such file"),
        ("/search?q=", 400, "search for a height"),
        ("/search?q=" + "x" * 200, 400, "at most 160 characters"),
        ("/search?q=1&q=2", 400, "once at most"),
        ("/search?" + "&".join(f"a{n}=1" for n in range(20)), 400, "not encoded as"),
        ("/search?q=%ff", 400, "not encoded as"),
        ("/search?q=" + "x" * 2000, 413, "at most 1024 bytes"),
        ("/tree?first=-1", 400, "first is a whole number"),
        ("/tree?last=" + "9" * 30, 400, "last is a whole number"),
    ],
)
async def test_bad_input_is_answered_in_one_line(path: str, status: int, said: str) -> None:
    browser = Browser()
    for suffix in (".json", ""):
        target, _, query = path.partition("?")
        reply = await browser.ask(target + suffix + ("?" + query if query else ""))
        assert reply.status == status
        if suffix:
            message = msgspec.json.decode(reply.text)["message"]
            assert said in message
            assert "\n" not in message


async def test_methods_of_http_that_are_not_taken_are_named() -> None:
    browser = Browser()
    for path, allow in (
        ("/", "GET, HEAD"),
        ("/static/page.js", "GET, HEAD"),
        ("/logout", "POST"),
        ("/verify/" + "00" * 32, "POST"),
        ("/receipt", "POST"),
    ):
        reply = await browser.ask(path, "GET" if allow == "POST" else "POST")
        assert (reply.status, reply.headers["allow"]) == (405, allow)
    head = await browser.ask("/login", "HEAD")
    assert (head.status, head.text) == (200, "")
    assert int(head.headers["content-length"]) > 500


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"token=" + b"x" * FORM_BYTES_MAX, FORM, 413),
        (b"{}", {**FORM, "content_type": "application/json"}, 400),
        (b"token=\xff", FORM, 400),
        (b"token=%ff", FORM, 400),
        (b"token=a&token=b", FORM, 400),
        (b"token=%C3%A4", FORM, 401),
        (b"", FORM, 401),
    ],
)
async def test_bad_forms(body: bytes, headers: dict[str, str], status: int) -> None:
    assert (await Browser().ask("/login", "POST", body=body, **headers)).status == status


async def test_what_is_busy_says_when_to_come_back() -> None:
    browser = Browser(node__status=BusyError(retry_after=7))
    reply = await browser.ask("/network")
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")


async def test_hostile_texts_stay_text() -> None:
    evil = "<script>alert(1)</script>\"'&"
    browser = Browser(
        node__status={**STATUS, "checks": {evil: evil}, "refused_reorg": None},
        chain__params={**PARAMS, "network": evil},
        chain__supply={"supply": "1.0", "pool": "0.0"},
        node__version={"unchained": evil, "python": evil, "system": evil},
        chain__forks=[],
    )
    reply = await browser.ask("/network")
    assert reply.status == 200
    assert "<script>alert" not in reply.text
    assert reply.text.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;") == 6
    raw = await browser.ask("/network.json")
    assert raw.headers["content-type"] == "application/json"
    assert msgspec.json.decode(raw.text)["version"]["python"] == evil


async def test_what_is_searched_for_is_not_repeated_as_markup() -> None:
    reply = await Browser().ask("/search?q=%3Cimg%20src%3Dx%3E")
    assert reply.status == 404
    assert "<img" not in reply.text
    assert "nothing found: type a height, an id (64 hex digits) or an address" in reply.text


async def test_files_are_kept_by_browsers_until_they_change() -> None:
    browser = Browser("token")
    first = await browser.ask("/static/page.css")
    assert (first.status, first.headers["content-type"]) == (200, "text/css; charset=utf-8")
    again = await browser.ask("/static/page.css", if_none_match=first.headers["etag"])
    assert (again.status, again.text) == (304, "")


async def test_peers_are_shown_without_their_addresses() -> None:
    peer = {
        "peer": "12D3Koo",
        "address": "/ip4/192.0.2.7/tcp/4001",
        "ip": "192.0.2.7",
        "outbound": True,
    }
    browser = Browser(
        net__info={"peer": "me", "addresses": ["/ip4/192.0.2.8/tcp/1"], "inbound": 1},
        net__peers=[peer],
    )
    reply = await browser.ask("/peers.json")
    assert reply.status == 200
    assert "192.0.2" not in reply.text
    assert "12D3Koo" in reply.text


@pytest.mark.parametrize(
    ("advice", "luck"),
    [
        (
            {"luck": {"expected": 10.0, "ratio": 1.2}},
            "; 10.0 coins expected of 3 k hashes, 120% luck",
        ),
        ({"luck": {"expected": 0.0, "ratio": None}}, "; 0.0 coins expected of 3 k hashes"),
        ({"luck": None}, ""),
        (None, ""),
    ],
)
async def test_the_figures_say_how_lucky_the_miner_was_and_how_far_peers_are(
    advice: dict[str, Any] | None, luck: str
) -> None:
    def epoch(time: int, coins: int) -> dict[str, Any]:
        return {"time": time, "n_total": coins, "work": "300"}

    browser = Browser(
        chain__tip={"height": 2, "work": "300", "supply": "1234.5", "pool": "0.25"},
        chain__difficulty_history=[epoch(0, 0), epoch(60_000, 20)],
        node__status={**STATUS, "checks": {"peers": "ok: 3 connected"}},
        mempool__info={"transfers": 1_500, "bytes": 2048, "capacity": 4096},
        net__peers=[{"peer": "p", "latency_ms": found} for found in (40.0, None, 12.0, 13.5)],
        mine__status={
            "coins_found": 12,
            "hashes": 3_000,
            "work": "300",
            "status": "mining",
            "hashrate": 50.0,
            "advice": advice,
        },
    )
    reply = await browser.ask("/?parts=tiles")
    assert reply.status == 200, reply.text
    said = " ".join(re.sub(r"<[^>]*>", " ", reply.text).split())
    for text in (
        "Hash rate 100 H/s all miners, by the last 2 epochs",
        "Difficulty 300 hashes for a coin",
        "Supply 1,234.50 UNC and 0.25 of fees in the pool",
        "Mempool 1,500 waiting 2.0 KiB of 4.0 KiB",
        "Peers 4 connected 3 connected, 13.5 ms away",
        f"Own mining 12 coins mining, 50 H/s{luck} Raw JSON",
    ):
        assert text in said, (text, said)


async def test_a_theme_is_chosen_without_script_and_kept() -> None:
    browser = Browser()
    page = (await browser.ask("/search?x=1")).text
    assert (
        '<link rel="stylesheet" href="/static/dark.css" media="(prefers-color-scheme: dark)">'
        in page
    )
    assert 'name="back" value="/search?x=1"' in page
    for theme, linked, scheme in (("dark", True, "dark"), ("light", False, "light")):
        body = f"theme={theme}&back=%2Fsearch%3Fx%3D1".encode()
        reply = await browser.ask("/theme", "POST", body=body, **FORM)
        assert (reply.status, reply.headers["location"]) == (303, "/search?x=1")
        cookie = reply.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        page = (await browser.ask("/nothing", cookie=cookie.partition(";")[0])).text
        assert ('href="/static/dark.css">' in page) == linked
        assert f'name="color-scheme" content="{scheme}"' in page
        assert f'value="{theme}" aria-pressed="true"' in page
    reply = await browser.ask("/theme", "POST", body=b"theme=auto", **FORM)
    assert (reply.headers["location"], "Max-Age=0" in reply.headers["set-cookie"]) == ("/", True)
    wrong = await browser.ask("/theme", "POST", body=b"theme=<b>", **FORM)
    assert (wrong.status, "set-cookie" in wrong.headers) == (400, False)
    odd = await browser.ask("/nothing", cookie="unchained_theme=<script>; x=y")
    assert 'value="auto" aria-pressed="true"' in odd.text


@pytest.mark.parametrize(
    "back",
    ["//evil.example", "/\\evil.example", "https://evil.example", "", "x", "/a\r\nb: c", "/ä"],
)
async def test_a_theme_leads_to_no_other_site(back: str) -> None:
    body = urlencode({"theme": "dark", "back": back}).encode()
    reply = await Browser().ask("/theme", "POST", body=body, **FORM)
    assert (reply.status, reply.headers["location"]) == (303, "/")


async def test_luck_is_what_the_hashes_were_worth_when_they_were_made() -> None:
    mining: dict[str, Any] = {
        "status": "mining",
        "pauses": [],
        "waits_for": None,
        "hashrate": 10.0,
        "hashrate_1m": 10.0,
        "hashrate_15m": 10.0,
        "hashes": 608_000,
        "coins_found": 888,
        "anchors_found": 30,
        "coins_rejected": 0,
        "harvest": None,
        "work": "370",
        "expected_ms": 37_000,
        "backend": "native-avx2",
        "workers": [],
        "advice": {"luck": {"expected": 856.3, "found": 888, "ratio": 1.037, "probability": 0.1}},
    }
    browser = Browser(mine__status=mining, chain__params=PARAMS)
    shown = (await browser.ask("/mining")).text
    assert "856.3 coins expected of 608 k hashes, 104% luck" in shown
    mining["advice"]["luck"] = {"expected": 0.0, "found": 0, "ratio": None, "probability": 1.0}
    shown = (await browser.ask("/mining")).text
    assert "luck</dt><dd>0.0 coins expected of 608 k hashes</dd>" in shown
    browser.methods.results["mine.status"] = mining | {"advice": None}
    assert "<dt>luck</dt>" not in (await browser.ask("/mining")).text
