"""Sessions of browsers: a cookie in place of an Authorization header.

A session begins by a token that was typed in, or by a link that works once and for a minute, and
reads what whoever showed the token or asked for the link may read. More than that its cookie gives
to nobody: a browser sends it to whatever listens on another port of the same host, too (RFC 6265,
section 8.5). The wallet's pages ask for a second secret besides, which is in their path and goes
nowhere else. A session ends by its button, by time, or with the token that it was made with;
sessions live in memory alone, so a restart ends them all. Only digests are kept of what opens them.

The cookie is HttpOnly and SameSite=Strict, and under TLS Secure. What changes something takes the
session's CSRF token as well, which its pages have and other origins' pages have not: in a header,
or, so that pages work without script, in a field of a form.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import trio

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.rpc.core.errors import BusyError, ForbiddenError, UnauthorizedError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import STRANGER, Caller

COOKIE: Final = "unchained_session"
"""Name of the cookie."""

CSRF_HEADER: Final = b"x-csrf-token"
"""The header, in lower case, that holds the session's CSRF token."""

CSRF_FIELD: Final = "csrf"
"""The field of a form that holds it where no header does."""

FORM_TYPE: Final = b"application/x-www-form-urlencoded"
"""The media type of forms that have that field."""

LINK_SECONDS: Final = 60.0
"""How long a link for logging in works."""

IDLE_SECONDS: Final = 30 * 60.0
"""How long a session lasts without a request."""

SESSION_SECONDS: Final = 12 * 60 * 60.0
"""How long a session lasts at most."""

SESSIONS_MAX: Final = 64
"""Sessions that there can be at a time: the one that was idle longest makes room, of those that
give least, and never for one that gives less."""

LINKS_MAX: Final = 64
"""Links that wait to be opened at a time."""

_SECRET_BYTES: Final = 32
_COOKIE: Final = re.compile(rf"(?:^|;\s*){COOKIE}=([0-9a-f]{{{2 * _SECRET_BYTES}}})(?:;|$)")

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class PageSession:
    """One browser's session. `owner` is who began it; `csrf` is what its pages send along;
    `wallet_key` is in the path of the wallet's pages, empty where it has none; times are on Trio's
    clock."""

    owner: Caller
    csrf: str
    began: float
    used: float
    wallet_key: str = ""
    _ended: trio.Event = field(default_factory=trio.Event)

    @property
    def caller(self) -> Caller:
        """What its requests may do: read what its owner may, until it ends."""
        return replace(self.owner, access=min(self.owner.access, Access.READ), session=self)

    def opens_wallets(self, key: str) -> bool:
        """Return whether a request with its cookie, for a path with this key, is of a wallet's page
        of its own."""
        if not self.wallet_key:
            return False
        return hmac.compare_digest(key.encode(errors="replace"), self.wallet_key.encode())

    def end(self) -> None:
        """Let it stand no more; so do streams that its pages have opened."""
        self._ended.set()

    def stands(self) -> bool:
        """Return whether it has not ended: by its button, by time, or with its owner's token."""
        if self._ended.is_set() or not self.owner.stands():
            return False
        return trio.current_time() < self._deadline

    @property
    def _deadline(self) -> float:
        return min(self.began + SESSION_SECONDS, self.used + IDLE_SECONDS)

    async def wait_revoked(self) -> None:
        """Return once it does not stand; its owner's token apart, which has a wait of its own."""
        while not self._ended.is_set() and trio.current_time() < self._deadline:
            with trio.move_on_at(self._deadline):
                await self._ended.wait()

    def check_csrf(self, given: bytes | None) -> None:
        """Raise `ForbiddenError` unless what a request gives is the session's CSRF token."""
        if given is None or not hmac.compare_digest(given, self.csrf.encode()):
            raise ForbiddenError(
                "a request of a session needs its CSRF token, in the header "
                f"{CSRF_HEADER.decode()} or the field {CSRF_FIELD} of a form: load the page anew",
                error="BAD_CSRF",
            )


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A request with a session's cookie. `proven`: a page of the session has sent it, or it changes
    nothing; else its form has to prove it, and until then nothing is done with the session's
    rights."""

    session: PageSession
    proven: bool

    def check_form(self, fields: Mapping[str, str]) -> None:
        """Raise `ForbiddenError` unless a page of the session has sent this form."""
        if not self.proven:
            given = fields.get(CSRF_FIELD)
            self.session.check_csrf(None if given is None else given.encode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Login:
    """A session that has begun, and the value of the header `Set-Cookie` that hands it over."""

    session: PageSession
    set_cookie: str


class Sessions:
    """The sessions of one server."""

    def __init__(self, *, randomness: Randomness = SYSTEM) -> None:
        self._randomness = randomness
        self._links: dict[bytes, tuple[Caller, float]] = {}
        self._sessions: dict[bytes, PageSession] = {}

    def __len__(self) -> int:
        """Return how many sessions there are."""
        return len(_kept(self._sessions, PageSession.stands))

    def link(self, caller: Caller) -> str:
        """Return a code that opens one session of a caller's, within a minute.

        Raises `BusyError` while too many wait to be opened.
        """
        now = trio.current_time()
        self._links = _kept(self._links, lambda link: link[1] > now and link[0].stands())
        if len(self._links) >= LINKS_MAX:
            raise BusyError("too many links wait to be opened", retry_after=int(LINK_SECONDS))
        code = self._randomness.token_bytes(_SECRET_BYTES).hex()
        self._links[_digest(code)] = (caller, now + LINK_SECONDS)
        return code

    def log_in(self, code: str, *, secure: bool) -> Login:
        """Begin the session that a code is for; no code works twice. `secure`: the page came over
        TLS, and the cookie shall go no other way. Raises `UnauthorizedError`."""
        caller, until = self._links.pop(_digest(code), (STRANGER, 0.0))
        if until <= trio.current_time() or not caller.stands():
            raise UnauthorizedError(
                "the link has been used, or is older than a minute: `unchained-node wallet page` "
                "gives another"
            )
        return self.begin(caller, secure=secure)

    def begin(self, caller: Caller, *, secure: bool) -> Login:
        """Begin a session of a caller's. `secure` as in `log_in`. Raises `BusyError` while all
        others are of callers with more rights."""
        self._make_room(caller.access)
        now = trio.current_time()
        secret, csrf, key = (self._randomness.token_bytes(_SECRET_BYTES).hex() for _ in range(3))
        wallet_key = key if caller.access >= Access.FULL else ""
        session = PageSession(caller, csrf, now, now, wallet_key)
        self._sessions[_digest(secret)] = session
        return Login(session, _cookie(secret, int(SESSION_SECONDS), secure=secure))

    def admit(self, method: str, headers: Mapping[bytes, bytes]) -> SessionRequest | None:
        """Return the session that a request by an HTTP method with these headers belongs to, None
        where it belongs to none.

        Raises `ForbiddenError` for one that would change something and was sent by no page of the
        session; where it is a form without the header, its field is for `check_form` to check.
        """
        session = self.find(headers.get(b"cookie"))
        if session is None:
            return None
        if method in ("GET", "HEAD"):
            return SessionRequest(session, proven=True)
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if CSRF_HEADER not in headers and kind == FORM_TYPE:
            return SessionRequest(session, proven=False)
        session.check_csrf(headers.get(CSRF_HEADER))
        return SessionRequest(session, proven=True)

    def find(self, cookie: bytes | None) -> PageSession | None:
        """Return the session of a request by its header `Cookie`, and note that it is in use; None
        without one, or where it has ended: then a page can still be asked for to log in."""
        match = _COOKIE.search((cookie or b"").decode("latin-1"))
        if match is None:
            return None
        key = _digest(match[1])
        session = self._sessions.get(key)
        if session is None or not session.stands():
            self._sessions.pop(key, None)
            return None
        session.used = trio.current_time()
        return session

    def log_out(self, session: PageSession, *, secure: bool) -> str:
        """End a session, and return the value of `Set-Cookie` that makes the browser forget it."""
        session.end()
        self._sessions = _kept(self._sessions, PageSession.stands)
        return _cookie("", 0, secure=secure)

    def _make_room(self, access: Access) -> None:
        rows = self._sessions = _kept(self._sessions, PageSession.stands)
        if len(rows) < SESSIONS_MAX:
            return
        least = min(rows, key=lambda key: (rows[key].owner.access, rows[key].used))
        if rows[least].owner.access > access:
            raise BusyError("too many are logged in", retry_after=int(IDLE_SECONDS))
        rows.pop(least).end()


def _kept(rows: dict[bytes, T], keep: Callable[[T], bool]) -> dict[bytes, T]:
    return {key: row for key, row in rows.items() if keep(row)}


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _cookie(value: str, seconds: int, *, secure: bool) -> str:
    flags = "; Secure" if secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{flags}"
