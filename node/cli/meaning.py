"""What signing a transfer means, as people are shown it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import typer

from unchained.node.base.terminal_text import harmless
from unchained.node.cli.confirm import NOTE_COLUMNS, SHOWN_WHOLE, print_payee
from unchained.node.cli.facts import SUM_COLUMNS
from unchained.node.cli.tables import folded, width

TERMS_COLUMN: Final = 12
"""Columns before the terms of a contract, whose keys shall not be broken."""


def print_meaning(found: dict[str, Any], *, err: bool = False) -> None:
    """Print what signing a transfer means, as the signer's own machine has worked it out."""

    def echo(line: str) -> None:
        typer.echo(line, err=err)

    for output in found["outputs"]:
        told = output["payee"] and (len(output["payee"]) > SHOWN_WHOLE or output["alias"])
        called = output["alias"] or (_whom(output) == output["payee"] and output["contract"])
        notes = [
            ("called", f"{called} here" if called else ""),
            ("fingerprint", output["fingerprint"] if told else ""),
            ("lock", output["lock"] if told else ""),
        ]
        print_payee(output["amount"], _whom(output), notes, err=err)
        if _whom(output) == output["lock"]:
            echo(f"{'':>{NOTE_COLUMNS}}a lock: the file does not show whose")
        if output["terms"]:
            for line in folded(f"under {output['terms']}", width() - TERMS_COLUMN):
                echo(f"{'':>{TERMS_COLUMN}}{line}")
        if output["memo"]:
            echo(f"{'':>{NOTE_COLUMNS}}memo {harmless(output['memo'])}")
    echo(f"{found['fee']:>{SUM_COLUMNS}} UNC  fee")
    echo(f"{found['spent']:>{SUM_COLUMNS}} UNC  in all, of the coins that it spends")
    if found["lock_height"]:
        echo(f"not before height {found['lock_height']}")
    echo(f"signed by {len(found['signed_by'])}, {found['missing']} missing{_adds(found)}")


def _adds(found: Mapping[str, Any]) -> str:
    """Return what signing a transfer with a wallet adds, if any signature is missing."""
    if keys := len(found["can_sign"]):
        return f"; this wallet can sign with {keys} key{'s' * (keys > 1)}"
    return "; this wallet cannot sign it" if found["missing"] else ""


def _whom(output: Mapping[str, Any]) -> str:
    """Return whom an output of a transfer to be signed pays, in words where it is no stranger."""
    called = f" {output['contract']}" if output["contract"] else ""
    if output["own"]:
        return "back to this wallet"
    if output["returns"]:
        return f"back to the contract{called}"
    if output["payee"]:
        return str(output["payee"])
    return f"to the contract{called}" if called else str(output["lock"])


def without_file(found: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a transfer to be signed, but for its file."""
    return {name: value for name, value in found.items() if name != "file"}
