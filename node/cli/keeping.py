"""``unchained-node wallet backup``, ``delete``, ``payee``: a wallet's files and names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from unchained.node.base.number_words import number_of
from unchained.node.base.terminal_text import harmless
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import MINING_WALLET, Asker, CommandFailedError, asking
from unchained.node.cli.facts import show_facts, wallet_facts
from unchained.node.cli.passphrases import (
    PassphraseFdOption,
    PassphraseFileOption,
    check_one_way,
    try_passphrase,
)
from unchained.node.cli.questions import ask_text
from unchained.node.cli.tables import print_fields, say
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    SLOW_ANSWER_S,
    WalletOption,
    account_ref,
    app,
)

ALL_BUT_IT: Final = "EMPTY_PASSPHRASE"
"""The node's word for all being right but that no passphrase was given."""

payee_app = typer.Typer(no_args_is_help=True, help="Name those whom you pay.")

WalletArgument = Annotated[str, typer.Argument(metavar="WALLET", help="Which wallet.")]
AliasArgument = Annotated[str, typer.Argument(metavar="NAME", help="What to call him.")]


def add_to(_root: typer.Typer) -> None:
    """Add the commands of this room beside those of `wallet`."""
    app.add_typer(payee_app, name="payee")


# Files


@asking(app, "backup")
@user_text(
    """Write a wallet into one file, mode 0600, and read it back: keys, labels, payees, contracts.
    `wallet restore-backup` makes the wallet of it."""
)
def backup(
    node: Asker,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file to be made.")],
    wallet: WalletOption = DEFAULT_WALLET,
) -> None:
    found = node.call("wallet.backup", seconds=SLOW_ANSWER_S, path=_absolute(path), wallet=wallet)
    node.show(found, lambda: print_fields(found | {"size": f"{found['size']:,} bytes"}))


@asking(app, "restore-backup")
@user_text(
    """Make the wallet of a backup anew, as it was called or as --wallet says. Its passphrase proves
    that nobody has put his own addresses into it."""
)
def restore_backup(
    node: Asker,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="By `wallet backup`.")],
    wallet: Annotated[
        str | None, typer.Option("--wallet", "-w", metavar="NAME", help="What to call it.")
    ] = None,
    no_passphrase: Annotated[
        bool,
        typer.Option("--no-passphrase", help="It has none: nothing proves then that it is yours."),
    ] = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    check_one_way(no_passphrase, passphrase_file, passphrase_fd)
    asked = {"path": _absolute(path), "no_passphrase": no_passphrase}
    if wallet is not None:
        asked["wallet"] = wallet

    def restored(passphrase: str) -> dict[str, Any]:
        found: dict[str, Any] = node.call_with(
            "wallet.restore_backup", asked | {"passphrase": passphrase}, seconds=SLOW_ANSWER_S
        )
        return found

    # Nobody is asked for a passphrase to hear then that there is another mistake.
    try:
        found = restored("")
    except CommandFailedError as error:
        if error.word == "WALLET_EXISTS":
            raise CommandFailedError(f"{error}: --wallet NAME calls it otherwise") from None
        if error.word != ALL_BUT_IT:
            raise
        found = try_passphrase(passphrase_file, passphrase_fd, restored)
    show_facts(node, found, wallet_facts)


def _absolute(path: Path) -> str:
    return str(path.absolute())


@asking(app, "rename")
@user_text("Give a wallet another name. It has to be locked.")
def rename(
    node: Asker,
    wallet: WalletArgument,
    new_wallet: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
) -> None:
    found = node.call("wallet.rename", wallet=wallet, new_wallet=new_wallet)
    show_facts(node, found, wallet_facts)
    for line in name_remarks(wallet, new_wallet, runs=not node.is_local):
        typer.echo(line, err=True)


def name_remarks(gone: str, new: str | None, *, runs: bool) -> list[str]:
    """Return what becomes of what goes by a wallet's name, once no wallet is called so any more but
    perhaps `new`: commands that name no wallet mean one, and what is mined pays one. `runs`: a node
    does, which may be mining to it."""
    remarks = []
    if gone == DEFAULT_WALLET:
        remarks.append(
            f"warning: no wallet is called {DEFAULT_WALLET} now: commands without --wallet mean "
            f"that name, or {MINING_WALLET} while there is none"
        )
    if gone in (DEFAULT_WALLET, MINING_WALLET):
        stays = new is not None and runs
        now = f"what is mined to it goes to {new} until the node stops; " if stays else ""
        remarks.append(
            f"warning: {now}from its next start the node mines to the wallet {DEFAULT_WALLET}, "
            f"else to {MINING_WALLET}, which it makes; `start --payout ADDRESS` says otherwise"
        )
    if new == DEFAULT_WALLET:
        remarks.append(
            "commands without --wallet mean this wallet now, and the node mines to it unless "
            "--payout says otherwise"
        )
    return remarks


@asking(app, "delete")
@user_text(
    """Remove a wallet's files for good. It says what is lost, and asks for the wallet's name. The
    wallet has to be locked."""
)
def delete(
    node: Asker,
    wallet: WalletArgument,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="WALLET", help="Do not ask: its name once more."),
    ] = None,
) -> None:
    if confirm is None:
        if not sys.stdin.isatty():
            node.call("wallet.info", wallet=wallet)  # there may be none of that name
            raise CommandFailedError(f"not confirmed: --confirm {wallet} removes it for good")
        print_lost(node.call("wallet.delete", wallet=wallet, dry_run=True))
        for line in name_remarks(wallet, None, runs=not node.is_local):
            typer.echo(line, err=True)
        confirm = ask_text("Type its name to delete it")
    found = node.call("wallet.delete", seconds=SLOW_ANSWER_S, wallet=wallet, confirm=confirm)

    def human() -> None:
        typer.echo(f"{wallet} is deleted", err=True)
        if not found["damage"]:
            print_fields({name: value for name, value in found.items() if name != "damage"})

    node.show(found, human)


def print_lost(found: dict[str, Any]) -> None:
    """Say what goes with a wallet."""
    if found["damage"]:
        say(
            f"What {found['wallet']} has is not known, since it cannot be read: {found['damage']}",
            err=True,
        )
        say("Only its 24 words or a backup bring it back.", err=True)
        return
    say(
        f"{found['wallet']} has {found['total']} UNC on the chain and {found['pending']} pending.",
        err=True,
    )
    if found["watch_only"]:
        say("It is watch-only: whoever has the keys keeps the coins.", err=True)
    else:
        words = "its 24 words and the BIP 39 passphrase" if found["has_bip39_passphrase"] else ""
        say(
            f"Only {words or 'its 24 words'} or a backup bring that back.",
            err=True,
        )
    say(
        f"Only a backup brings back {number_of(found['labels'], 'label')}, "
        f"{number_of(found['payees'], 'payee')}, {number_of(found['contracts'], 'contract')}, "
        f"{number_of(found['invoices'], 'invoice')} and whom "
        f"{number_of(found['transfers'], 'transfer')} paid.",
        err=True,
    )


# Names


@asking(payee_app, "add")
@user_text("Name a payee: `wallet send NAME UNC` pays him from here on.")
def payee_add(
    node: Asker,
    alias: AliasArgument,
    payee: Annotated[str, typer.Argument(metavar="PAYEE", help="Address, paycode or contract.")],
    wallet: WalletOption = DEFAULT_WALLET,
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="A note.")] = "",
) -> None:
    found = node.call("wallet.payee_add", alias=alias, payee=payee, wallet=wallet, label=label)

    def human() -> None:
        typer.echo(f"{harmless(found['alias'])}: fingerprint {found['fingerprint']}")

    node.show(found, human)


@asking(payee_app, "list", table=True)
@user_text("Show the payees of the address book.")
def payee_list(node: Asker, wallet: WalletOption = DEFAULT_WALLET) -> None:
    found = node.call("wallet.payee_list", wallet=wallet)
    found, name = _named(node, found)
    columns = [name, "fingerprint", "label", "confirmed"]
    if all(payee["confirmed"] for payee in found):
        columns.remove("confirmed")
    node.show_rows(found, columns, "nobody yet")


@asking(payee_app, "confirm")
@user_text(
    """Let a payee who came out of a backup be paid by his name: others may have altered the backup,
    so compare the fingerprint with his own first (`wallet payee list`)."""
)
def payee_confirm(node: Asker, alias: AliasArgument, wallet: WalletOption = DEFAULT_WALLET) -> None:
    found = node.call("wallet.payee_confirm", alias=alias, wallet=wallet)

    def human() -> None:
        typer.echo(f"{harmless(found['alias'])}: fingerprint {found['fingerprint']}, confirmed")

    node.show(found, human)


@asking(payee_app, "remove")
@user_text("Forget a payee's name.")
def payee_remove(node: Asker, alias: AliasArgument, wallet: WalletOption = DEFAULT_WALLET) -> None:
    node.call("wallet.payee_remove", alias=alias, wallet=wallet)
    node.show(True, lambda: typer.echo("removed"))


@asking(app, "accounts", table=True)
@user_text("Show a wallet's accounts.")
def accounts(node: Asker, wallet: WalletOption = DEFAULT_WALLET) -> None:
    _show_accounts(node, node.call("wallet.accounts", wallet=wallet))


@asking(app, "name-account", table=True)
@user_text("Name an account: --account NAME means it from here on.")
def name_account(
    node: Asker,
    account: Annotated[
        Any, typer.Argument(parser=account_ref, metavar="N|NAME", help="Which account.")
    ],
    alias: Annotated[str, typer.Argument(metavar="NAME", help="Empty: take it away.")],
    wallet: WalletOption = DEFAULT_WALLET,
) -> None:
    found = node.call("wallet.name_account", account=account, alias=alias, wallet=wallet)
    _show_accounts(node, found)


def _show_accounts(node: Asker, found: list[dict[str, Any]]) -> None:
    found, name = _named(node, found)
    node.show_rows(found, ["account", name, "confirmed", "total", "address"], "no accounts")


def _named(node: Asker, found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Return rows and what the column of their aliases is called: people give and are shown a
    name, as the commands call it."""
    if not node.is_brief:
        return found, "alias"
    return [row | {"name": row["alias"]} for row in found], "name"
