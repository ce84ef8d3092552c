"""Sessions of the page begin by a token or a link, and end."""

from __future__ import annotations

import pytest

from unchained.node.rpc.core.errors import ForbiddenError, UnauthorizedError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.web.page_sessions import (
    PAGE_LINK_S,
    SESSION_HOURS,
    SESSIONS_MAX,
    PageSessions,
)


class Clock:
    def __init__(self) -> None:
        self.ms = 10**12

    def now_ms(self) -> int:
        return self.ms


def test_a_session_lasts_its_hours_and_no_longer() -> None:
    clock = Clock()
    sessions = PageSessions(clock)
    secret = sessions.begin(Access.READ)
    clock.ms += SESSION_HOURS * 3_600_000 - 1
    found = sessions.find(secret)
    assert found is not None
    assert found.access is Access.READ
    clock.ms += 1
    assert sessions.find(secret) is None


def test_only_its_own_secret_opens_a_session() -> None:
    sessions = PageSessions(Clock())
    one, other = sessions.begin(Access.READ), sessions.begin(Access.FULL)
    for wrong in (None, "", one[:-1], one + "0", "0" * 64, "ä" * 64):
        assert sessions.find(wrong) is None
    sessions.end(one)
    sessions.end(None)
    assert sessions.find(one) is None
    assert sessions.find(other) is not None


def test_a_link_works_once_and_within_its_time() -> None:
    clock = Clock()
    sessions = PageSessions(clock)
    code = sessions.link()
    found = sessions.find(sessions.open_link(code))
    assert found is not None
    assert found.access is Access.FULL
    with pytest.raises(UnauthorizedError, match="wallet page"):
        sessions.open_link(code)
    late = sessions.link()
    clock.ms += PAGE_LINK_S * 1000
    with pytest.raises(UnauthorizedError):
        sessions.open_link(late)
    assert sessions.find(code) is None


def test_there_are_so_many_at_a_time() -> None:
    sessions = PageSessions(Clock())
    first = sessions.begin(Access.READ)
    others = [sessions.begin(Access.READ) for _ in range(SESSIONS_MAX)]
    assert sessions.find(first) is None
    assert all(sessions.find(secret) for secret in others)
    oldest = sessions.link()
    for _ in range(SESSIONS_MAX):
        sessions.link()
    with pytest.raises(UnauthorizedError):
        sessions.open_link(oldest)


def test_a_form_is_of_its_session_alone() -> None:
    sessions = PageSessions(Clock())
    one, other = (sessions.find(sessions.begin(Access.FULL)) for _ in range(2))
    assert one is not None
    assert other is not None
    one.check_form(one.csrf)
    for wrong in ("", other.csrf, one.csrf[:-1], "ä"):
        with pytest.raises(ForbiddenError):
            one.check_form(wrong)
