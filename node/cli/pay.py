"""``unchained-node wallet send`` and the like: what moves coins."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import (
    Asker,
    CommandFailedError,
    asking,
)
from unchained.node.cli.confirm import (
    confirm_sending,
    is_asked,
    print_plan,
    shortened,
    wait_confirmed,
)
from unchained.node.cli.facts import Facts, known, print_facts
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import YesOption
from unchained.node.cli.passphrases import (
    PassphraseFdOption,
    PassphraseFileOption,
)
from unchained.node.cli.payees import payments_of, uri_remarks
from unchained.node.cli.spend_command import SpendCommand
from unchained.node.cli.tables import print_rows
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    AccountOption,
    WalletOption,
    app,
)
from unchained.node.primitives.amounts import full, grains_of

_STATES: Final = {
    "waiting": "waits for an anchor",
    "included": "is on the chain",
    "abandoned": "given up",
    "replaced": "replaced by another",
    "conflict": "impossible: something else has spent its coins",
}
ABOVE_AGREED: Final = "FEE_ABOVE_MAX"
"""The node's word for a transfer that takes a higher fee than it may."""
TOO_LITTLE_BY_NOW: Final = ("BAD_PAYMENT", "FEE_TOO_LOW", "HIGH_FEE", "REPLACEMENT_TOO_CHEAP")
"""Its words for one whose fee does not do, which may be so only since it was shown: the mempool
asks for more, or for much less, or what is to be replaced pays more."""

RateOption = Annotated[
    int | None,
    typer.Option("--fee-rate", metavar="N", min=1, help="Grains per byte."),
]
TargetOption = Annotated[
    int | None,
    typer.Option(
        "--target", metavar="N", min=1, help="Pay to be included within N anchors. Default: 2."
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what it would send, and send nothing.")
]
FeeOption = Annotated[str | None, typer.Option("--fee", metavar="UNC", help="Exactly this fee.")]
HighFeeOption = Annotated[
    bool,
    typer.Option(
        "--allow-high-fee",
        help="Pay a fee above 100 times the estimate, or above a tenth of the amount.",
    ),
]
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
TxidArgument = Annotated[str, typer.Argument(metavar="TXID", help="The transfer's.")]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="A file to write.")
]


def add_to(_root: typer.Typer) -> None:
    """Add the commands of this room beside those of `wallet`."""


def show_sent(
    node: Asker,
    sent: dict[str, Any],
    *,
    told: bool = False,
    waits: bool = False,
    warned: str | None = None,
) -> None:
    """Show a transfer that has been sent; whoever was asked about it is `told` whom it pays, and
    was `warned` before; who `waits` is shown next how it stands."""
    payees = [payee | {"payee": shortened(payee["payee"])} for payee in sent["payees"]]
    members = {name: value for name, value in known(sent).items() if name != "warning"}

    def human() -> None:
        if sent["warning"] and sent["warning"] != warned:
            typer.echo(f"warning: {sent['warning']}", err=True)
        if sys.stdout.isatty() and not told and sent["payees"]:
            print_plan([sent | {"joins": 0}])
        facts = partial(_sent_facts, waits=waits)
        print_facts(sent, facts, members | {"payees": payees})

    node.show(sent, human)


def _sent_facts(sent: Mapping[str, Any], *, waits: bool) -> Facts:
    """Say what became of a transfer, whose payees are shown already."""
    yield "transfer", sent["txid"]
    if not waits:
        yield "status", _STATES.get(sent["status"], sent["status"])
    if sent["replaces"]:
        yield "in place of", sent["replaces"]
    for joined in sent["joined"]:
        yield "coins joined by", joined
    yield "fee", f"{sent['fee']} UNC, for {sent['size']:,} bytes"


@asking(app, "send")
@user_text(
    """Pay somebody, or several: PAYEE UNC [PAYEE UNC]..., or a file of them. A person is shown what
    it pays and asked.

    With `max` for UNC one payee gets all that the account has, or all of the coins named.
    """
)
def send(
    node: Asker,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PAYEE [UNC|max]]...", help="A payment URI may name the amount."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--payees", metavar="FILE", help="Pay all that it lists: PAYEE,UNC[,MEMO] or JSON."
        ),
    ] = None,
    memo: MemoOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    fee: FeeOption = None,
    target: TargetOption = None,
    subtract_fee: Annotated[
        bool, typer.Option("--subtract-fee", help="The payees bear the fee, in equal parts.")
    ] = False,
    coin: CoinsOption = None,
    allow_high_fee: HighFeeOption = False,
    request_id: Annotated[
        str | None,
        typer.Option("--request-id", metavar="ID", help="Pay once, however often it is asked."),
    ] = None,
    wait: Annotated[
        int, typer.Option("--wait", min=0, metavar="N", help="Until it has N confirmations.")
    ] = 0,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    shared: dict[str, object] = {
        "account": account,
        "fee_rate": fee_rate,
        "target": target,
        "allow_high_fee": allow_high_fee,
        "coins": coin,
    }
    spend = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
    pairs = pairs or []
    if len(pairs) == 2 and pairs[1] == "max" and file is None:
        for given, option in ((fee, "--fee"), (request_id, "--request-id"), (wait, "--wait")):
            if given:
                raise typer.BadParameter("does not go with `max`", param_hint=option)
        sweeping = shared | {"payee": pairs[0], "memo": memo}
        remarks = uri_remarks(pairs[0], "max")
        carry_out(node, spend, "wallet.sweep", sweeping, dry_run=dry_run, yes=yes, remarks=remarks)
        return
    payments = payments_of(pairs, file, memo)
    asked = shared | {"payments": payments, "fee": fee, "subtract_fee": subtract_fee}
    # what was made before is only told again
    sent = carry_out(
        node,
        spend,
        "wallet.send",
        asked,
        dry_run=dry_run,
        yes=yes,
        waits=wait > 0,
        remarks=[
            remark for paid in payments for remark in uri_remarks(paid["payee"], paid.get("amount"))
        ],
        request_id=request_id,
    )
    if sent is None or not wait:
        return
    has = wait_confirmed(node, wallet, sent["txid"], wait)
    if node.json:
        print_json(sent | {"confirmations": has})


def carry_out(
    node: Asker,
    spend: SpendCommand,
    method: str,
    asked: dict[str, object],
    *,
    dry_run: bool,
    yes: bool,
    waits: bool = False,
    remarks: Sequence[str] = (),
    **more: object,
) -> dict[str, Any] | None:
    """Show what a method would send and ask a person, then send it; return what was sent, None for
    a dry run. `more` goes with the sending alone; who `waits` says himself how it stands in the
    end. `remarks` are made before. Raises `CommandFailedError`."""
    if dry_run:
        found = spend.plan(method, asked)
        node.show(found, lambda: print_plan(_steps(found)))
        _remark(remarks)
        return None
    sent: dict[str, Any]
    warned: str | None = None
    if is_asked(yes):
        sent, warned = _ask_and_send(spend, method, asked, remarks, more)
    else:
        _remark(remarks)
        sent = spend.call(method, **asked, **more)
    if waits and node.json:
        return sent
    if "sent" in sent:
        _show_gathered(node, sent)
    else:
        show_sent(node, sent, told=is_asked(yes), waits=waits, warned=warned)
    return sent


def _ask_and_send(
    spend: SpendCommand,
    method: str,
    asked: Mapping[str, object],
    remarks: Sequence[str],
    more: Mapping[str, object],
) -> tuple[dict[str, Any], str | None]:
    """Show a person what a method would send, and send it once he has agreed: for the fee that he
    was shown, or he is shown anew what it takes by then. Return what was sent, and of what he was
    warned. Raises `CommandFailedError`."""
    steps = _steps(spend.plan(method, asked))
    while True:
        print_plan(steps, err=True)
        _remark(remarks)
        confirm_sending()
        agreed = _agreed(steps)
        try:
            sent: dict[str, Any] = spend.call(method, **{**asked, **agreed}, **more)
        except CommandFailedError as error:
            if error.word not in (ABOVE_AGREED, *TOO_LITTLE_BY_NOW):
                raise
            steps = _steps(spend.plan(method, asked))
            if error.word != ABOVE_AGREED and _agreed(steps) == agreed:
                # nothing has changed: it would be refused again
                raise
            typer.echo(f"not sent: {error}; it would be, by now:", err=True)
        else:
            return sent, steps[-1]["warning"]


def _remark(remarks: Sequence[str]) -> None:
    for remark in remarks:
        typer.echo(remark, err=True)


def _steps(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the transfers that a method would send."""
    return list(found.get("sent", [found]))


def _agreed(steps: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return what has planned transfers sent as they were shown: at that rate, for no more."""
    total = sum(grains_of(step["fee"]) for step in steps)
    rates = {} if steps[-1]["fee_rate"] is None else {"fee_rate": steps[-1]["fee_rate"]}
    return {**rates, **({"target": None} if rates else {}), "fee_max": full(total)}


@asking(app, "sweep")
@user_text(
    "Pay all of an account's coins, or those named, to one payee. A person is shown and asked."
)
def sweep(
    node: Asker,
    to: ToArgument,
    memo: MemoOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    target: TargetOption = None,
    coin: CoinsOption = None,
    allow_high_fee: HighFeeOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    asked: dict[str, object] = {
        "payee": to,
        "account": account,
        "fee_rate": fee_rate,
        "target": target,
        "allow_high_fee": allow_high_fee,
        "memo": memo,
        "coins": coin,
    }
    spend = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
    remarks = uri_remarks(to, "max")
    carry_out(node, spend, "wallet.sweep", asked, dry_run=dry_run, yes=yes, remarks=remarks)


def _show_gathered(node: Asker, found: dict[str, Any]) -> None:
    def human() -> None:
        print_rows(found["sent"], ["txid", "fee", "size"], "nothing was sent")
        for step in found["refused"]:
            typer.echo(f"not taken: {step['txid']}: {step['reason']}", err=True)
        typer.echo(f"left in the account: {found['left']} UNC", err=True)

    node.show(found, human)


@asking(app, "consolidate")
@user_text("Join an account's coins, the smallest first, into few. A person is shown and asked.")
def consolidate(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    fee_rate: RateOption = None,
    target: TargetOption = None,
    below: Annotated[
        str | None, typer.Option("--below", metavar="UNC", help="Join smaller coins alone.")
    ] = None,
    allow_high_fee: HighFeeOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    asked: dict[str, object] = {
        "account": account,
        "fee_rate": fee_rate,
        "target": target,
        "allow_high_fee": allow_high_fee,
        "below": below,
    }
    spend = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
    carry_out(node, spend, "wallet.consolidate", asked, dry_run=dry_run, yes=yes)


@asking(app, "bump-fee")
@user_text("Replace a waiting transfer by one that pays more. A person is shown and asked.")
def bump_fee(
    node: Asker,
    txid: TxidArgument,
    wallet: WalletOption = DEFAULT_WALLET,
    fee_rate: RateOption = None,
    fee: FeeOption = None,
    target: TargetOption = None,
    allow_high_fee: HighFeeOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    asked: dict[str, object] = {
        "txid": txid,
        "fee_rate": fee_rate,
        "fee": fee,
        "target": target,
        "allow_high_fee": allow_high_fee,
    }
    spend = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
    carry_out(node, spend, "wallet.bump_fee", asked, dry_run=dry_run, yes=yes)


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
