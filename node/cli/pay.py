"""``unchained-node wallet send`` and the like: what moves coins."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking, print_fields
from unchained.node.cli.options import JsonOption, NetworkOption
from unchained.node.cli.passphrases import (
    PassphraseFdOption,
    PassphraseFileOption,
    read_passphrase,
)
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    SLOW_ANSWER_S,
    AccountOption,
    WalletOption,
    app,
    known_passphrase,
    write_output,
)

UNLOCK_S: Final = 120.0
"""For how long a command unlocks a wallet that it then locks again."""
LOCKED: Final = "WALLET_LOCKED"
"""The node's word for a wallet that has to be unlocked first."""

INPUT_BYTES_MAX: Final = 1 << 20

SHOWN_WHOLE: Final = 100
"""Characters of a payee that are shown to a person; addresses have fewer."""

multisig_app = typer.Typer(no_args_is_help=True, help="Share coins: m of n keys spend them.")
htlc_app = typer.Typer(no_args_is_help=True, help="Swap: anyone who has a hash's preimage claims.")

app.add_typer(multisig_app, name="multisig")
app.add_typer(htlc_app, name="htlc")

RateOption = Annotated[
    int | None,
    typer.Option("--fee-rate", metavar="N", min=1, help="Grains per byte. Default: the least."),
]
FeeOption = Annotated[str | None, typer.Option("--fee", metavar="UNC", help="Exactly this fee.")]
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
LockArgument = Annotated[str, typer.Argument(metavar="LOCK", help="The contract's lock.")]
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


def _payment(to: str, amount: str | None, memo: str) -> list[dict[str, str]]:
    payment = {"to": to, "memo": memo}
    return [payment if amount is None else payment | {"amount": amount}]


def _show_sent(node: Asker, sent: dict[str, Any]) -> None:
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
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.send",
        payments=_payment(to, amount, memo),
        account=account,
        fee_rate=fee_rate,
        fee=fee,
        coins=coin,
    )
    _show_sent(node, sent)


@asking(app, "sweep")
@user_text("Pay all of an account's coins to one payee.")
def sweep(
    node: Asker,
    to: ToArgument,
    memo: MemoOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.sweep", to=to, account=account, fee_rate=fee_rate, memo=memo
    )
    node.show_rows(sent, ["txid", "fee", "size"], "nothing was sent")


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
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.consolidate", account=account, fee_rate=fee_rate, below=below
    )
    node.show_rows(sent, ["txid", "fee", "size"], "nothing was sent")


@asking(app, "bump")
@user_text("Replace a waiting transfer by one that pays more.")
def bump(
    node: Asker,
    txid: TxidArgument,
    wallet: WalletOption = DEFAULT_WALLET,
    fee_rate: RateOption = None,
    fee: FeeOption = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.bump_fee", txid=txid, fee_rate=fee_rate, fee=fee
    )
    _show_sent(node, sent)


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
) -> None:
    found = node.call(
        "wallet.prepare",
        seconds=SLOW_ANSWER_S,
        payments=_payment(to, amount, memo),
        name=wallet,
        account=account,
        fee_rate=fee_rate,
        fee=fee,
        coins=coin,
    )
    _write_unsigned(node, found, output)


@asking(app, "describe")
@user_text("Show what signing a transfer would mean.")
def describe(node: Asker, file: UnsignedArgument, wallet: WalletOption = DEFAULT_WALLET) -> None:
    found = node.call("wallet.describe", file=_read(file).hex(), name=wallet)
    node.show(found, lambda: print_fields(_without_file(found)))


@asking(app, "sign")
@user_text(
    "Add a wallet's signatures to a transfer. Where no node runs, the wallet's file alone does."
)
def sign(
    node: Asker,
    file: UnsignedArgument,
    output: OutputOption,
    wallet: WalletOption = DEFAULT_WALLET,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    content = _read(file)
    if node.remote or node.is_running():
        spender = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
        _write_unsigned(node, spender.call("wallet.sign", file=content.hex()), output)
        return

    def passphrase() -> str:
        return read_passphrase(passphrase_file, passphrase_fd)

    found = _sign_offline(node, wallet, content, passphrase)
    _write_unsigned(node, found, output)


def _sign_offline(
    node: Asker, name: str, content: bytes, passphrase: Callable[[], str]
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
            print_fields(_plain(UnsignedTransfer.of(content, wallet.summary(unsigned)), encode))
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
    _show_sent(node, sent)


def _write_unsigned(node: Asker, found: dict[str, Any], output: Path) -> None:
    write_output(output, bytes.fromhex(found["file"]))
    shown = _without_file(found) | {"file": str(output)}
    node.show(shown, lambda: print_fields(shown))


def _without_file(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "file"}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(INPUT_BYTES_MAX)
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from None


# Conditions shared with others


@asking(app, "contracts")
@user_text("Show the contracts that a wallet watches, and what they hold.")
def contracts(node: Asker, wallet: WalletOption = DEFAULT_WALLET) -> None:
    columns = ["kind", "value", "label", "lock", "text"]
    node.show_rows(node.call("wallet.contracts", name=wallet), columns, "no contracts")


@asking(app, "watch-contract")
@user_text("Watch a contract that another party made.")
def watch_contract(
    node: Asker,
    contract: Annotated[str, typer.Argument(metavar="TEXT", help="contract:…")],
    wallet: WalletOption = DEFAULT_WALLET,
    label: Annotated[str, typer.Option("--label", metavar="TEXT")] = "",
) -> None:
    _show_contract(
        node, node.call("wallet.contract_add", contract=contract, name=wallet, label=label)
    )


@asking(multisig_app, "create")
@user_text("Make a contract that M of the parties spend; hand its text to them, pay it to fund it.")
def multisig_create(
    node: Asker,
    threshold: Annotated[int, typer.Argument(metavar="M", min=1, max=16)],
    parties: Annotated[
        list[str], typer.Argument(metavar="PARTY...", help="Addresses or paycodes.")
    ],
    wallet: WalletOption = DEFAULT_WALLET,
    label: Annotated[str, typer.Option("--label", metavar="TEXT")] = "",
) -> None:
    found = node.call(
        "wallet.multisig_create", threshold=threshold, parties=parties, name=wallet, label=label
    )
    _show_contract(node, found)


@asking(multisig_app, "prepare")
@user_text(
    "Make a transfer of what a contract holds: `wallet sign` by M parties, `wallet broadcast`."
)
def multisig_prepare(
    node: Asker,
    lock: LockArgument,
    output: OutputOption,
    to: Annotated[
        str | None, typer.Argument(metavar="[PAYEE]", help="Default: all to this wallet.")
    ] = None,
    amount: AmountArgument = None,
    wallet: WalletOption = DEFAULT_WALLET,
    fee_rate: RateOption = None,
    fee: FeeOption = None,
) -> None:
    found = node.call(
        "wallet.multisig_prepare",
        seconds=SLOW_ANSWER_S,
        lock=lock,
        payments=[] if to is None else _payment(to, amount, ""),
        name=wallet,
        fee_rate=fee_rate,
        fee=fee,
    )
    _write_unsigned(node, found, output)


@asking(htlc_app, "create")
@user_text("Make a hash-time-lock; hand its text to the other party, pay it to fund it.")
def htlc_create(
    node: Asker,
    claim: Annotated[str, typer.Argument(metavar="CLAIMER", help="Address or paycode.")],
    refund: Annotated[str, typer.Argument(metavar="REFUNDED", help="Address or paycode.")],
    height: Annotated[int, typer.Argument(metavar="HEIGHT", min=1, help="To refund from.")],
    digest: Annotated[
        str | None,
        typer.Option("--hash", metavar="SHA256", help="Default: of a preimage drawn here."),
    ] = None,
    wallet: WalletOption = DEFAULT_WALLET,
    label: Annotated[str, typer.Option("--label", metavar="TEXT")] = "",
) -> None:
    params = {"claim": claim, "refund": refund, "height": height, "name": wallet, "label": label}
    if digest is not None:
        params["hash"] = digest
    found = node.call_with("wallet.htlc_create", params)
    _show_contract(node, found)


@asking(htlc_app, "claim")
@user_text("Take what a hash-time-lock holds, by the preimage given or known.")
def htlc_claim(
    node: Asker,
    lock: LockArgument,
    preimage: Annotated[str | None, typer.Option("--preimage", metavar="HEX")] = None,
    wallet: WalletOption = DEFAULT_WALLET,
    fee_rate: RateOption = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.htlc_claim", lock=lock, preimage=preimage, fee_rate=fee_rate
    )
    _show_sent(node, sent)


@asking(htlc_app, "refund")
@user_text("Take back what a hash-time-lock holds, once its height is reached.")
def htlc_refund(
    node: Asker,
    lock: LockArgument,
    wallet: WalletOption = DEFAULT_WALLET,
    fee_rate: RateOption = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.htlc_refund", lock=lock, fee_rate=fee_rate
    )
    _show_sent(node, sent)


def _show_contract(node: Asker, found: dict[str, Any]) -> None:
    node.show(found, lambda: print_fields({n: v for n, v in found.items() if v is not None}))


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
    from unchained.node.wallet.receipts import verify_receipt as verify

    settings = settings_from({"node.network": ("--network", network)}, config=None)
    try:
        found = verify(_read(file), NETWORKS[settings.config.node.network], default_backend())
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
        sys.stdout.write(msgspec.json.encode(plain).decode() + "\n")
    else:
        print_fields(plain)
