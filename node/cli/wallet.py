"""``unchained-node wallet``: keys, and what they hold."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from unchained.node.base.number_words import duration
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.facts import Facts, show_facts, wallet_facts, wallet_state
from unchained.node.cli.output_file import check_output, say_written, write_output
from unchained.node.cli.passphrases import (
    PassphraseFdOption,
    PassphraseFileOption,
    new_passphrase,
    read_passphrase,
    read_secret,
    with_passphrase,
)
from unchained.node.cli.progress import Show, progress
from unchained.node.cli.receiving import show_receiving

app = typer.Typer(no_args_is_help=True, help="Keep wallets: receive, look, pay, back up.")

SLOW_ANSWER_S: Final = 180.0
"""How long an answer may take for which the node stretches a passphrase or makes transfers."""

LOOK_S: Final = 0.2
"""Seconds between looks at how far a wallet has read."""

WalletOption = Annotated[str, typer.Option("--wallet", "-w", metavar="NAME", help="Which wallet.")]


def account_ref(text: object) -> int | str:
    """Return the number or the name that tells an account."""
    given = str(text)
    return int(given) if given.isdecimal() and given.isascii() else given


AccountOption = Annotated[
    Any,
    typer.Option("--account", parser=account_ref, metavar="N|NAME", help="Account of the wallet."),
]
OnlyAccountOption = Annotated[
    Any,
    typer.Option("--account", parser=account_ref, metavar="N|NAME", help="This account alone."),
]
AmountOption = Annotated[
    str | None, typer.Option("--amount", metavar="UNC", help="For the payment URI.")
]
LabelOption = Annotated[str, typer.Option("--label", metavar="TEXT", help="For the payment URI.")]
QrOption = Annotated[bool, typer.Option("--qr", help="Show the payment URI as a QR code too.")]
PngOption = Annotated[
    Path | None, typer.Option("--png", metavar="FILE", help="Write the QR code as a PNG file.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many at most.")]
OffsetOption = Annotated[int, typer.Option("--offset", min=0, help="Pass over the first N.")]
AccountsOption = Annotated[
    int, typer.Option("--accounts", min=1, max=64, help="How many it begins with.")
]
NoPassphraseOption = Annotated[
    bool, typer.Option("--no-passphrase", help="Whoever can read its file has its coins.")
]
DEFAULT_WALLET: Final = "default"


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="wallet")


@asking(app, "list", table=True)
@user_text("Show the wallets of the node.")
def list_(node: Asker) -> None:
    columns = ["wallet", "state", "progress.height", "failure"]
    rows = node.call("wallet.list")
    if not node.json:
        rows = [row | {"state": wallet_state(row)} for row in rows]
    node.show_rows(rows, columns, "no wallets: `wallet create` makes one")


@asking(app, "info")
@user_text("Show a wallet's state, and how far it has followed the chain.")
def info(node: Asker, wallet: WalletOption = DEFAULT_WALLET) -> None:
    show_facts(node, node.call("wallet.info", wallet=wallet), wallet_facts)


@asking(app, "create")
@user_text("Make a wallet with a new mnemonic, and show its 24 words.")
def create(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    accounts: AccountsOption = 1,
    no_passphrase: NoPassphraseOption = False,
    no_confirm: Annotated[
        bool, typer.Option("--no-confirm", help="Do not ask for two of the words.")
    ] = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    # nobody is asked for secrets to hear then that there is another mistake
    node.call("wallet.check_new", wallet=wallet, accounts=accounts)
    passphrase = new_passphrase(no_passphrase, passphrase_file, passphrase_fd)
    found = node.call(
        "wallet.create",
        seconds=SLOW_ANSWER_S,
        passphrase=passphrase,
        wallet=wallet,
        accounts=accounts,
        no_passphrase=no_passphrase,
    )
    from unchained.node.cli.mnemonics import show_new

    node.show(found, lambda: show_new(wallet, found["mnemonic"], confirm=not no_confirm))


@asking(app, "restore")
@user_text("Make a wallet from its 24 words, and find its coins.")
def restore(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    mnemonic_file: Annotated[
        Path | None,
        typer.Option("--mnemonic-file", metavar="FILE", help="Read the words from a file."),
    ] = None,
    birth_height: Annotated[
        int, typer.Option("--birth-height", min=0, metavar="HEIGHT", help="It has no coins below.")
    ] = 0,
    accounts: AccountsOption = 1,
    bip39: Annotated[
        bool, typer.Option("--bip39-passphrase", help="Ask for a BIP 39 passphrase as well.")
    ] = False,
    no_passphrase: NoPassphraseOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    from unchained.node.cli.mnemonics import read_mnemonic

    node.call("wallet.check_new", wallet=wallet, accounts=accounts, birth_height=birth_height)
    mnemonic = read_mnemonic(mnemonic_file)
    extra = read_passphrase(None, None, what="BIP 39 passphrase", new=True) if bip39 else None
    passphrase = new_passphrase(no_passphrase, passphrase_file, passphrase_fd)
    found = node.call(
        "wallet.restore",
        seconds=SLOW_ANSWER_S,
        mnemonic=mnemonic,
        passphrase=passphrase,
        wallet=wallet,
        bip39_passphrase=extra,
        birth_height=birth_height,
        accounts=accounts,
        no_passphrase=no_passphrase,
    )
    _show_reading(node, wallet, found)


@asking(app, "open")
@user_text("Open a wallet, locked.")
def open_(node: Asker, wallet: WalletOption = DEFAULT_WALLET) -> None:
    show_facts(node, node.call("wallet.open", wallet=wallet), wallet_facts)


@asking(app, "close")
@user_text("Lock and close a wallet.")
def close(node: Asker, wallet: WalletOption = DEFAULT_WALLET) -> None:
    show_facts(node, node.call("wallet.close", wallet=wallet), wallet_facts)


@asking(app, "unlock")
@user_text("Let a wallet sign for a while.")
def unlock(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, max=604_800, help="For how long.")
    ] = 300,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    def use(passphrase: str) -> dict[str, Any]:
        params = {"passphrase": passphrase, "wallet": wallet, "seconds": seconds}
        unlocked: dict[str, Any] = node.call_with("wallet.unlock", params, seconds=SLOW_ANSWER_S)
        return unlocked

    found = with_passphrase(node, wallet, passphrase_file, passphrase_fd, use)

    def facts(wallet: Mapping[str, Any]) -> Facts:
        yield from wallet_facts(wallet)
        yield "locks again", f"in {duration(int(seconds * 1000))}, or by `wallet lock`"

    show_facts(node, found, facts)


@asking(app, "lock")
@user_text("Drop a wallet's spend keys at once.")
def lock(node: Asker, wallet: WalletOption = DEFAULT_WALLET) -> None:
    show_facts(node, node.call("wallet.lock", wallet=wallet), wallet_facts)


@asking(app, "change-passphrase")
@user_text("Change a wallet's passphrase.")
def change_passphrase(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    new_file: Annotated[
        Path | None, typer.Option("--new-passphrase-file", metavar="FILE", help="The new one.")
    ] = None,
    no_passphrase: NoPassphraseOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    def change(old: str, new: str) -> dict[str, Any]:
        changed: dict[str, Any] = node.call(
            "wallet.change_passphrase",
            seconds=SLOW_ANSWER_S,
            passphrase=old,
            new_passphrase=new,
            wallet=wallet,
            no_passphrase=no_passphrase,
        )
        return changed

    def check(old: str) -> str:
        # nobody chooses a new one to hear then that the old one is wrong
        node.call("wallet.check_passphrase", seconds=SLOW_ANSWER_S, passphrase=old, wallet=wallet)
        return old

    if new_file is None and not no_passphrase:
        old = with_passphrase(node, wallet, passphrase_file, passphrase_fd, check)
        found = change(old, new_passphrase(no_passphrase, new_file, None))
    else:
        new = new_passphrase(no_passphrase, new_file, None)
        found = with_passphrase(
            node, wallet, passphrase_file, passphrase_fd, lambda old: change(old, new)
        )
    show_facts(node, found, wallet_facts)
    said = "has no passphrase any more" if no_passphrase else "has another passphrase now"
    typer.echo(f"the wallet {wallet} {said}", err=True)


@asking(app, "mnemonic")
@user_text("Print a wallet's 24 words, for a backup.")
def mnemonic(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    def use(passphrase: str) -> dict[str, Any]:
        told: dict[str, Any] = node.call(
            "wallet.mnemonic", seconds=SLOW_ANSWER_S, passphrase=passphrase, wallet=wallet
        )
        return told

    found = with_passphrase(node, wallet, passphrase_file, passphrase_fd, use)

    def human() -> None:
        from unchained.node.cli.mnemonics import grid

        words = found["words"]
        typer.echo("\n".join(grid(words.split())) if sys.stdout.isatty() else words)
        if found["has_bip39_passphrase"]:
            typer.echo("the BIP 39 passphrase is needed as well: it is not shown", err=True)

    node.show(found, human)


@asking(app, "add-account")
@user_text("Add the next account to a wallet and print its number.")
def add_account(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    def use(passphrase: str) -> int:
        added: int = node.call(
            "wallet.add_account", seconds=SLOW_ANSWER_S, passphrase=passphrase, wallet=wallet
        )
        return added

    found = with_passphrase(node, wallet, passphrase_file, passphrase_fd, use)
    node.show(found, lambda: typer.echo(found))


@asking(app, "address")
@user_text("Print an account's address: short, but payments to it can be linked.")
def address(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    amount: AmountOption = None,
    label: LabelOption = "",
    qr: QrOption = False,
    png: PngOption = None,
) -> None:
    asked: dict[str, Any] = {"wallet": wallet, "account": account, "amount": amount, "label": label}
    ask = partial(node.call, "wallet.address", **asked)
    show_receiving(node, ask, qr, png, uri=amount is not None or bool(label))


@asking(app, "paycode")
@user_text("Print an account's paycode: long, and payments to it cannot be linked.")
def paycode(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    amount: AmountOption = None,
    memo: Annotated[str, typer.Option("--memo", metavar="TEXT", help="For the payment URI.")] = "",
    label: LabelOption = "",
    qr: QrOption = False,
    png: PngOption = None,
) -> None:
    asked: dict[str, Any] = {
        "wallet": wallet,
        "account": account,
        "amount": amount,
        "memo": memo,
        "label": label,
    }
    ask = partial(node.call, "wallet.paycode", **asked)
    show_receiving(node, ask, qr, png, uri=amount is not None or bool(memo or label))


@asking(app, "balance")
@user_text("Show what a wallet has.")
def balance(
    node: Asker, wallet: WalletOption = DEFAULT_WALLET, account: OnlyAccountOption = None
) -> None:
    node.show_fields(node.call("wallet.balance", wallet=wallet, account=account))


@asking(app, "coins", table=True)
@user_text("Show a wallet's coins, the latest first.")
def coins(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    account: OnlyAccountOption = None,
    spent: Annotated[bool, typer.Option("--spent", help="Show spent coins too.")] = False,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
) -> None:
    found = node.call(
        "wallet.coins", wallet=wallet, account=account, spent=spent, limit=limit, offset=offset
    )
    columns = ["id", "amount", "origin", "height", "confirmations", "frozen", "label"]
    node.show_rows(found, columns, "no coins")


@asking(app, "label")
@user_text("Label a coin, a transfer or a contract.")
def label(
    node: Asker,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="What it is: coin, transfer or contract.")
    ],
    which: Annotated[str, typer.Argument(metavar="ID", help="Its id, txid or lock.")],
    text: Annotated[str, typer.Argument(metavar="LABEL", help="Empty: take it away.")],
    wallet: WalletOption = DEFAULT_WALLET,
) -> None:
    node.call("wallet.label", kind=kind, id=which, label=text, wallet=wallet)
    node.show(True, lambda: typer.echo("labelled" if text else "label taken away"))


@asking(app, "freeze")
@user_text("Keep a coin from being spent, unless it is named.")
def freeze(
    node: Asker,
    coin: Annotated[str, typer.Argument(metavar="ID", help="The coin's.")],
    wallet: WalletOption = DEFAULT_WALLET,
    thaw: Annotated[bool, typer.Option("--thaw", help="Free it again.")] = False,
) -> None:
    found = node.call("wallet.freeze", coin=coin, wallet=wallet, frozen=not thaw)
    node.show(found, lambda: typer.echo("frozen" if found else "thawed"))


@asking(app, "export-watch")
@user_text(
    "Print what a watch-only copy of a wallet is made of: it sees everything, spends nothing."
)
def export_watch(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there, for you alone."),
    ] = None,
) -> None:
    if output is not None:
        check_output(output)
    found = node.call("wallet.export_watch", wallet=wallet)
    if output is None:
        node.show(found, lambda: typer.echo(found))
    else:
        write_output(output, f"{found}\n".encode(), private=True)
        node.show({"file": str(output)}, lambda: say_written(output))


@asking(app, "import-watch")
@user_text("Make a watch-only wallet from what `wallet export-watch` printed.")
def import_watch(
    node: Asker,
    wallet: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Default: standard input.")
    ] = None,
) -> None:
    view = read_secret(sys.stdin.fileno(), "standard input") if file is None else ""
    if file is not None:
        view = read_secret(file, str(file))
    found = node.call("wallet.import_watch", view=view, wallet=wallet)
    show_facts(node, found, wallet_facts)


@asking(app, "rescan")
@user_text("Read the chain again; `wallet info` shows how far it is.")
def rescan(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    height: Annotated[
        int, typer.Option("--height", min=0, metavar="HEIGHT", help="From there on.")
    ] = 0,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give it up instead.")] = False,
) -> None:
    if cancel:
        show_facts(node, node.call("wallet.cancel_rescan", wallet=wallet), wallet_facts)
    else:
        _show_reading(node, wallet, node.call("wallet.rescan", wallet=wallet, height=height))


@asking(app, "page")
@user_text("Give a link that opens the wallet's page in a browser, once and within a minute.")
def page(
    node: Asker,
    wallet: Annotated[
        str | None,
        typer.Option("--wallet", "-w", metavar="NAME", help="Which wallet it shows first."),
    ] = None,
) -> None:
    if wallet is not None:
        wallet = node.call("wallet.info", wallet=wallet)["wallet"]
    found = node.call("wallet.page", wallet=wallet)
    url = node.url() + found["path"]
    node.show({"url": url, "seconds": found["seconds"]}, lambda: typer.echo(url))


def _show_reading(node: Asker, wallet: str, begun: dict[str, Any]) -> None:
    """Show a person how a wallet reads the chain, until it has read it all; answer a program
    at once that this has begun. Raises `CommandFailedError`."""
    if node.json or node.is_local or not sys.stderr.isatty():
        show_facts(node, begun, wallet_facts)
        return
    try:
        with progress(f"reading the chain for {wallet}") as show:
            while not _has_read(found := node.call("wallet.info", wallet=wallet), show):
                time.sleep(LOOK_S)
        if further := found["found_accounts"]:
            names = ", ".join(map(str, further))
            typer.echo(f"coins came to further accounts as well: {names}", err=True)
    except KeyboardInterrupt:
        typer.echo("the node goes on reading: `wallet info` shows how far it is", err=True)
        return
    show_facts(node, found, wallet_facts)


def _has_read(found: dict[str, Any], show: Show) -> bool:
    """Show how far a wallet is by its state; return whether it has read all. Raises
    `CommandFailedError`."""
    if found["failure"]:
        raise CommandFailedError(f"the wallet does not follow the chain: {found['failure']}")
    reached = found["progress"]
    if reached is None:
        return False
    first = found["birth_height"] if reached["rescan_from"] is None else reached["rescan_from"]
    height = reached["height"] if reached["rescan_next"] is None else reached["rescan_next"]
    show(height, max(0, height - first), max(1, reached["tip_height"] - first))
    return bool(reached["caught_up"])
