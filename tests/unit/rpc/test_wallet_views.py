"""The wallet's page gives all of a history."""

from __future__ import annotations

from typing import Any

import msgspec

from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import Caller
from unchained.node.rpc.web.reads import PageReads
from unchained.node.rpc.web.wallet_views import ROWS_AT_ONCE, history_csv


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
    raw = await history_csv(PageReads(Methods(rows), Access.FULL), {"wallet": "w"})
    assert [line.rpartition(",")[2] for line in raw.decode().splitlines()[1:]] == [
        row["id"] for row in rows
    ]
