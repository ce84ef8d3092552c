"""The wallet's pages call what they name, and give all of a history."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unchained.node.rpc.core.errors import UnauthorizedError
from unchained.node.rpc.core.openrpc import Discovery
from unchained.node.rpc.core.registry import Access, Registry
from unchained.node.rpc.core.rights import NODE_OWNER, Caller
from unchained.node.rpc.http.sessions import Sessions
from unchained.node.rpc.methods.rooms import ROOMS
from unchained.node.rpc.web.reads import PageReads
from unchained.node.rpc.web.renderer import Renderer
from unchained.node.rpc.web.theme import THEMES
from unchained.node.rpc.web.views import Parts
from unchained.node.rpc.web.wallet_views import METHODS, ROWS_AT_ONCE, history_csv, overview

NODE = Registry(*ROOMS, Discovery)


class Gate:
    """Answers every method that its caller may call."""

    async def result(self, name: str, params: dict[str, Any], caller: Caller) -> bytes:
        caller.authorize(NODE[name], params)
        return b"1"


async def test_above_read_a_session_opens_what_the_wallets_pages_name_and_nothing_else() -> None:
    pages, session = PageReads(Gate(), METHODS), Sessions().begin(NODE_OWNER, secure=False).session
    for found in NODE.values():
        if found.access <= Access.READ:
            session.caller.authorize(found, {})
            continue
        # by its cookie alone, at the RPC
        with pytest.raises(UnauthorizedError):
            session.caller.authorize(found, {})
        if found.name in METHODS:
            assert await pages.get(found.name) == 1
        else:
            with pytest.raises(UnauthorizedError):
                await pages.get(found.name)
    assert {name for name in METHODS if NODE[name].access is Access.FULL} == METHODS


class Methods:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    async def result(self, name: str, params: dict[str, Any], caller: Caller) -> bytes:
        assert (name, caller.access) == ("wallet.history", Access.FULL)
        ids = [row["id"] for row in self.rows]
        first = ids.index(params["after"]) + 1 if "after" in params else 0
        return msgspec.json.encode(self.rows[first : first + params["limit"]])


async def test_all_rows_come() -> None:
    count = 2 * ROWS_AT_ONCE + 3
    rows = [{"id": f"{number:064x}"} for number in range(count)]
    raw = await history_csv(PageReads(Methods(rows), METHODS), {"wallet": "w"})
    assert [line.rpartition(",")[2] for line in raw.decode().splitlines()[1:]] == [
        row["id"] for row in rows
    ]


class DamagedWallet:
    """A node whose wallet is not followed any more."""

    async def result(self, name: str, params: dict[str, Any], caller: Caller) -> bytes:
        entry = {"wallet": "w", "open": True, "failure": "a page is <gone>"}
        answers = {"wallet.list": [entry], "wallet.info": entry}
        return msgspec.json.encode(answers[name])


async def test_of_a_wallet_that_is_followed_no_more_the_page_says_why_and_no_sum() -> None:
    facts = await overview(PageReads(DamagedWallet(), METHODS), {"wallet": "w"})
    shown = {
        "facts": facts,
        "title": "Wallet",
        "network": "reg",
        "now": 0,
        "pages": [],
        "wallet_path": "/wallet",
        "csrf": "0",
        "theme": "",
        "themes": THEMES,
        "here": "/",
        "path": "/",
        "page": "wallet",
        "parts": Parts({}),
    }
    page = Renderer().render("wallet.html", shown).decode()
    assert "This wallet does not follow the chain: a page is &lt;gone&gt;" in page
    assert "can be spent" not in page
