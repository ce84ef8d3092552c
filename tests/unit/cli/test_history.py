"""The history as a person and a spreadsheet see it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
import typer

from unchained.node.cli import history, invoice, main
from unchained.node.cli.asker import Asker, CommandFailedError
from unchained.node.cli.history import _csv, _json, _moment, _pages, _row
from unchained.node.cli.tables import table_lines

ITEM: dict[str, Any] = {
    "id": "ab" * 32,
    "kind": "received",
    "status": "included",
    "amount": "1.50000000",
    "received": "1.50000000",
    "sent": "0.00000000",
    "confirmations": 7,
    "label": "",
    "payees": [],
    "memos": ["=cmd()"],
    "invoices": ["0011223344556677"],
    "sequence": 3,
    "height": 9,
    "time": 1_795_219_200_500,
}


@pytest.fixture(autouse=True)
def _no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


class Node:
    """Answers for a history of some entries, of which only so many fit into an answer."""

    def __init__(self, count: int, fits: int) -> None:
        self.ids = [f"{at:064x}" for at in range(count)]
        self.fits = fits
        self.asked: list[int] = []

    def call_with(self, method: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        assert method == "wallet.history"
        self.asked.append(params["limit"])
        first = self.ids.index(params["after"]) + 1 if "after" in params else 0
        page = self.ids[first : first + params["limit"]]
        if len(page) > self.fits:
            raise CommandFailedError("the answer is above 8 bytes", "TOO_LARGE")
        return [ITEM | {"id": one} for one in page]


def test_pages_reach_the_end_whatever_fits_into_an_answer() -> None:
    for count, fits in ((0, 5), (2_500, 10_000), (2_500, 300), (7, 1)):
        node = Node(count, fits)
        found = [item["id"] for page in _pages(node, {}, None, None) for item in page]  # type: ignore[arg-type]
        assert found == node.ids
    node = Node(2_500, 10_000)
    pages = list(_pages(node, {}, 1_200, None))  # type: ignore[arg-type]
    assert [len(page) for page in pages] == [1_000, 200]
    with pytest.raises(CommandFailedError):
        list(_pages(Node(3, 0), {}, None, None))  # type: ignore[arg-type]


def test_a_spreadsheet_takes_nothing_for_a_formula() -> None:
    file = io.StringIO()
    waiting = {name: value for name, value in ITEM.items() if name not in ("height", "time")}
    _csv(iter([[ITEM, waiting | {"amount": "-0.50000000", "label": "@x\x1b[2J"}]]), file)
    first, second = csv.DictReader(io.StringIO(file.getvalue()))
    assert (first["memos"], first["time"]) == ("'=cmd()", "2026-11-21T00:00:00Z")
    assert (second["amount"], second["label"]) == ("-0.50000000", "'@x?[2J")
    assert (second["time"], second["height"], second["fee"]) == ("", "", "")


def test_json_is_one_array() -> None:
    for pages in ([], [[ITEM], [ITEM, ITEM]]):
        file = io.StringIO()
        _json(iter(pages), file)
        assert json.loads(file.getvalue()) == [item for page in pages for item in page]


def test_a_row_says_nothing_where_there_is_nothing_to_say() -> None:
    bare = {name: value for name, value in ITEM.items() if name not in ("height", "time")}
    row = _row(bare | {"status": "waiting"})
    assert (row["time"], row["fee"], row["amount"]) == ("", "", "+1.50000000")
    assert row["confirmations"] == "waiting"
    assert row["note"] == "=cmd(); invoice 0011223344556677"


def test_times_are_read_in_utc() -> None:
    assert _moment(None, "--since") is None
    assert _moment("2026-11-29", "--since") == 1_795_910_400_000
    assert _moment("2026-11-29T12:00+02:00", "--since") == 1_795_910_400_000 + 10 * 3_600_000
    for wrong in ("yesterday", "1960-01-01", "2026-13-01", "9" * 99):
        with pytest.raises(typer.BadParameter):
            _moment(wrong, "--since")


@pytest.mark.parametrize(
    "note", ["", "rent", "for the second half of the year, as agreed", "x" * 70]
)
@pytest.mark.parametrize(
    "payee",
    [
        {"payee": "lunc1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s5k4n9z"},
        {"payee": "A" * 1_700},
        {"payee": "lunc1x", "alias": "bob"},
    ],
)
def test_the_history_is_a_table_at_80_columns(note: str, payee: dict[str, str]) -> None:
    paid = {"payees": [payee | {"memo": note, "amount": "1.00000000"}], "label": note}
    waiting = {name: value for name, value in ITEM.items() if name not in ("height", "time")}
    rows = [
        _row(ITEM | paid | {"amount": "-1234.50000000", "fee": "0.00000310", "memos": []}),
        _row(waiting | paid | {"status": "waiting"}),
    ]
    lines = table_lines(rows, history.HISTORY_COLUMNS_ON_TERMINAL, 80)
    assert lines[0].split() == ["when", "kind", "amount", "details", "votes", "id"]
    assert all(len(line) <= 80 for line in lines)
    assert payee.get("alias", payee["payee"][:6]) in "\n".join(lines)
    assert "2026-11-21 00:00" in lines[1]


def test_invoices_are_a_table_at_80_columns() -> None:
    row = {
        "made": "2026-11-21",
        "status": "partly_paid",
        "amount": "12.50000000",
        "received": "2.50000000",
        "label": "order 7, to be fetched",
        "id": "0011223344556677",
    }
    lines = table_lines([row], invoice.INVOICE_COLUMNS_ON_TERMINAL, 80)
    assert lines[0].split() == list(invoice.INVOICE_COLUMNS_ON_TERMINAL)
    assert all(len(line) <= 80 for line in lines)
    assert row["id"] in lines[1]


class HistoryNode:
    """Answers with one entry and one day of mining; nothing has the label Miete."""

    def call(self, method: str, params: Mapping[str, Any], **_: object) -> list[dict[str, Any]]:
        if params.get("label") == "Miete":
            return []
        if method == "wallet.mined":
            span = {"first_height": 1, "last_height": 8, "time": ITEM["time"]}
            return [{"day": "2026-11-21", "coins": 2, "amount": "2.00000000", **span}]
        return [ITEM] if method == "wallet.history" else []


@pytest.mark.parametrize("terminal", [True, False])
def test_all_columns_are_members_none_of_them_twice(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Asker, "_connected", lambda _: HistoryNode())
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "400")
    assert main.run(["wallet", "history", "--columns", "all"]) == 0
    titles, *rows = capsys.readouterr().out.splitlines()
    assert titles.split() == [*history.HISTORY_COLUMNS, "status"]
    assert "order" not in titles
    assert "(False" not in "".join(rows)
    assert main.run(["wallet", "history"]) == 0
    titles = capsys.readouterr().out.splitlines()[0].split()
    brief = history.HISTORY_COLUMNS_ON_TERMINAL
    assert titles == list(brief if terminal else history.HISTORY_COLUMNS)


def test_a_choice_that_finds_nothing_is_not_called_an_empty_history(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Asker, "_connected", lambda _: HistoryNode())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for command, said in (
        (["history", "--label", "Miete"], "nothing matches"),
        (["invoices", "--status", "paid"], "no invoices of that status"),
    ):
        assert main.run(["wallet", *command]) == 0
        assert capsys.readouterr().out == f"{said}\n"


def test_what_was_sent_of_a_contract_says_how_much_and_to_whom() -> None:
    paid = {"payee": "p" * 70, "amount": "0.12500000", "memo": "", "alias": "baker"}
    row = _row(ITEM | {"kind": "contract", "amount": "0.00000000", "payees": [paid], "memos": []})
    assert (row["amount"], row["details"].split(";")[0]) == ("0.00000000", "0.125 to baker")
