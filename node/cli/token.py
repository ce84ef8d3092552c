"""``unchained-node token``: rights to single wallets, for programs and people who shall not have
more."""

from __future__ import annotations

from typing import Annotated

import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, asking

app = typer.Typer(no_args_is_help=True, help="Give rights to single wallets, and take them back.")

TOKEN_COLUMNS = ("id", "wallet", "scopes", "daily_limit", "spent", "created_time", "label")


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="token")


@asking(app, "create")
@user_text("Make a token for a wallet, and print it: it is not shown again.")
def create(
    node: Asker,
    scopes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCOPE...", help="What it lets its bearer do: read, invoice, spend."
        ),
    ] = None,
    wallet: Annotated[
        str, typer.Option("--wallet", "-w", metavar="NAME", help="Which wallet.")
    ] = "default",
    daily_limit: Annotated[
        str | None,
        typer.Option("--daily-limit", metavar="UNC", help="What it may spend in any 24 hours."),
    ] = None,
    label: Annotated[
        str, typer.Option("--label", metavar="TEXT", help="What `token list` shows it by.")
    ] = "",
) -> None:
    if not scopes:
        raise typer.BadParameter(
            "name what it lets its bearer do: read (see what the wallet has), invoice (ask for "
            "payments), spend (pay, with --daily-limit)",
            param_hint="SCOPE",
        )
    found = node.call(
        "token.create", wallet=wallet, scopes=scopes, daily_limit=daily_limit, label=label
    )

    def human() -> None:
        typer.echo(found["secret"])
        typer.echo(f"token {found['token']['id']}: its secret, above, is not shown again", err=True)

    node.show(found, human)


@asking(app, "list", table=True)
@user_text("Show the tokens of wallets, and what they have spent in the last 24 hours.")
def list_(node: Asker) -> None:
    node.show_rows(node.call("token.list"), TOKEN_COLUMNS, "no tokens")


@asking(app, "revoke")
@user_text("Revoke a token: it no longer lets anybody in.")
def revoke(
    node: Asker,
    token: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `token list` shows it.")],
) -> None:
    left = node.call("token.revoke", token=token)
    node.show(left, lambda: typer.echo(f"revoked {token.lower()}"))
