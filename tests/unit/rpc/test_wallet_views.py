"""What leaves the wallet's page for a spreadsheet is text there."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
import pytest

from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.web.reads import PageReads
from unchained.node.rpc.web.wallet_views import CSV_COLUMNS, ROWS_AT_ONCE, history_csv, plain_cell


class Methods:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    async def result(self, name: str, params: dict[str, Any], access: Access) -> bytes:
        assert (name, access) == ("wallet.history", Access.FULL)
        first = params["offset"]
        return msgspec.json.encode(self.rows[first : first + params["limit"]])


def item(number: int, memo: str = "") -> dict[str, Any]:
    return {
        "id": f"{number:064x}",
        "minted": False,
        "height": None,
        "confirmations": 0,
        "time": number,
        "received": "1.00000000",
        "sent": "0.00000000",
        "fee": None,
        "label": memo,
        "payees": [{"payee": "lunc1q", "amount": "1.5"}],
        "memos": [memo],
    }


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert plain_cell(text) == f"'{text}"
    assert plain_cell(f"a{text}") == f"a{text}"


async def test_all_rows_come_each_with_all_columns() -> None:
    count = 2 * ROWS_AT_ONCE + 3
    rows = [item(number) for number in range(count)]
    rows[5] = item(5, '=cmd|"x"!A1\n,;"')
    raw = await history_csv(PageReads(Methods(rows), Access.FULL), {"wallet": "w"})
    read = list(csv.reader(io.StringIO(raw.decode())))
    assert tuple(read[0]) == CSV_COLUMNS
    assert len(read) == count + 1
    assert {len(row) for row in read} == {len(CSV_COLUMNS)}
    assert read[6][-1] == '\'=cmd|"x"!A1\n,;"'
