"""``unchained-node wallet multisig``, ``htlc`` and the like: conditions shared with others."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, asking
from unchained.node.cli.facts import contract_facts, known, show_facts, terms_facts
from unchained.node.cli.options import YesOption
from unchained.node.cli.output_file import check_output
from unchained.node.cli.passphrases import PassphraseFdOption, PassphraseFileOption
from unchained.node.cli.pay import (
    AmountArgument,
    DryRunOption,
    FeeOption,
    HighFeeOption,
    OutputOption,
    RateOption,
    carry_out,
)
from unchained.node.cli.payees import payment
from unchained.node.cli.sign import write_unsigned
from unchained.node.cli.spend_command import SpendCommand
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    SLOW_ANSWER_S,
    LimitOption,
    OffsetOption,
    WalletOption,
    app,
)

contract_app = typer.Typer(no_args_is_help=True, help="Look at contracts; watch others'.")
multisig_app = typer.Typer(no_args_is_help=True, help="Share coins: m of n keys spend them.")
htlc_app = typer.Typer(no_args_is_help=True, help="Swap: anyone who has a hash's preimage claims.")

NameOption = Annotated[
    str, typer.Option("--label", metavar="TEXT", help="What you call it; nobody else sees that.")
]
LockArgument = Annotated[str, typer.Argument(metavar="LOCK", help="The contract's lock.")]


def add_to(_root: typer.Typer) -> None:
    """Add the commands of this room beside those of `wallet`."""
    app.add_typer(contract_app, name="contract")
    app.add_typer(multisig_app, name="multisig")
    app.add_typer(htlc_app, name="htlc")


@asking(app, "contracts", table=True)
@user_text("Show the contracts that a wallet watches, and what they hold.")
def contracts(node: Asker, wallet: WalletOption = DEFAULT_WALLET) -> None:
    columns = ["kind", "amount", "label", "confirmed", "lock", "text"]
    node.show_rows(node.call("wallet.contracts", wallet=wallet), columns, "no contracts")


@asking(contract_app, "add")
@user_text(
    """Watch a contract that another party made.

    The wallet reads the chain again for what was paid to it before; `wallet info` shows how far.
    """
)
def contract_add(
    node: Asker,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="Its text: contract:…")],
    wallet: WalletOption = DEFAULT_WALLET,
    label: NameOption = "",
) -> None:
    found = node.call("wallet.contract_add", contract=contract, wallet=wallet, label=label)
    _show_contract(node, found)
    state = node.call("wallet.info", wallet=wallet)
    reached = state["progress"]
    if state["failure"]:
        typer.echo(f"the wallet does not follow the chain: {state['failure']}", err=True)
    elif reached is not None and not reached["caught_up"]:
        typer.echo(
            "the chain is being read again for what was paid to it before: `wallet contract info` "
            "shows what was found",
            err=True,
        )


@asking(contract_app, "info")
@user_text("Show where a contract is paid, what it has, and where it stands.")
def contract_info(node: Asker, lock: LockArgument, wallet: WalletOption = DEFAULT_WALLET) -> None:
    found = node.call("wallet.contract_info", lock=lock, wallet=wallet)
    show_facts(node, found, contract_facts, found | {"contract": known(found["contract"])})


@asking(contract_app, "history", table=True)
@user_text("Show what came to a contract and went: what waits first, then the latest.")
def contract_history(
    node: Asker,
    lock: LockArgument,
    wallet: WalletOption = DEFAULT_WALLET,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
) -> None:
    found = node.call(
        "wallet.contract_history", lock=lock, wallet=wallet, limit=limit, offset=offset
    )
    node.show_rows(found, ["time", "height", "received", "sent", "id"], "nothing yet")


@asking(multisig_app, "create")
@user_text("Make a contract that M of the parties spend; hand its text to them, pay it to fund it.")
def multisig_create(
    node: Asker,
    threshold: Annotated[
        int, typer.Argument(metavar="M", min=1, max=16, help="So many have to sign.")
    ],
    parties: Annotated[
        list[str], typer.Argument(metavar="PARTY...", help="Addresses, paycodes or names.")
    ],
    wallet: WalletOption = DEFAULT_WALLET,
    label: NameOption = "",
) -> None:
    found = node.call(
        "wallet.multisig_create", threshold=threshold, parties=parties, wallet=wallet, label=label
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
    allow_high_fee: HighFeeOption = False,
) -> None:
    check_output(output)
    found = node.call(
        "wallet.multisig_prepare",
        seconds=SLOW_ANSWER_S,
        lock=lock,
        payments=[] if to is None else payment(to, amount, ""),
        wallet=wallet,
        fee_rate=fee_rate,
        fee=fee,
        allow_high_fee=allow_high_fee,
    )
    write_unsigned(node, found, output)


@asking(htlc_app, "create")
@user_text("Make a hash-time-lock; hand its text to the other party, pay it to fund it.")
def htlc_create(
    node: Asker,
    claim: Annotated[str, typer.Argument(metavar="CLAIMER", help="Address, paycode or name.")],
    refund: Annotated[str, typer.Argument(metavar="REFUNDED", help="Address, paycode or name.")],
    height: Annotated[int, typer.Argument(metavar="HEIGHT", min=1, help="To refund from.")],
    digest: Annotated[
        str | None,
        typer.Option("--hash", metavar="SHA256", help="Default: of a preimage drawn here."),
    ] = None,
    wallet: WalletOption = DEFAULT_WALLET,
    label: NameOption = "",
) -> None:
    params = {
        "claim": claim,
        "refund": refund,
        "refund_height": height,
        "wallet": wallet,
        "label": label,
    }
    if digest is not None:
        params["hash"] = digest
    found = node.call_with("wallet.htlc_create", params)
    _show_contract(node, found)


@asking(htlc_app, "claim")
@user_text(
    "Take what a hash-time-lock holds, by the preimage given or known. A person is shown and asked."
)
def htlc_claim(
    node: Asker,
    lock: LockArgument,
    preimage: Annotated[
        str | None, typer.Option("--preimage", metavar="HEX", help="Left out: the one known.")
    ] = None,
    wallet: WalletOption = DEFAULT_WALLET,
    fee_rate: RateOption = None,
    allow_high_fee: HighFeeOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    asked: dict[str, object] = {
        "lock": lock,
        "preimage": preimage,
        "fee_rate": fee_rate,
        "allow_high_fee": allow_high_fee,
    }
    spend = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
    carry_out(node, spend, "wallet.htlc_claim", asked, dry_run=dry_run, yes=yes)


@asking(htlc_app, "refund")
@user_text(
    "Take back what a hash-time-lock holds, once its height is reached. A person is shown and "
    "asked."
)
def htlc_refund(
    node: Asker,
    lock: LockArgument,
    wallet: WalletOption = DEFAULT_WALLET,
    fee_rate: RateOption = None,
    allow_high_fee: HighFeeOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    asked: dict[str, object] = {
        "lock": lock,
        "fee_rate": fee_rate,
        "allow_high_fee": allow_high_fee,
    }
    spend = SpendCommand(node, wallet, passphrase_file, passphrase_fd)
    carry_out(node, spend, "wallet.htlc_refund", asked, dry_run=dry_run, yes=yes)


def _show_contract(node: Asker, found: dict[str, Any]) -> None:
    show_facts(node, found, terms_facts, known(found))
