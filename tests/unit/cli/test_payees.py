"""Whom a command line and a file pay."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.payees import URI_SCHEME, payments_in, payments_of, uri_remarks
from unchained.node.wallet.payment_request import SCHEME


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
        (b"payee,amount\n", "file: line 1: 'amount' is no amount"),
        (b"a,1\n\nb,x\n", "file: line 3: 'x' is no amount"),
        (b"# none\n", "file: it lists nobody to pay"),
        (b"[]", "file: it lists nobody to pay"),
        (b"\xff\xfe", "not a file of payees"),
        (b'[{"payee": "a"}]', "the member 'amount' is missing"),
        (b'[{"payee": "a", "amount": 1}]', "expected a text, got 1 - at `[0].amount`"),
        (
            b'[{"payee": "a", "amount": "1", "fee": "1"}]',
            "there is no member 'fee'",
        ),
        (b"[", "not a list of payees"),
        (b'[{"payee": "M\xfcller", "amount": "1"}]', "not a list of payees"),
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


@pytest.mark.parametrize(
    ("payee", "amount", "remarks"),
    [
        ("runc1abc", "1", []),
        ("unchained:runc1abc", "1", []),
        ("unchained:runc1abc?amount=1.5", None, []),
        ("unchained:runc1abc?amount=1.5", "1.50", []),
        (
            "UNCHAINED:runc1abc?amount=1.5&label=two%20loaves%1b",
            "1",
            [
                "the payment URI says that it is for: two loaves?",
                "warning: the payment URI asks for 1.5 UNC, not 1",
            ],
        ),
        (
            "unchained:runc1abc?amount=1.5",
            "max",
            ["warning: the payment URI asks for 1.5 UNC, not max"],
        ),
    ],
)
def test_who_pays_a_payment_uri_hears_what_it_asks_for(
    payee: str, amount: str | None, remarks: list[str]
) -> None:
    assert uri_remarks(payee, amount) == remarks


def test_the_scheme_is_that_of_the_wallets() -> None:
    assert URI_SCHEME == SCHEME
