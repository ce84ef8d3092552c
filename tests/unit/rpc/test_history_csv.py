"""A history that leaves for a spreadsheet is text there."""

from __future__ import annotations

import csv
import io

import pytest

from unchained.node.rpc.client.history_csv import EXPORTED, HistoryCsv, plain_cell


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert plain_cell(text) == f"'{text}"
    assert plain_cell(f"a{text}") == f"a{text}"


def test_a_row_has_all_columns_whatever_others_wrote() -> None:
    out = io.StringIO(newline="")
    HistoryCsv(out).write(
        [
            {
                "time": 0,
                "kind": "received",
                "amount": "-1.50000000",
                "payees": [{"payee": "lunc1q"}, {"payee": "=x"}],
                "memos": ['=cmd|"x"!A1,;"'],
                "label": "@a",
                "id": "00",
            }
        ]
    )
    head, row = csv.reader(io.StringIO(out.getvalue()))
    assert tuple(head) == EXPORTED
    found = dict(zip(head, row, strict=True))
    assert found["time"] == "1970-01-01T00:00:00Z"
    assert found["amount"] == "-1.50000000"
    assert found["memos"] == '\'=cmd|"x"!A1,;"'
    assert found["label"] == "'@a"
    assert found["height"] == ""
