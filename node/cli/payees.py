"""Whom a command line pays: pairs of payee and amount, or a file of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

import msgspec
import typer

from unchained.node.base.terminal_text import harmless
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.input_file import read_file
from unchained.node.primitives.amounts import grains_of
from unchained.node.rpc.core.wrong_values import in_words

URI_SCHEME: Final = "unchained:"
"""What a payment URI begins with: here too, since the wallet's modules take long to import."""

_NOBODY: Final = "it lists nobody to pay"

PAYEES_BYTES_MAX: Final = 1 << 20
"""Bytes of a file of payees."""


class PayeeLine(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of a JSON file of payees."""

    payee: str
    amount: str
    memo: str = ""


def payment(payee: str, amount: str | None, memo: str) -> list[dict[str, str]]:
    """Return the `payments` of one payee."""
    payment = {"payee": payee, "memo": memo}
    return [payment if amount is None else payment | {"amount": amount}]


def payments_of(pairs: Sequence[str], file: Path | None, memo: str) -> list[dict[str, str]]:
    """Return the payments of a command line. Raises `CommandFailedError`, `typer.BadParameter`."""
    found = [] if file is None else payments_in(read_file(file, PAYEES_BYTES_MAX), str(file))
    if len(pairs) == 1:
        found += payment(pairs[0], None, memo)
    elif len(pairs) % 2:
        raise typer.BadParameter("expected an amount after each payee", param_hint="PAYEE UNC")
    else:
        for at in range(0, len(pairs), 2):
            found += payment(pairs[at], pairs[at + 1], memo)
    if not found:
        raise typer.BadParameter("nobody to pay: expected PAYEE UNC", param_hint="PAYEE UNC")
    return found


def uri_remarks(payee: str, amount: str | None) -> list[str]:
    """Return what a payment URI, which the node has read already, says that who pays it should
    know: what it is for, and that it asks for another `amount` than is paid. None for any other
    payee."""
    if not payee.lower().startswith(URI_SCHEME):
        return []
    said = dict(parse_qsl(payee.partition("?")[2]))
    remarks = []
    if said.get("label"):
        remarks.append(f"the payment URI says that it is for: {harmless(said['label'])}")
    asked = said.get("amount")
    if asked is not None and amount is not None and not _same_amount(asked, amount):
        remarks.append(f"warning: the payment URI asks for {harmless(asked)} UNC, not {amount}")
    return remarks


def _same_amount(asked: str, amount: str) -> bool:
    try:
        return Decimal(asked) == Decimal(amount)
    except InvalidOperation:  # `max`
        return False


def payments_in(content: bytes, name: str) -> list[dict[str, str]]:
    """Return the payments of a file: a line PAYEE,UNC[,MEMO] for each, or a JSON array of objects
    with payee, amount and memo. Raises `CommandFailedError`, which names the line."""
    if content.lstrip()[:1] == b"[":
        given: object = None
        try:
            given = msgspec.json.decode(content)
            lines = msgspec.convert(given, list[PayeeLine])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            text = str(error)
            if isinstance(error, msgspec.ValidationError):
                text = in_words(text, list[PayeeLine], given)
            raise CommandFailedError(
                f"{name}: not a list of payees: {text}; expected "
                '[{"payee": "…", "amount": "1.5", "memo": "…"}, …]'
            ) from None
        if not lines:
            raise CommandFailedError(f"{name}: {_NOBODY}")
        return [entry for line in lines for entry in payment(line.payee, line.amount, line.memo)]
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandFailedError(f"{name}: not a file of payees: {error}") from None
    found: list[dict[str, str]] = []
    for number, row in enumerate(rows, 1):
        if not row or row[0].startswith("#"):
            continue
        if not 2 <= len(row) <= 3:
            raise CommandFailedError(f"{name}: line {number}: expected PAYEE,UNC or PAYEE,UNC,MEMO")
        amount = row[1].strip()
        try:
            grains_of(amount)
        except ValueError as error:
            raise CommandFailedError(f"{name}: line {number}: {error}") from None
        found += payment(row[0].strip(), amount, row[2] if len(row) == 3 else "")
    if not found:
        raise CommandFailedError(f"{name}: {_NOBODY}")
    return found
