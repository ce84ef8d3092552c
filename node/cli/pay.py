"""``unchained-node wallet send`` and the like: what moves coins."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from unchained.node.base.terminal_text import harmless
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.input_file import read_file
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import JsonOption, NetworkOption
from unchained.node.cli.passphrases import (
    PassphraseFdOption,
    PassphraseFileOption,
)
from unchained.node.cli.tables import print_fields, print_rows
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    SLOW_ANSWER_S,
    AccountOption,
    WalletOption,
    app,
    known_passphrase,
)

UNLOCK_S: Final = 120.0
"""For how long a command unlocks a wallet that it then locks again."""
LOCKED: Final = "WALLET_LOCKED"
"""The node's word for a wallet that has to be unlocked first."""

PAYMENTS_BYTES_MAX: Final = 1 << 20
"""Bytes of a file of payments."""

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
            return node.call(method, seconds=SLOW_ANSWER_S, wallet=wallet, **params)
        except CommandFailedError as error:
            if error.word != LOCKED:
                raise
        passphrase = known_passphrase(node, wallet, self._file, self._descriptor)
        unlocking = {"passphrase": passphrase, "wallet": wallet, "seconds": UNLOCK_S}
        node.call_with("wallet.unlock", unlocking, seconds=SLOW_ANSWER_S)
        try:
            return node.call(method, seconds=SLOW_ANSWER_S, wallet=wallet, **params)
        finally:
            node.call("wallet.lock", wallet=wallet)


def payment(to: str, amount: str | None, memo: str) -> list[dict[str, str]]:
    """Return the `payments` of one payee."""
    payment = {"payee": to, "memo": memo}
    return [payment if amount is None else payment | {"amount": amount}]


def show_sent(node: Asker, sent: dict[str, Any]) -> None:
    """Show a transfer that has been sent."""
    payees = [payee | {"payee": shortened(payee["payee"])} for payee in sent["payees"]]
    shown = {name: value for name, value in sent.items() if value is not None}
    node.show(sent, lambda: print_fields(shown | {"payees": payees}))


def shortened(payee: str) -> str:
    """Return an address whole, and of a paycode, which fills a screen, the ends."""
    return payee if len(payee) <= SHOWN_WHOLE else f"{payee[:24]}…{payee[-24:]}"


def print_meaning(found: dict[str, Any]) -> None:
    """Print what signing a transfer means, as the signer's own machine has worked it out."""
    for output in found["outputs"]:
        whom = "back to this wallet" if output["own"] else output["payee"] or output["lock"]
        typer.echo(f"{output['amount']:>20} UNC  {shortened(harmless(whom))}")
        if not (output["own"] or output["payee"]):
            typer.echo(f"{'':>26}a lock: the file does not show whose")
        if output["payee"] and len(output["payee"]) > SHOWN_WHOLE:
            typer.echo(f"{'':>26}fingerprint {output['fingerprint']}, lock {output['lock']}")
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


def without_file(found: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a transfer to be signed, but for its file."""
    return {name: value for name, value in found.items() if name != "file"}


@asking(app, "send")
@user_text(
    """Pay somebody, or several: PAYEE UNC [PAYEE UNC]..., or a file with a line PAYEE,UNC[,MEMO]
    for each. A person is shown what it pays and asked."""
)
def send(
    node: Asker,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PAYEE [UNC]]...", help="A payment URI may name the amount."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--payments", metavar="FILE", help="Pay all that it lists.")
    ] = None,
    memo: MemoOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    fee: FeeOption = None,
    coin: CoinsOption = None,
    allow_high_fee: HighFeeOption = False,
    request_id: Annotated[
        str | None,
        typer.Option("--request-id", metavar="ID", help="Pay once, however often it is asked."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would pay, and pay nothing.")
    ] = False,
    yes: YesOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    payments = _payments(pairs or [], file, memo)
    asked = {
        "payments": payments,
        "account": account,
        "fee_rate": fee_rate,
        "fee": fee,
        "allow_high_fee": allow_high_fee,
        "coins": coin,
    }
    if dry_run or (sys.stdin.isatty() and not yes):
        found = node.call("wallet.prepare", seconds=SLOW_ANSWER_S, wallet=wallet, **asked)
        if dry_run:
            node.show(without_file(found), lambda: print_meaning(found))
            return
        print_meaning(found)
        if not typer.confirm("Send it?", err=True):
            raise CommandFailedError("not sent")
    sent = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.send", **asked, request_id=request_id
    )
    show_sent(node, sent)


def _payments(pairs: Sequence[str], file: Path | None, memo: str) -> list[dict[str, str]]:
    """Return the payments of a command line. Raises `CommandFailedError`, `typer.BadParameter`."""
    found = [] if file is None else _payments_of(read_file(file, PAYMENTS_BYTES_MAX), str(file))
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


def _payments_of(content: bytes, name: str) -> list[dict[str, str]]:
    try:
        lines = list(csv.reader(io.StringIO(content.decode()), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandFailedError(f"{name}: not a file of payments: {error}") from None
    found: list[dict[str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line or line[0].startswith("#"):
            continue
        if not 2 <= len(line) <= 3:
            raise CommandFailedError(f"{name}: line {number}: expected PAYEE,UNC or PAYEE,UNC,MEMO")
        found += payment(line[0].strip(), line[1].strip(), line[2] if len(line) == 3 else "")
    return found


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
        payee=to,
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
            typer.echo(f"not taken: {step['txid']}: {step['reason']}", err=True)
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


@asking(app, "bump-fee")
@user_text("Replace a waiting transfer by one that pays more.")
def bump_fee(
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
    found = node.call("wallet.abandon", txid=txid, wallet=wallet)
    node.show(found, lambda: _show_abandoned(found["lost"]))


def _show_abandoned(lost: list[str]) -> None:
    typer.echo("abandoned")
    for txid in lost:
        typer.echo(f"given up with it, since it spends its change: {txid}")


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
        {"amount": Amount(output.value), "lock": output.lock.hex()} for output in found.outputs
    ]
    plain: dict[str, Any] = msgspec.to_builtins(facts | {"work": str(found.work)}, enc_hook=encode)
    if json:
        print_json(plain)
    else:
        print_fields(plain)
