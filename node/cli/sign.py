"""``unchained-node wallet prepare``, ``sign``, ``broadcast``: transfers signed elsewhere, or by
several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.confirm import confirm, confirm_sending, is_asked
from unchained.node.cli.input_file import read_file
from unchained.node.cli.meaning import print_meaning, without_file
from unchained.node.cli.options import YesOption
from unchained.node.cli.output_file import check_output, say_written, write_output
from unchained.node.cli.passphrases import (
    PassphraseFdOption,
    PassphraseFileOption,
)
from unchained.node.cli.pay import (
    AmountArgument,
    CoinsOption,
    FeeOption,
    HighFeeOption,
    MemoOption,
    OutputOption,
    RateOption,
    ToArgument,
    show_sent,
)
from unchained.node.cli.payees import payment
from unchained.node.cli.spend_command import SpendCommand
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    SLOW_ANSWER_S,
    AccountOption,
    WalletOption,
    app,
)
from unchained.node.rpc.core.values import HEX_BYTES_MAX

_NOTHING_TO_ADD: Final = (
    "there is nothing to sign with: the wallet is watch-only, has signed it already, or none of "
    "its keys is asked for"
)

UnsignedArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A transfer to be signed.")]


def add_to(_root: typer.Typer) -> None:
    """Add the commands of this room: they are there once it is imported."""


@asking(app, "prepare")
@user_text("Make a transfer to be signed elsewhere, and write it to a file.")
def prepare(
    node: Asker,
    to: ToArgument,
    output: OutputOption,
    amount: AmountArgument = None,
    memo: MemoOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    fee: FeeOption = None,
    coin: CoinsOption = None,
    allow_high_fee: HighFeeOption = False,
) -> None:
    check_output(output)
    found = node.call(
        "wallet.prepare",
        seconds=SLOW_ANSWER_S,
        payments=payment(to, amount, memo),
        wallet=wallet,
        account=account,
        fee_rate=fee_rate,
        fee=fee,
        allow_high_fee=allow_high_fee,
        coins=coin,
    )
    write_unsigned(node, found, output)


@asking(app, "describe")
@user_text("Show what signing a transfer would mean.")
def describe(node: Asker, file: UnsignedArgument, wallet: WalletOption = DEFAULT_WALLET) -> None:
    found = node.call("wallet.describe", file=_read(file).hex(), wallet=wallet)
    node.show(found, lambda: print_meaning(found))


@asking(app, "sign")
@user_text(
    "Add a wallet's signatures to a transfer. Where no node runs, the wallet's file alone does."
)
def sign(
    node: Asker,
    file: UnsignedArgument,
    output: OutputOption,
    wallet: WalletOption = DEFAULT_WALLET,
    yes: YesOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    content = _read(file).hex()
    check_output(output, given=file)
    if is_asked(yes):
        found = node.call("wallet.describe", file=content, wallet=wallet)
        print_meaning(found, err=True)
        if not found["can_sign"]:
            raise CommandFailedError(_NOTHING_TO_ADD)
        confirm("Sign it?", "not signed")
    spender = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
    write_unsigned(node, spender.call("wallet.sign", file=content), output)


@asking(app, "merge")
@user_text("Join the signatures of several signers' files, in any order, in one file.")
def merge(
    node: Asker,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Signed copies.")],
    output: OutputOption,
    wallet: WalletOption = DEFAULT_WALLET,
) -> None:
    content = [_read(file).hex() for file in files]
    check_output(output)
    write_unsigned(node, node.call("wallet.merge", files=content, wallet=wallet), output)


@asking(app, "broadcast")
@user_text(
    "Send a transfer whose signatures are complete, in one file or several. A person is shown and "
    "asked."
)
def broadcast(
    node: Asker,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Signed copies.")],
    wallet: WalletOption = DEFAULT_WALLET,
    yes: YesOption = False,
) -> None:
    content = [_read(file).hex() for file in files]
    if is_asked(yes) and node.is_running():
        found = node.call("wallet.merge", files=content, wallet=wallet)
        print_meaning(found, err=True)
        if not found["missing"]:  # else the node says what is to be done
            confirm_sending()
    sent = node.call("wallet.broadcast", seconds=SLOW_ANSWER_S, files=content, wallet=wallet)
    show_sent(node, sent, told=is_asked(yes))


def write_unsigned(node: Asker, found: dict[str, Any], output: Path) -> None:
    """Write a transfer to be signed to its file, which `check_output` was asked about, and show
    what it means."""
    write_output(output, bytes.fromhex(found["file"]))
    shown = without_file(found) | {"file": str(output)}

    def human() -> None:
        print_meaning(found)
        say_written(output)

    node.show(shown, human)


def _read(path: Path) -> bytes:
    return read_file(path, HEX_BYTES_MAX)
