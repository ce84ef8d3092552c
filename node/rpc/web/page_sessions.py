"""Sessions of browsers, begun by a token or a link: kept in memory, gone with the node.

A form carries its session's `csrf` in a field, so that it works without script.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import Final

import msgspec

from unchained.node.base.clock import Clock
from unchained.node.base.randomness import SYSTEM
from unchained.node.rpc.core.errors import ForbiddenError, UnauthorizedError
from unchained.node.rpc.core.registry import Access

SESSION_NAME: Final = "unchained-page"
"""Name of the cookie."""

SESSION_HOURS: Final = 12
SESSIONS_MAX: Final = 64
"""Sessions, and links, at a time; the one made longest ago goes first."""

PAGE_LINK_S: Final = 60
"""Seconds that a link for logging in works, once."""

_TOKEN_BYTES: Final = 32
_TOKEN_DIGITS: Final = 2 * _TOKEN_BYTES


class BrowserSession(msgspec.Struct, frozen=True):
    """What a browser may see and do; `csrf` comes with its forms. `until` in ms."""

    access: Access
    csrf: str
    until: int

    def check_form(self, csrf: str) -> None:
        """Raise ForbiddenError unless a form is of this session's pages."""
        if not hmac.compare_digest(self.csrf.encode(), csrf.encode(errors="replace")):
            raise ForbiddenError("the form is not of this session: load it anew", error="BAD_CSRF")


class PageSessions:
    """Who has logged in; knows no more of secrets than their digests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: OrderedDict[bytes, BrowserSession] = OrderedDict()
        self._links: OrderedDict[bytes, int] = OrderedDict()

    def begin(self, access: Access) -> str:
        """Return the secret of a fresh session."""
        secret = _secret()
        until = self._clock.now_ms() + SESSION_HOURS * 3_600_000
        self._sessions[_digest(secret)] = BrowserSession(access, _secret(), until)
        _bound(self._sessions)
        return secret

    def find(self, secret: str | None) -> BrowserSession | None:
        """Return the session that a secret opens, if there is one which has not ended."""
        if secret is None or len(secret) != _TOKEN_DIGITS:
            return None
        key = _digest(secret)
        session = self._sessions.get(key)
        if session is None or session.until > self._clock.now_ms():
            return session
        del self._sessions[key]
        return None

    def end(self, secret: str | None) -> None:
        """End a session, if there is such a one."""
        if secret is not None:
            self._sessions.pop(_digest(secret), None)

    def link(self) -> str:
        """Return a code that begins one session with full access, within a minute."""
        code = _secret()
        self._links[_digest(code)] = self._clock.now_ms() + PAGE_LINK_S * 1000
        _bound(self._links)
        return code

    def open_link(self, code: str) -> str:
        """Return the secret of the session that a code begins; no code works twice. Raises
        UnauthorizedError."""
        until = self._links.pop(_digest(code), 0)
        if until <= self._clock.now_ms():
            raise UnauthorizedError(
                f"the link has been used or is older than {PAGE_LINK_S} s: "
                "`unchained-node wallet page` gives another"
            )
        return self.begin(Access.FULL)


def _bound(kept: OrderedDict[bytes, BrowserSession] | OrderedDict[bytes, int]) -> None:
    while len(kept) > SESSIONS_MAX:
        kept.popitem(last=False)


def _secret() -> str:
    return SYSTEM.token_bytes(_TOKEN_BYTES).hex()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
