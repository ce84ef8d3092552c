"""``unchained-node wallet send`` and the like: what moves coins."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import (
    Asker,
    CommandFailedError,
    asking,
    print_fields,
    print_rows,
)
from unchained.node.cli.input_file import read_file
from unchained.node.cli.options import JsonOption, NetworkOption
from unchained.node.cli.passphrases import (
    PassphraseFdOption,
    PassphraseFileOption,
    read_passphrase,
)
from unchained.node.cli.text import harmless, print_json
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    SLOW_ANSWER_S,
    AccountOption,
    WalletOption,
    app,
    known_passphrase,
    write_output,
)
from unchained.node.rpc.core.values import HEX_BYTES_MAX

UNLOCK_S: Final = 120.0
"""For how long a command unlocks a wallet that it then locks again."""
LOCKED: Final = "WALLET_LOCKED"
"""The node's word for a wallet that has to be unlocked first."""

SHOWN_WHOLE: Final = 100
"""Characters of a payee that are shown to a person; addresses have fewer."""

RateOption = Annotated[
    int | None,
    typer.Option("--fee-rate", metavar="N", min=1, help="Grains per byte. Default: the least."),
]
FeeOption = Annotated[str | None, typer.Option("--fee", metavar="UNC", help="Exactly this fee.")]
HighFeeOption = Annotated[
    bool,
    typer.Option(
        "--allow-high-fee",
        help="Pay a fee above 100 times the estimate, or above a tenth of the amount.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
CoinsOption = Annotated[
    list[str] | None,
    typer.Option("--coin", metavar="ID", help="Spend these alone; may be given more than once."),
]
ToArgument = Annotated[
    str, typer.Argument(metavar="PAYEE", help="Address, paycode, contract or payment URI.")
]
AmountArgument = Annotated[
    str | None, typer.Argument(metavar="[UNC]", help="May be left out if the URI names it.")
]
MemoOption = Annotated[
    str, typer.Option("--memo", metavar="TEXT", help="For the payee of a paycode alone.")
]
TxidArgument = Annotated[str, typer.Argument(metavar="TXID")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE")]
UnsignedArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A transfer to be signed.")]


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room beside those of `wallet`."""
    root.command("verify-receipt")(verify_receipt)


class SpendCommand:
    """Calls that need an unlocked wallet: it is unlocked for them, and locked again."""

    def __init__(
        self, node: Asker, wallet: str, passphrase_file: Path | None, descriptor: int | None
    ) -> None:
        self._node = node
        self._wallet = wallet
        self._file = passphrase_file
        self._descriptor = descriptor

    def call(self, method: str, **params: object) -> Any:
        """Return a method's result. Raises `CommandFailedError`."""
        node, wallet = self._node, self._wallet
        # Nobody is asked for a passphrase to hear then that there is another mistake.
        try:
            return node.call(method, seconds=SLOW_ANSWER_S, name=wallet, **params)
        except CommandFailedError as error:
            if error.word != LOCKED:
                raise
        passphrase = known_passphrase(node, wallet, self._file, self._descriptor)
        unlocking = {"passphrase": passphrase, "name": wallet, "seconds": UNLOCK_S}
        node.call_with("wallet.unlock", unlocking, seconds=SLOW_ANSWER_S)
        try:
            return node.call(method, seconds=SLOW_ANSWER_S, name=wallet, **params)
        finally:
            node.call("wallet.lock", name=wallet)


def payment(to: str, amount: str | None, memo: str) -> list[dict[str, str]]:
    """Return the `payments` of one payee."""
    payment = {"to": to, "memo": memo}
    return [payment if amount is None else payment | {"amount": amount}]


def show_sent(node: Asker, sent: dict[str, Any]) -> None:
    """Show a transfer that has been sent."""
    payees = [payee | {"to": _shortened(payee["to"])} for payee in sent["payees"]]
    shown = {name: value for name, value in sent.items() if value is not None}
    node.show(sent, lambda: print_fields(shown | {"payees": payees}))


def _shortened(payee: str) -> str:
    """Return an address whole, and of a paycode, which fills a screen, the ends."""
    return payee if len(payee) <= SHOWN_WHOLE else f"{payee[:24]}…{payee[-24:]}"


@asking(app, "send")
@user_text("Pay somebody.")
def send(
    node: Asker,
    to: ToArgument,
    amount: AmountArgument = None,
    memo: MemoOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    fee: FeeOption = None,
    coin: CoinsOption = None,
    allow_high_fee: HighFeeOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.send",
        payments=payment(to, amount, memo),
        account=account,
        fee_rate=fee_rate,
        fee=fee,
        allow_high_fee=allow_high_fee,
        coins=coin,
    )
    show_sent(node, sent)


@asking(app, "sweep")
@user_text("Pay all of an account's coins to one payee.")
def sweep(
    node: Asker,
    to: ToArgument,
    memo: MemoOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    coin: CoinsOption = None,
    allow_high_fee: HighFeeOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.sweep",
        to=to,
        account=account,
        fee_rate=fee_rate,
        allow_high_fee=allow_high_fee,
        memo=memo,
        coins=coin,
    )
    _show_gathered(node, sent)


def _show_gathered(node: Asker, found: dict[str, Any]) -> None:
    def human() -> None:
        print_rows(found["sent"], ["txid", "fee", "size"], "nothing was sent")
        for step in found["refused"]:
            typer.echo(f"not taken: {step['txid']}: {step['why']}", err=True)
        typer.echo(f"left in the account: {found['left']} UNC", err=True)

    node.show(found, human)


@asking(app, "consolidate")
@user_text("Join an account's coins, the smallest first, into few.")
def consolidate(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    below: Annotated[
        str | None, typer.Option("--below", metavar="UNC", help="Join smaller coins alone.")
    ] = None,
    allow_high_fee: HighFeeOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.consolidate",
        account=account,
        fee_rate=fee_rate,
        allow_high_fee=allow_high_fee,
        below=below,
    )
    _show_gathered(node, sent)


@asking(app, "bump")
@user_text("Replace a waiting transfer by one that pays more.")
def bump(
    node: Asker,
    txid: TxidArgument,
    wallet: WalletOption = DEFAULT_WALLET,
    fee_rate: RateOption = None,
    fee: FeeOption = None,
    allow_high_fee: HighFeeOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.bump_fee", txid=txid, fee_rate=fee_rate, fee=fee, allow_high_fee=allow_high_fee
    )
    show_sent(node, sent)


@asking(app, "abandon")
@user_text(
    """Take the coins of a waiting transfer back; it may be included all the same.

    Waiting transfers that spend its change are given up with it.
    """
)
def abandon(node: Asker, txid: TxidArgument, wallet: WalletOption = DEFAULT_WALLET) -> None:
    found = node.call("wallet.abandon", txid=txid, name=wallet)
    node.show(found, lambda: _show_abandoned(found["lost"]))


def _show_abandoned(lost: list[str]) -> None:
    typer.echo("abandoned")
    for txid in lost:
        typer.echo(f"given up with it, since it spends its change: {txid}")


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
    found = node.call(
        "wallet.prepare",
        seconds=SLOW_ANSWER_S,
        payments=payment(to, amount, memo),
        name=wallet,
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
    found = node.call("wallet.describe", file=_read(file).hex(), name=wallet)
    node.show(found, lambda: _print_meaning(found))


def _print_meaning(found: dict[str, Any]) -> None:
    """Print what signing a transfer means, as the signer's own machine has worked it out."""
    for output in found["outputs"]:
        whom = "back to this wallet" if output["own"] else output["payee"] or output["lock"]
        typer.echo(f"{output['value']:>20} UNC  {_shortened(harmless(whom))}")
        if not (output["own"] or output["payee"]):
            typer.echo(f"{'':>26}a lock: the file does not show whose")
        if output["terms"]:
            typer.echo(f"{'':>26}under {output['terms']}")
        if output["memo"]:
            typer.echo(f"{'':>26}memo {harmless(output['memo'])}")
    typer.echo(f"{found['fee']:>20} UNC  fee")
    typer.echo(f"{found['spent']:>20} UNC  in all, of the coins that it spends")
    if found["lock_height"]:
        typer.echo(f"not before height {found['lock_height']}")
    typer.echo(
        f"signed by {len(found['signed_by'])}; this wallet can sign with {len(found['can_sign'])} "
        "keys"
    )


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
    content = _read(file)
    if node.remote or node.is_running():
        _confirm_signing(node.call("wallet.describe", file=content.hex(), name=wallet), yes)
        spender = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
        write_unsigned(node, spender.call("wallet.sign", file=content.hex()), output)
        return

    def passphrase() -> str:
        return read_passphrase(passphrase_file, passphrase_fd)

    found = _sign_offline(node, wallet, content, passphrase, yes)
    write_unsigned(node, found, output)


def _confirm_signing(found: dict[str, Any], yes: bool) -> None:
    """Show a person what he signs, and ask him. Raises `CommandFailedError` if he declines."""
    if yes or not sys.stdin.isatty():
        return
    _print_meaning(found)
    if not typer.confirm("Sign it?", err=True):
        raise CommandFailedError("not signed")


def _sign_offline(
    node: Asker, name: str, content: bytes, passphrase: Callable[[], str], yes: bool
) -> dict[str, Any]:
    from unchained.node.cli.options import settings_from
    from unchained.node.consensus.params import NETWORKS
    from unchained.node.rpc.core.values import encode
    from unchained.node.rpc.methods.wallet_shapes import UnsignedTransfer
    from unchained.node.wallet.errors import WalletError
    from unchained.node.wallet.keystore import WALLETS_NAME
    from unchained.node.wallet.unsigned import Unsigned
    from unchained.node.wallet.wallet import Wallet

    settings = settings_from(node.flags, config=None)
    network = NETWORKS[settings.config.node.network]
    try:
        unsigned = Unsigned.from_file(content, network)
        wallet = Wallet.open(settings.data_dir / WALLETS_NAME, name, network)
        try:
            meaning = UnsignedTransfer.of(content, wallet.summary(unsigned))
            _confirm_signing(_plain(meaning, encode), yes)
            wallet.unlock(passphrase() if wallet.info().has_passphrase else "")
            signed = wallet.sign(unsigned)
            return _plain(UnsignedTransfer.of(signed.to_file(), wallet.summary(signed)), encode)
        finally:
            wallet.close()
    except FileNotFoundError:
        raise CommandFailedError(f"no wallet is named {name!r} in {settings.data_dir}") from None
    except WalletError as error:
        raise CommandFailedError(str(error)) from None


def _plain(value: object, encode: Callable[[object], object]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(value, enc_hook=encode)
    return found


@asking(app, "broadcast")
@user_text("Send a transfer whose signatures are complete, in one file or several.")
def broadcast(
    node: Asker,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Signed copies.")],
    wallet: WalletOption = DEFAULT_WALLET,
) -> None:
    content = [_read(file).hex() for file in files]
    sent = node.call("wallet.broadcast", seconds=SLOW_ANSWER_S, files=content, name=wallet)
    show_sent(node, sent)


def write_unsigned(node: Asker, found: dict[str, Any], output: Path) -> None:
    """Write a transfer to be signed to its file, and show what it means."""
    write_output(output, bytes.fromhex(found["file"]))
    shown = _without_file(found) | {"file": str(output)}

    def human() -> None:
        _print_meaning(found)
        typer.echo(output)

    node.show(shown, human)


def _without_file(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "file"}


def _read(path: Path) -> bytes:
    return read_file(path, HEX_BYTES_MAX)


@user_text(
    "Check a receipt with no node: the transfer, its place in an anchor, and the anchors' work."
)
def verify_receipt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="By `wallet receipt`.")],
    network: NetworkOption = None,
    json: JsonOption = False,
) -> None:
    from unchained.node.cli.options import settings_from
    from unchained.node.consensus.params import NETWORKS
    from unchained.node.crypto.pow import default_backend
    from unchained.node.rpc.core.values import Amount, encode
    from unchained.node.wallet.errors import ReceiptError
    from unchained.node.wallet.receipts import RECEIPT_BYTES_MAX
    from unchained.node.wallet.receipts import verify_receipt as verify

    settings = settings_from({"node.network": ("--network", network)}, config=None)
    try:
        content = read_file(file, RECEIPT_BYTES_MAX)
        found = verify(content, NETWORKS[settings.config.node.network], default_backend())
    except ReceiptError as error:
        raise CommandFailedError(f"{file}: {error}") from None
    facts: dict[str, Any] = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in ((name, getattr(found, name)) for name in found.__struct_fields__)
        if name != "outputs"
    }
    facts["fee"] = Amount(found.fee)
    facts["outputs"] = [
        {"value": Amount(output.value), "lock": output.lock.hex()} for output in found.outputs
    ]
    plain: dict[str, Any] = msgspec.to_builtins(facts | {"work": str(found.work)}, enc_hook=encode)
    if json:
        print_json(plain)
    else:
        print_fields(plain)
