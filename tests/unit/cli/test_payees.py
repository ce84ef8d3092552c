"""Whom a command line and a file pay."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.payees import payments_in, payments_of


def test_pairs_and_a_lone_uri() -> None:
    assert payments_of(["a", "1", "b", "0.5"], None, "hi") == [
        {"payee": "a", "memo": "hi", "amount": "1"},
        {"payee": "b", "memo": "hi", "amount": "0.5"},
    ]
    assert payments_of(["unchained:a?amount=1"], None, "") == [
        {"payee": "unchained:a?amount=1", "memo": ""}
    ]
    for wrong in ([], ["a", "1", "b"]):
        with pytest.raises(typer.BadParameter):
            payments_of(wrong, None, "")


def test_csv_and_json_say_the_same() -> None:
    csv = '\ufeff# payroll\na,1\n\n"b",0.5,"thanks, all"\n'.encode()
    json = b' [{"payee": "a", "amount": "1"}, {"payee":"b","amount":"0.5","memo":"thanks, all"}]'
    assert payments_in(csv, "f") == payments_in(json, "f")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a\n", "line 1: expected PAYEE,UNC"),
        (b"a,1\nb,1,c,d\n", "line 2: expected PAYEE,UNC"),
        (b"\xff\xfe", "not a file of payees"),
        (b'[{"payee": "a"}]', "the member 'amount' is missing"),
        (b'[{"payee": "a", "amount": 1}]', "expected a text, got 1 - at `[0].amount`"),
        (
            b'[{"payee": "a", "amount": "1", "fee": "1"}]',
            "there is no member 'fee'",
        ),
        (b"[", "not a list of payees"),
    ],
)
def test_a_file_that_is_none_is_told_what_is_wrong(content: bytes, why: str) -> None:
    with pytest.raises(CommandFailedError) as caught:
        payments_in(content, "file")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_and_pairs_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "payees"
    file.write_text("a,1\n")
    assert [one["payee"] for one in payments_of(["b", "2"], file, "")] == ["a", "b"]
