"""What a person is shown before something is sent, and how long he is kept company after it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import typer

from unchained.node.base.terminal_text import ends, harmless
from unchained.node.cli.asker import Asker, CommandFailedError
from unchained.node.cli.facts import SUM_COLUMNS, labelled
from unchained.node.cli.progress import confirmations_shown
from unchained.node.cli.questions import ask_yes
from unchained.node.cli.tables import width

SHOWN_WHOLE: Final = 100
"""Characters of a payee that are shown to a person; addresses have fewer."""

NOTE_COLUMNS: Final = SUM_COLUMNS + len(" UNC  ")
"""Columns before what is noted of a payee."""

LOOK_AGAIN_S: Final = 0.5
"""Seconds between looks at a transfer."""

_NOT_EXPECTED: Final = frozenset({"abandoned", "replaced", "conflict", "gone"})


def print_payee(
    amount: str, payee: str, notes: Sequence[tuple[str, str]], *, err: bool = False
) -> None:
    """Print what somebody is paid, and who that is: in one piece, so that it can be compared and
    copied, on a line of its own where the terminal has no room beside the sum."""
    lead = f"{amount:>{SUM_COLUMNS}} UNC "
    lines = labelled(lead, shortened(harmless(payee)), width())
    for label, text in notes:
        if text:
            lines += labelled(f"{'':>{NOTE_COLUMNS}}{label}", harmless(text), width())
    typer.echo("\n".join(lines), err=err)


def shortened(payee: str) -> str:
    """Return an address whole, and of a paycode, which fills a screen, the ends."""
    return ends(payee, SHOWN_WHOLE, 24, 24)


def is_asked(yes: bool) -> bool:
    """Return whether there is a person to be asked."""
    return sys.stdin.isatty() and not yes


def print_plan(steps: Sequence[Mapping[str, Any]], *, err: bool = False) -> None:
    """Print what planned transfers pay, each with its fee; with `err` where people are asked."""

    def echo(line: str) -> None:
        typer.echo(line, err=err)

    for step in steps:
        for paid in step["payees"]:
            told = paid["alias"] or len(paid["payee"]) > SHOWN_WHOLE
            notes = [
                ("called", f"{paid['alias']} here" if paid["alias"] else ""),
                ("fingerprint", _fingerprint(paid["payee"]) if told else ""),
                ("memo", paid["memo"]),
            ]
            print_payee(paid["amount"], paid["payee"], notes, err=err)
        if not step["payees"]:
            print_payee(step["to_wallet"], "to this wallet itself", (), err=err)
        echo(f"{step['fee']:>{SUM_COLUMNS}} UNC  fee")
        if step["joins"]:
            echo(f"{'':>{NOTE_COLUMNS}}of {step['joins'] + 1} transfers: coins are joined first")
        if step["warning"]:
            typer.echo(f"warning: {step['warning']}", err=True)


def confirm(question: str, declined: str) -> None:
    """Ask a person about what was shown. Raises `CommandFailedError` for a no."""
    if not ask_yes(question):
        raise CommandFailedError(declined)


def confirm_sending() -> None:
    """Ask a person whether to send what was shown. Raises `CommandFailedError` for a no."""
    confirm("Send it?", "not sent")


def wait_confirmed(node: Asker, wallet: str, txid: str, wanted: int) -> int:
    """Show how a transfer is confirmed until it has so many votes; return how many it has then.

    Ctrl-C ends the showing alone. Raises `CommandFailedError` once it is not expected any more.
    """
    has = 0
    try:
        with confirmations_shown(wanted) as show:
            while has < wanted:
                entry = node.call("wallet.transfer", txid=txid, wallet=wallet)["entry"]
                if entry["status"] in _NOT_EXPECTED:
                    raise CommandFailedError(f"transfer {txid} is not expected: {entry['status']}")
                has = entry["confirmations"]
                show(entry["status"], has)
                if has < wanted:
                    time.sleep(LOOK_AGAIN_S)
    except KeyboardInterrupt:
        typer.echo("it is sent: `wallet transfer` shows how it stands", err=True)
    return has


def _fingerprint(payee: str) -> str:
    # Only here: it brings the wallet's modules, which most commands do without.
    from unchained.node.wallet.summary import fingerprint_of

    return fingerprint_of(payee)
