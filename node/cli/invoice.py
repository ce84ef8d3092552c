"""``unchained-node wallet invoice`` and the like: deposits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, asking
from unchained.node.cli.history import short_words
from unchained.node.cli.receiving import show_receiving
from unchained.node.cli.tables import moment
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    AccountOption,
    LimitOption,
    OffsetOption,
    PngOption,
    QrOption,
    WalletOption,
    app,
)

INVOICE_COLUMNS: Final[Sequence[str]] = (
    "created_time",
    "status",
    "amount",
    "received",
    "received_confirmed",
    "confirmations",
    "label",
    "id",
)

INVOICE_COLUMNS_ON_TERMINAL: Final[Sequence[str]] = (
    "made",
    "status",
    "amount",
    "received",
    "label",
    "id",
)
"""What fits a terminal of 80 columns; `wallet get-invoice` shows all of one invoice."""

DAY: Final = len("2026-11-29")

InvoiceArgument = Annotated[str, typer.Argument(metavar="ID", help="An invoice's id.")]


def add_to(_root: typer.Typer) -> None:
    """Add nothing: the commands stand beside those of `wallet`."""


@asking(app, "invoice")
@user_text("""Ask for a payment: print a payment URI whose payments are booked to the invoice.""")
def invoice(
    node: Asker,
    amount: Annotated[
        str | None, typer.Argument(metavar="[UNC]", help="How much; left out: any.")
    ] = None,
    wallet: WalletOption = DEFAULT_WALLET,
    label: Annotated[
        str, typer.Option("--label", metavar="TEXT", help="What it is for; the payer sees it.")
    ] = "",
    seconds: Annotated[
        int, typer.Option("--seconds", min=0, help="Until it expires; 0: never.")
    ] = 86_400,
    confirmations: Annotated[
        int, typer.Option("--confirmations", min=1, help="Votes after which it is confirmed.")
    ] = 32,
    account: AccountOption = 0,
    again: Annotated[
        str | None,
        typer.Option("--invoice", metavar="ID", help="Make one from before a restore again."),
    ] = None,
    qr: QrOption = False,
    png: PngOption = None,
) -> None:
    given: dict[str, object] = {
        "amount": amount,
        "wallet": wallet,
        "label": label,
        "confirmations": confirmations,
        "account": account,
        "invoice": again,
    }
    params = {name: value for name, value in given.items() if value is not None}
    ask = partial(node.call_with, "wallet.invoice", params | {"seconds": seconds or None})
    found = show_receiving(node, ask, qr, png, uri=True)
    if not node.json:
        typer.echo(f"invoice {found['id']}", err=True)


@asking(app, "invoices", table=True)
@user_text("Show a wallet's invoices, the latest first.")
def invoices(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status", metavar="STATUS", help="These alone; may be given more than once."
        ),
    ] = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
) -> None:
    found = node.call("wallet.invoices", wallet=wallet, status=status, limit=limit, offset=offset)
    if not node.is_brief:
        rows, columns = found, INVOICE_COLUMNS
    else:
        rows = [
            {
                **row,
                "made": moment(row["created_time"])[:DAY],
                "label": short_words(row["label"]),
            }
            for row in found
        ]
        columns = INVOICE_COLUMNS_ON_TERMINAL
    none = "no invoices of that status" if status else "no invoices: `wallet invoice` makes one"
    node.show_rows(rows, columns, none)


@asking(app, "get-invoice")
@user_text("Show one invoice and the payments to it.")
def get_invoice(
    node: Asker, invoice: InvoiceArgument, wallet: WalletOption = DEFAULT_WALLET
) -> None:
    _show(node, node.call("wallet.get_invoice", invoice=invoice, wallet=wallet))


@asking(app, "cancel-invoice")
@user_text("Expect nothing more for an invoice that is not paid.")
def cancel_invoice(
    node: Asker, invoice: InvoiceArgument, wallet: WalletOption = DEFAULT_WALLET
) -> None:
    _show(node, node.call("wallet.cancel_invoice", invoice=invoice, wallet=wallet))


def _show(node: Asker, found: dict[str, Any]) -> None:
    without_text = {name: value for name, value in found.items() if name != "text"}
    node.show_fields(found if node.json else without_text)
