"""Sessions of web pages: a cookie in place of an Authorization header.

Whoever may call the node asks for a link that works once and for a minute; the browser that opens
it gets a session with the same rights. Sessions live in memory alone: a restart ends them all. Only
digests are kept of what opens them.

The cookie is HttpOnly and SameSite=Strict. What changes something takes the session's CSRF token in
a header as well, which the page has and other origins' pages have not.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.rpc.core.errors import BusyError, ForbiddenError, UnauthorizedError
from unchained.node.rpc.core.rights import Caller

COOKIE: Final = "unchained_session"
"""Name of the cookie."""

CSRF_HEADER: Final = b"x-csrf-token"
"""The header, in lower case, that holds the session's CSRF token."""

LINK_SECONDS: Final = 60.0
"""How long a link for logging in works."""

IDLE_SECONDS: Final = 30 * 60.0
"""How long a session lasts without a request."""

SESSION_SECONDS: Final = 12 * 60 * 60.0
"""How long a session lasts at most."""

SESSIONS_MAX: Final = 64
"""Sessions that there can be at a time: the one that was idle longest makes room."""

LINKS_MAX: Final = 64
"""Links that wait to be opened at a time."""

_SECRET_BYTES: Final = 32
_COOKIE: Final = re.compile(rf"(?:^|;\s*){COOKIE}=([0-9a-f]{{{2 * _SECRET_BYTES}}})(?:;|$)")

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class PageSession:
    """One browser's session. `csrf` is what its page sends along in `CSRF_HEADER`; times are on
    Trio's clock."""

    caller: Caller
    csrf: str
    began: float
    used: float

    def check_csrf(self, header: bytes | None) -> None:
        """Raise `ForbiddenError` unless a request's CSRF header is the session's."""
        if header is None or not hmac.compare_digest(header, self.csrf.encode()):
            raise ForbiddenError(
                f"a request of a session needs its CSRF token in the header {CSRF_HEADER.decode()}",
                error="BAD_CSRF",
            )


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
        return len(_kept(self._sessions, _lives))

    def link(self, caller: Caller) -> str:
        """Return a code that opens one session with the rights of a caller, within a minute.

        Raises `BusyError` while too many wait to be opened.
        """
        now = trio.current_time()
        self._links = _kept(self._links, lambda link: link[1] > now)
        if len(self._links) >= LINKS_MAX:
            raise BusyError("too many links wait to be opened", retry_after=int(LINK_SECONDS))
        code = self._randomness.token_bytes(_SECRET_BYTES).hex()
        self._links[_digest(code)] = (caller, now + LINK_SECONDS)
        return code

    def log_in(self, code: str, *, secure: bool) -> Login:
        """Begin the session that a code is for; no code works twice. `secure`: the page came over
        TLS, and the cookie shall go no other way. Raises `UnauthorizedError`."""
        caller, until = self._links.pop(_digest(code), (None, 0.0))
        now = trio.current_time()
        if caller is None or until <= now:
            raise UnauthorizedError("the link has been used, or is older than a minute")
        self._make_room()
        secret, csrf = (self._randomness.token_bytes(_SECRET_BYTES).hex() for _ in range(2))
        session = PageSession(caller, csrf, now, now)
        self._sessions[_digest(secret)] = session
        return Login(session, _cookie(secret, int(SESSION_SECONDS), secure=secure))

    def find(self, cookie: bytes | None) -> PageSession | None:
        """Return the session of a request by its header `Cookie`, and note that it is in use; None
        without one, or where it has ended: then a page can still be asked for to log in."""
        match = _COOKIE.search((cookie or b"").decode("latin-1"))
        if match is None:
            return None
        key = _digest(match[1])
        session = self._sessions.get(key)
        if session is None or not _lives(session):
            self._sessions.pop(key, None)
            return None
        session.used = trio.current_time()
        return session

    def log_out(self, session: PageSession, *, secure: bool) -> str:
        """End a session, and return the value of `Set-Cookie` that makes the browser forget it."""
        self._sessions = _kept(self._sessions, lambda kept: kept is not session)
        return _cookie("", 0, secure=secure)

    def _make_room(self) -> None:
        self._sessions = _kept(self._sessions, _lives)
        if len(self._sessions) >= SESSIONS_MAX:
            idle = min(self._sessions, key=lambda key: self._sessions[key].used)
            del self._sessions[idle]


def _lives(session: PageSession) -> bool:
    now = trio.current_time()
    return now < session.began + SESSION_SECONDS and now < session.used + IDLE_SECONDS


def _kept(rows: dict[bytes, T], keep: Callable[[T], bool]) -> dict[bytes, T]:
    return {key: row for key, row in rows.items() if keep(row)}


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _cookie(value: str, seconds: int, *, secure: bool) -> str:
    flags = "; Secure" if secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{flags}"
