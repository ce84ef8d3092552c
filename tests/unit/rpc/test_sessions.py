"""Sessions of pages: one login by each link, an end to each session."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from unchained.node.base.clock import SystemClock
from unchained.node.rpc.core.errors import BusyError, ForbiddenError, UnauthorizedError
from unchained.node.rpc.core.registry import Access, Scope
from unchained.node.rpc.core.rights import NODE_OWNER, Caller
from unchained.node.rpc.http.sessions import (
    COOKIE,
    CSRF_HEADER,
    FORM_TYPE,
    IDLE_SECONDS,
    LINK_SECONDS,
    LINKS_MAX,
    SESSION_SECONDS,
    SESSIONS_MAX,
    Sessions,
)
from unchained.node.rpc.http.tokens import TokenBook


def cookie_of(set_cookie: str) -> bytes:
    return set_cookie.partition(";")[0].encode()


async def test_a_link_opens_one_session() -> None:
    sessions = Sessions()
    reader = Caller(Access.READ)
    code = sessions.link(reader)
    login = sessions.log_in(code, secure=False)
    assert login.session.owner is reader
    assert sessions.find(cookie_of(login.set_cookie)) is login.session
    with pytest.raises(UnauthorizedError, match=r"has been used.*wallet page"):
        sessions.log_in(code, secure=False)
    for wrong in ("", "00" * 32, "\udc80"):
        with pytest.raises(UnauthorizedError):
            sessions.log_in(wrong, secure=False)


async def test_a_session_reads_and_opens_wallets_by_its_own_key_alone() -> None:
    """The cookie goes to every port of the host: alone it is worth what the read token is."""
    sessions = Sessions()
    one, other = (sessions.begin(NODE_OWNER, secure=False).session for _ in range(2))
    reader = sessions.begin(Caller(Access.READ), secure=False).session
    for session in (one, other, reader):
        assert (session.caller.access, session.caller.rights) == (Access.READ, None)
    assert one.opens_wallets(one.wallet_key)
    for wrong in (other.wallet_key, one.csrf, one.wallet_key[:-1], "", "ä", "\udc80"):
        assert not one.opens_wallets(wrong)
    assert not reader.opens_wallets("")


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


async def test_who_has_less_logs_nobody_out_who_has_more() -> None:
    sessions = Sessions()
    reader = Caller(Access.READ)
    first = sessions.begin(reader, secure=False)
    owner = sessions.log_in(sessions.link(NODE_OWNER), secure=False)
    for _ in range(2 * SESSIONS_MAX):
        await trio.sleep(0.01)
        sessions.begin(reader, secure=False)
    assert sessions.find(cookie_of(owner.set_cookie)) is owner.session
    assert sessions.find(cookie_of(first.set_cookie)) is None
    assert len(sessions) == SESSIONS_MAX
    for _ in range(SESSIONS_MAX):
        await trio.sleep(0.01)
        sessions.begin(NODE_OWNER, secure=False)
    with pytest.raises(BusyError):
        sessions.begin(reader, secure=False)
    assert sessions.find(cookie_of(owner.set_cookie)) is None


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
    one, other = (sessions.log_in(sessions.link(NODE_OWNER), secure=False) for _ in range(2))
    cookie, right = cookie_of(one.set_cookie), one.session.csrf.encode()
    for reading in ("GET", "HEAD"):
        read = sessions.admit(reading, {b"cookie": cookie})
        assert read is not None
        assert (read.session, read.proven) == (one.session, True)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "get"):
        for kind in (b"application/json", b"text/plain", b"multipart/form-data", None):
            headers = {b"cookie": cookie} | ({} if kind is None else {b"content-type": kind})
            with pytest.raises(ForbiddenError, match="CSRF"):
                sessions.admit(method, headers)
            written = sessions.admit(method, headers | {CSRF_HEADER: right})
            assert written is not None
            assert written.proven
    wrong = (b"", other.session.csrf.encode(), right[:-1], right + b"0", "ä".encode())
    for kind in (b"application/json", FORM_TYPE):
        for given in wrong:
            headers = {b"cookie": cookie, b"content-type": kind, CSRF_HEADER: given}
            with pytest.raises(ForbiddenError, match="CSRF"):
                sessions.admit("POST", headers)
    assert sessions.admit("POST", {b"content-type": FORM_TYPE, CSRF_HEADER: right}) is None


async def test_a_form_may_give_the_csrf_token_in_a_field() -> None:
    sessions = Sessions()
    one, other = (sessions.begin(NODE_OWNER, secure=False) for _ in range(2))
    cookie = cookie_of(one.set_cookie)
    for kind in (FORM_TYPE, FORM_TYPE.upper() + b"; charset=utf-8"):
        form = sessions.admit("POST", {b"cookie": cookie, b"content-type": kind})
        assert form is not None
        assert not form.proven
        form.check_form({"csrf": one.session.csrf, "other": "x"})
        for wrong in ("", other.session.csrf, one.session.csrf[:-1], "ä", "\udc80"):
            with pytest.raises(ForbiddenError, match="CSRF"):
                form.check_form({"csrf": wrong})
        with pytest.raises(ForbiddenError, match="CSRF"):
            form.check_form({})
    # What the header has proven needs no field.
    headers = {b"cookie": cookie, b"content-type": FORM_TYPE}
    proven = sessions.admit("POST", headers | {CSRF_HEADER: one.session.csrf.encode()})
    assert proven is not None
    proven.check_form({})


@pytest.mark.parametrize("how", ["revoked", "wallet forgotten", "wallet renamed"])
async def test_sessions_and_links_end_with_the_token_that_they_were_made_with(
    how: str, tmp_path: Path
) -> None:
    book = TokenBook(tmp_path / "rpc.tokens", SystemClock())
    token, secret = book.create("shop", [Scope.READ])
    _, other_secret = book.create("other", [Scope.READ])
    caller, other = book.caller(secret), book.caller(other_secret)
    assert caller is not None
    assert other is not None
    sessions = Sessions()
    link = sessions.link(caller)
    ended, kept, owners = (
        cookie_of(sessions.begin(who, secure=False).set_cookie)
        for who in (caller, other, NODE_OWNER)
    )
    assert sessions.find(ended) is not None
    if how == "revoked":
        assert book.revoke(token.id)
    elif how == "wallet forgotten":
        book.forget_wallet("shop")
    else:
        # Its rights name a wallet that another one may be called by.
        book.rename_wallet("shop", "store")
    assert sessions.find(ended) is None
    with pytest.raises(UnauthorizedError):
        sessions.log_in(link, secure=False)
    assert sessions.find(kept) is not None
    assert sessions.find(owners) is not None
    assert len(sessions) == 2


async def test_only_digests_are_kept() -> None:
    sessions = Sessions()
    code = sessions.link(NODE_OWNER)
    secret = cookie_of(sessions.begin(NODE_OWNER, secure=False).set_cookie).partition(b"=")[2]
    kept = {repr(key) for rows in (sessions._links, sessions._sessions) for key in rows}
    assert len(kept) == 2
    for text in (code, secret.decode()):
        assert not any(text in row or repr(bytes.fromhex(text)) == row for row in kept)


async def test_other_cookies_are_no_session() -> None:
    sessions = Sessions()
    login = sessions.log_in(sessions.link(NODE_OWNER), secure=False)
    ours = cookie_of(login.set_cookie)
    assert sessions.find(None) is None
    assert sessions.find(b"theme=dark") is None
    assert sessions.find(b"not" + ours) is None
    assert sessions.find(b"theme=dark; " + ours + b"; a=b") is login.session
    assert sessions.find(f"{COOKIE}={'00' * 32}".encode()) is None
    for wrong in (ours[:-1], ours + b"0", ours.upper(), f"{COOKIE}={'ä' * 64}".encode()):
        assert sessions.find(wrong) is None


async def test_what_a_session_has_open_ends_with_it() -> None:
    sessions = Sessions()

    async def begun() -> tuple[Caller, bytes]:
        login = sessions.begin(NODE_OWNER, secure=False)
        return login.session.caller, cookie_of(login.set_cookie)

    ended: list[str] = []

    async def follow(name: str, caller: Caller) -> None:
        await caller.wait_revoked()
        assert not caller.stands()
        ended.append(name)

    async with trio.open_nursery() as nursery:
        left, cookie = await begun()
        idle, _ = await begun()
        used, used_cookie = await begun()
        for name, caller in (("left", left), ("idle", idle), ("used", used)):
            assert caller.stands()
            assert caller.access is Access.READ
            nursery.start_soon(follow, name, caller)
        await trio.testing.wait_all_tasks_blocked()
        session = sessions.find(cookie)
        assert session is not None
        sessions.log_out(session, secure=False)
        await trio.testing.wait_all_tasks_blocked()
        assert ended == ["left"]
        for _ in range(3):
            await trio.sleep(IDLE_SECONDS / 2)
            assert sessions.find(used_cookie) is not None
        assert ended == ["left", "idle"]
        for _ in range(SESSIONS_MAX):
            await trio.sleep(1)
            sessions.begin(NODE_OWNER, secure=False)
        await trio.testing.wait_all_tasks_blocked()
        # it made room
        assert ended == ["left", "idle", "used"]
