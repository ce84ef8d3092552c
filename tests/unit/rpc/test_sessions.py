"""Sessions of pages: one login by each link, an end to each session."""

from __future__ import annotations

import pytest
import trio

from unchained.node.rpc.core.errors import BusyError, ForbiddenError, UnauthorizedError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import NODE_OWNER, Caller
from unchained.node.rpc.http.sessions import (
    COOKIE,
    IDLE_SECONDS,
    LINK_SECONDS,
    LINKS_MAX,
    SESSION_SECONDS,
    SESSIONS_MAX,
    Sessions,
)


def cookie_of(set_cookie: str) -> bytes:
    return set_cookie.partition(";")[0].encode()


async def test_a_link_opens_one_session_with_the_rights_of_who_asked() -> None:
    sessions = Sessions()
    reader = Caller(Access.READ)
    code = sessions.link(reader)
    login = sessions.log_in(code, secure=False)
    assert login.session.caller is reader
    assert sessions.find(cookie_of(login.set_cookie)) is login.session
    with pytest.raises(UnauthorizedError, match="has been used"):
        sessions.log_in(code, secure=False)
    for wrong in ("", "00" * 32, "\udc80"):
        with pytest.raises(UnauthorizedError):
            sessions.log_in(wrong, secure=False)


async def test_a_link_works_for_a_minute() -> None:
    sessions = Sessions()
    early, late = sessions.link(NODE_OWNER), sessions.link(NODE_OWNER)
    await trio.sleep(LINK_SECONDS - 1)
    sessions.log_in(early, secure=False)
    await trio.sleep(1)
    with pytest.raises(UnauthorizedError, match="older than a minute"):
        sessions.log_in(late, secure=False)


async def test_links_that_nobody_opens_are_bounded() -> None:
    sessions = Sessions()
    for _ in range(LINKS_MAX):
        sessions.link(NODE_OWNER)
    with pytest.raises(BusyError):
        sessions.link(NODE_OWNER)
    await trio.sleep(LINK_SECONDS)
    sessions.link(NODE_OWNER)


async def test_the_cookie_is_kept_from_scripts_and_other_sites() -> None:
    sessions = Sessions()
    plain = sessions.log_in(sessions.link(NODE_OWNER), secure=False).set_cookie
    secure = sessions.log_in(sessions.link(NODE_OWNER), secure=True).set_cookie
    for text in (plain, secure):
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} < set(text.split("; "))
    assert "Secure" not in plain
    assert secure.endswith("; Secure")


async def test_a_session_ends_when_idle_and_in_any_case() -> None:
    sessions = Sessions()
    used, idle = (sessions.log_in(sessions.link(NODE_OWNER), secure=False) for _ in range(2))
    cookie = cookie_of(used.set_cookie)
    while trio.current_time() - used.session.began + IDLE_SECONDS / 2 < SESSION_SECONDS:
        await trio.sleep(IDLE_SECONDS / 2)
        assert sessions.find(cookie) is used.session
    assert sessions.find(cookie_of(idle.set_cookie)) is None
    await trio.sleep(IDLE_SECONDS / 2)
    assert sessions.find(cookie) is None
    assert len(sessions) == 0


async def test_logging_out_ends_the_session_alone() -> None:
    sessions = Sessions()
    first, second = (sessions.log_in(sessions.link(NODE_OWNER), secure=False) for _ in range(2))
    gone = sessions.log_out(first.session, secure=False)
    assert gone.startswith(f"{COOKIE}=; ")
    assert "Max-Age=0" in gone
    assert sessions.find(cookie_of(first.set_cookie)) is None
    assert sessions.find(cookie_of(second.set_cookie)) is second.session


async def test_the_session_that_was_idle_longest_makes_room() -> None:
    sessions = Sessions()
    logins = []
    for _ in range(SESSIONS_MAX):
        logins.append(sessions.log_in(sessions.link(NODE_OWNER), secure=False))
        await trio.sleep(1)
    sessions.find(cookie_of(logins[0].set_cookie))
    sessions.log_in(sessions.link(NODE_OWNER), secure=False)
    assert len(sessions) == SESSIONS_MAX
    assert sessions.find(cookie_of(logins[0].set_cookie)) is logins[0].session
    assert sessions.find(cookie_of(logins[1].set_cookie)) is None


async def test_what_changes_something_takes_the_csrf_token() -> None:
    sessions = Sessions()
    session, other = (
        sessions.log_in(sessions.link(NODE_OWNER), secure=False).session for _ in range(2)
    )
    session.check_csrf(session.csrf.encode())
    for wrong in (None, b"", other.csrf.encode(), session.csrf.encode() + b"0"):
        with pytest.raises(ForbiddenError, match="CSRF"):
            session.check_csrf(wrong)


async def test_other_cookies_are_no_session() -> None:
    sessions = Sessions()
    login = sessions.log_in(sessions.link(NODE_OWNER), secure=False)
    ours = cookie_of(login.set_cookie)
    assert sessions.find(None) is None
    assert sessions.find(b"theme=dark") is None
    assert sessions.find(b"not" + ours) is None
    assert sessions.find(b"theme=dark; " + ours + b"; a=b") is login.session
    assert sessions.find(f"{COOKIE}={'00' * 32}".encode()) is None
