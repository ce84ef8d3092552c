"""What people are shown fits their terminal, and no id or amount is broken."""

from __future__ import annotations

import re
import sys

import pytest

from unchained.node.cli import main, tables
from unchained.node.cli.tables import field_lines, short_id, table_lines

COLUMNS = 80
IDS = [f"{number:064x}"[::-1] for number in range(1, 4)]
AMOUNT = "123456789.12345678"
WHEN = 1_795_219_200_000
MOMENT = "2026-11-21 00:00:00Z"
LONG = "for the second half of the year, as agreed in the letter of the third of March"


@pytest.fixture(autouse=True)
def _no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def rows(**members: object) -> list[dict[str, object]]:
    return [{"id": id_, "amount": AMOUNT, "time": WHEN, **members} for id_ in IDS]


def whole(lines: list[str], *texts: str) -> None:
    """See that every text stands in one piece on one line."""
    for text in texts:
        assert any(re.search(rf"(?<!\S){re.escape(text)}(?!\S)", line) for line in lines), text


@pytest.mark.parametrize("label", ["", "rent", LONG, "x" * 70])
@pytest.mark.parametrize("more", [0, 1, 3, 6])
def test_no_id_amount_or_date_is_broken_at_80_columns(label: str, more: int) -> None:
    extra = {f"fee_{at}": AMOUNT for at in range(more)}
    lines = table_lines(rows(label=label, **extra), ["id", "time", "amount", *extra, "label"], 80)
    assert all(len(line) <= COLUMNS for line in lines)
    whole(lines, *(id_[: tables.ID_DIGITS] for id_ in IDS), AMOUNT, MOMENT)


def test_texts_are_folded_before_a_table_is_given_up() -> None:
    lines = table_lines(rows(label=LONG), ["id", "time", "amount", "label"], COLUMNS)
    assert lines[0].split() == ["id", "time", "amount", "label"]
    assert len(lines) > 1 + len(IDS)


def test_rows_too_wide_for_a_table_stand_below_one_another() -> None:
    extra = {f"fee_{at}": AMOUNT for at in range(6)}
    lines = table_lines(rows(**extra), ["id", *extra], COLUMNS)
    assert [line.split()[0] for line in lines if line.startswith("id")] == ["id"] * len(IDS)


def test_numbers_and_amounts_stand_at_the_right() -> None:
    lines = table_lines(
        [{"n": 1, "fee": "1.00000000"}, {"n": 200, "fee": "30.00000000"}], ["n", "fee"], COLUMNS
    )
    assert lines == ["  n          fee", "  1   1.00000000", "200  30.00000000"]


def test_ids_are_short_and_nothing_else_is() -> None:
    peer = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"
    assert short_id(IDS[0]) == IDS[0][:12]
    assert short_id(peer) == peer[:16]
    address = "lunc1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s5k4n9z"
    for text in (address, IDS[0][:63], ("ab" * 32).upper(), f"/ip4/1.2.3.4/tcp/1/p2p/{peer}"):
        assert short_id(text) == text
    cells = table_lines(
        [{"address": f"/ip4/1.2.3.4/tcp/1/p2p/{peer}", "peer": peer}], ["peer", "address"], COLUMNS
    )
    assert cells[1].split() == [peer[:16], "/ip4/1.2.3.4/tcp/1"]


def test_a_value_is_whole_in_a_list_of_fields() -> None:
    lines = field_lines(
        [("tip", IDS[0], ""), ("a rather long title of it", IDS[1], ""), ("memo", LONG, "")],
        COLUMNS,
    )
    whole(lines, IDS[0], IDS[1])
    assert all(len(line) <= COLUMNS for line in lines)


def test_an_id_stands_beside_its_title_where_there_is_room() -> None:
    lines = field_lines(
        [("txid", IDS[0], ""), ("outputs.0.lock", IDS[1], ""), ("outputs.0.amount", "1.5", "")],
        COLUMNS,
    )
    assert lines == [
        f"txid  {IDS[0]}",
        f"outputs.0.lock  {IDS[1]}",
        "outputs.0.amount  1.5",
    ]


def test_a_person_is_told_units_and_how_many_accounts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {"confirmed": "5.00000000", "accounts": [0], "found_accounts": []}
    tables.print_fields(shown)
    assert capsys.readouterr().out == "confirmed 5.00000000\naccounts 0\nfound_accounts -\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for accounts, said in (
        ([0], "1 (number 0)"),
        ([0, 1], "2 (numbers 0 and 1)"),
        ([0, 1, 2, 3], "4 (numbers 0 to 3)"),
    ):
        tables.print_fields(shown | {"accounts": accounts})
        lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        assert lines[:2] == [["confirmed", "5.00000000 UNC"], ["accounts", said]]


def test_letters_that_are_twice_as_wide_count_twice() -> None:
    lines = table_lines(
        [{"label": "\u6c34\u706b", "n": 1}, {"label": "ab", "n": 2}], ["label", "n"], 80
    )
    assert lines[1].index("1") + 2 == lines[2].index("2")


@pytest.mark.parametrize("name", ["time", "tip_time", "tip_time_ms", "time_ms", "anchor.time_ms"])
def test_a_moment_is_a_date(name: str) -> None:
    assert tables.shown(name, WHEN) == MOMENT


def test_a_duration_has_a_unit() -> None:
    assert tables.shown("uptime_ms", 65_000) == "1 min 5 s"
    assert tables.shown("latency_ms", 37.25) == "37.2 ms"


def test_colours_are_for_terminals_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert tables.styled("x", tables.RED) == "\x1b[31mx\x1b[0m"
    assert tables.styled("x", "") == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert tables.styled("x", tables.RED) == "x"


@pytest.mark.parametrize(
    ("payees", "terminal", "names"),
    [
        (1, True, ["txid", "payees payee"]),
        (2, True, ["txid", "payees 0 payee", "payees 1 payee"]),
        (1, False, ["txid", "payees.0.payee"]),
    ],
)
def test_the_one_object_of_a_list_has_no_number_on_a_terminal(
    payees: int,
    terminal: bool,
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    tables.print_fields({"txid": IDS[0], "payees": [{"payee": IDS[1]}] * payees})
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\s+[0-9a-f]{64}$", "", line) for line in lines if line not in IDS] == names
    if payees == 1:
        assert len(lines) == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_sentences_fit_a_terminal_and_break_no_command(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    command = "`unchained-node start --network local`"
    text = f"no node of network local is running here: start it with {command}; one of test runs"
    tables.say(text)
    lines = capsys.readouterr().out.splitlines()
    if terminal:
        assert all(len(line) <= 50 for line in lines)
        assert any(command in line for line in lines)
        assert " ".join(lines) == text
    else:
        assert lines == [text]


def test_an_error_fits_the_terminal_and_is_one_line_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    command = ["wallet", "history", "--since", "yesterday-or-the-day-before"]
    assert main.run(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main.run(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert all(len(part) <= 60 for part in lines)
    assert " ".join(lines) == line


def test_ids_stand_in_one_column_beside_titles_however_long() -> None:
    lines = field_lines(
        [
            ("state", "holds 2 UNC: 2 of 2 keys spend it, this wallet has 1 of the two keys", ""),
            ("key 1", "ab" * 32, ""),
            ("keys of this wallet", "1", ""),
            ("contract", "c" * 90, ""),
        ],
        80,
    )
    assert all(len(line) <= 80 or line == "c" * 90 for line in lines)
    at = next(line.index("ab") for line in lines if "abab" in line)
    assert next(line.index("holds") for line in lines if "holds" in line) == at
    assert [line.split() for line in lines if line.startswith("keys")] == [
        ["keys", "of", "this", "1"]
    ]
    assert "wallet" in lines
    # where there is no room for it, it goes without the column
    assert "ab" * 32 in field_lines([("title", "1", ""), ("id", "ab" * 32, "")], 60)
