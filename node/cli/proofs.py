"""``unchained-node wallet receipt``, ``sign-message``, ``prove-reserve``, and the commands that
check with no node what they write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unchained.node.base.number_words import number_of
from unchained.node.base.terminal_text import harmless
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.confirm import shortened
from unchained.node.cli.file_network import FileNetworkOption, check_file_network
from unchained.node.cli.input_file import read_file
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import JsonOption
from unchained.node.cli.output_file import check_output, say_written, write_output
from unchained.node.cli.passphrases import PassphraseFdOption, PassphraseFileOption
from unchained.node.cli.pay import OutputOption, TxidArgument
from unchained.node.cli.spend_command import SpendCommand
from unchained.node.cli.tables import moment, print_fields, say
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    SLOW_ANSWER_S,
    AccountOption,
    WalletOption,
    app,
)

if TYPE_CHECKING:
    from unchained.node.wallet.receipts import ShownPayment, VerifiedReceipt

MessageArgument = Annotated[str, typer.Argument(metavar="TEXT", help="What to say.")]


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room, those of `wallet` beside the others there."""
    root.command("verify-receipt")(verify_receipt)
    root.command("verify-message")(verify_message)
    root.command("verify-reserve")(verify_reserve)


# Receipts


@asking(app, "receipt")
@user_text(
    """Write a file that proves a transfer, and whom it pays, to anyone without a node
    (`verify-receipt`). It shows the memos of the payees that it proves."""
)
def receipt(
    node: Asker,
    txid: TxidArgument,
    output: OutputOption,
    wallet: WalletOption = DEFAULT_WALLET,
    anchors: Annotated[
        int, typer.Option("--anchors", min=1, max=1024, help="From the one that includes it on.")
    ] = 64,
    payee: Annotated[
        list[str] | None,
        typer.Option("--payee", metavar="PAYEE", help="Show this one alone; default: all."),
    ] = None,
    no_payees: Annotated[bool, typer.Option("--no-payees", help="Show nobody.")] = False,
) -> None:
    check_output(output)
    payees = [] if no_payees else payee or None
    found = node.call(
        "wallet.receipt",
        seconds=SLOW_ANSWER_S,
        txid=txid,
        wallet=wallet,
        anchors=anchors,
        payees=payees,
    )
    _write(node, output, found)


def _write(node: Asker, output: Path, file: str) -> None:
    write_output(output, bytes.fromhex(file))
    node.show({"file": str(output)}, lambda: say_written(output))


@user_text(
    """Check a receipt, without a node: the transfer, its place in an anchor, the anchors' work, and
    whom it pays. Exit code 1 if it does not hold, or does not show a payment to PAYEE."""
)
def verify_receipt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `wallet receipt` wrote.")],
    payee: Annotated[
        str | None,
        typer.Option(
            "--payee", "--to", metavar="PAYEE", help="The address or paycode that it must pay."
        ),
    ] = None,
    network: FileNetworkOption = None,
    json: JsonOption = False,
) -> None:
    from unchained.node.consensus.params import NETWORKS
    from unchained.node.crypto.pow import default_backend
    from unchained.node.rpc.core.values import Amount
    from unchained.node.wallet.errors import BadPaymentError, ReceiptError
    from unchained.node.wallet.receipts import RECEIPT_BYTES_MAX
    from unchained.node.wallet.receipts import verify_receipt as verify

    try:
        found = verify(read_file(file, RECEIPT_BYTES_MAX), None, default_backend())
        check_file_network(file, found.network, network)
        payments = () if payee is None else found.payments_to(NETWORKS[found.network], payee)
    except ReceiptError as error:
        raise CommandFailedError(f"{file}: {error}") from None
    except BadPaymentError as error:
        raise typer.BadParameter(str(error), param_hint="--payee") from None
    if payee is not None and not payments:
        raise CommandFailedError(
            f"{file}: the receipt holds, but does not show that it pays {shortened(payee)}"
        )
    facts: dict[str, Any] = {
        "network": found.network,
        "txid": found.txid.hex(),
        "height": found.height,
        "anchor": found.anchor_id.hex(),
        "time": found.time_ms,
        "anchors_on_top": found.anchors_on_top,
        "votes_at_least": found.votes,
        "work": str(found.work),
        "tip_height": found.tip_height,
        "tip": found.tip_id.hex(),
        "tip_time": found.tip_time_ms,
        "fee": Amount(found.fee).unc(),
        "outputs": [
            {"amount": Amount(output.value).unc(), "lock": output.lock.hex()}
            for output in found.outputs
        ],
    }
    if payee is not None:
        facts["payments"] = [
            {
                "payee": payee,
                "output": payment.index,
                "amount": Amount(payment.value).unc(),
                "memo": _text(payment.memo),
                "found_without_receipt": _is_found(found, payment),
            }
            for payment in payments
        ]
    if json:
        print_json(facts)
        return
    say(_receipt_verdict(found))
    for payment in facts.get("payments", ()):
        memo = f", memo {harmless(payment['memo'])}" if payment["memo"] else ""
        say(f"It pays {payment['amount']} UNC to {shortened(harmless(payee or ''))}{memo}.")
        if payment["found_without_receipt"] is None:
            say(
                "Nobody else can spend that. Whether the payee's wallet finds it is not shown: a "
                "payer can seal the note so that it does not. The payee's wallet has the word."
            )
    print_fields({name: value for name, value in facts.items() if name != "payments"})


def _is_found(found: VerifiedReceipt, payment: ShownPayment) -> bool | None:
    """Return whether the payee's wallet finds a payment for certain, None where that is not shown:
    to find what pays a paycode takes a note that its view key opens, which nobody else can tell."""
    return None if found.outputs[payment.index].note else True


def _receipt_verdict(found: VerifiedReceipt) -> str:
    return (
        f"The receipt holds: anchor {found.height} of {found.network}, {moment(found.time_ms)}, "
        f"includes transfer {found.txid.hex()}, with "
        f"{number_of(found.anchors_on_top, 'anchor')} and at least "
        f"{number_of(found.votes, 'vote')} on top. It ends at anchor {found.tip_id.hex()} of "
        f"height {found.tip_height}, {moment(found.tip_time_ms)}, and shows nothing of what came "
        "after: make sure that this one is on the chain that counts."
    )


# Messages


@asking(app, "sign-message")
@user_text(
    """Sign a text by the key of an account's address, and write it to a file
    (`verify-message`). No transfer can be made of it."""
)
def sign_message(
    node: Asker,
    message: MessageArgument,
    output: OutputOption,
    wallet: WalletOption = DEFAULT_WALLET,
    account: AccountOption = 0,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    check_output(output)
    found = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.sign_message", message=message, account=account
    )
    write_output(output, bytes.fromhex(found["file"]))
    node.show_fields(found | {"file": str(output)})


@user_text(
    """Check a signed message, without a node, and show what it says and whose address signed it.
    Exit code 1 if it does not hold, or if somebody else signed."""
)
def verify_message(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `wallet sign-message` wrote.")],
    signer: Annotated[
        str | None,
        typer.Option(
            "--signer", metavar="ADDRESS", help="The address or paycode that must have signed it."
        ),
    ] = None,
    network: FileNetworkOption = None,
    json: JsonOption = False,
) -> None:
    from unchained.node.consensus.params import network_for
    from unchained.node.wallet.errors import BadPaymentError, SignedMessageError
    from unchained.node.wallet.signed_message import SIGNED_MESSAGE_BYTES_MAX, SignedMessage

    try:
        signed = SignedMessage.from_file(read_file(file, SIGNED_MESSAGE_BYTES_MAX), None)
        found = network_for(signed.chain_id, None)
        assert found is not None, "it was read as one of a network that is known"
        check_file_network(file, found.name, network)
        if signer is not None:
            signed.check_signer(found, signer)
    except SignedMessageError as error:
        raise CommandFailedError(f"{file}: {error}") from None
    except BadPaymentError as error:
        raise typer.BadParameter(str(error), param_hint="--signer") from None
    facts = {
        "network": found.name,
        "address": signed.address(found),
        "key_hash": signed.key_hash.hex(),
        "message": _text(signed.message),
    }
    if json:
        print_json(facts)
        return
    typer.echo(f"The signature holds, on the network {found.name}: {facts['address']} says")
    typer.echo(harmless(facts["message"]))


# Reserves


@asking(app, "prove-reserve")
@user_text(
    """Write a file that shows to anyone without a node that a wallet holds at least an amount
    (`verify-reserve`): it names coins, and signs TEXT, which whoever asks for it chooses."""
)
def prove_reserve(
    node: Asker,
    amount: Annotated[str, typer.Argument(metavar="UNC", help="At least so much.")],
    message: MessageArgument,
    output: OutputOption,
    wallet: WalletOption = DEFAULT_WALLET,
    passphrase_file: PassphraseFileOption = None,
    passphrase_fd: PassphraseFdOption = None,
) -> None:
    check_output(output)
    found = SpendCommand(node, wallet, passphrase_file, passphrase_fd).call(
        "wallet.prove_reserve", amount=amount, message=message
    )
    _write(node, output, found)


@user_text(
    """Check a reserve proof, without a node. Exit code 1 if it does not hold, or does not answer
    TEXT."""
)
def verify_reserve(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `wallet prove-reserve` wrote.")
    ],
    message: Annotated[
        str | None, typer.Option("--message", metavar="TEXT", help="The text that it must answer.")
    ] = None,
    network: FileNetworkOption = None,
    json: JsonOption = False,
) -> None:
    from unchained.node.consensus.params import NETWORKS
    from unchained.node.crypto.addresses import encode_address
    from unchained.node.crypto.pow import default_backend
    from unchained.node.rpc.core.values import Amount
    from unchained.node.wallet.errors import ReserveProofError
    from unchained.node.wallet.reserve_proof import RESERVE_PROOF_BYTES_MAX, ReserveProof

    try:
        proof = ReserveProof.from_file(read_file(file, RESERVE_PROOF_BYTES_MAX))
        if message is not None and proof.message != message.encode():
            raise CommandFailedError(f"{file}: it answers another message: {_text(proof.message)}")
        found = proof.verify(None, default_backend())
    except ReserveProofError as error:
        raise CommandFailedError(f"{file}: {error}") from None
    check_file_network(file, found.network, network)
    facts: dict[str, Any] = {
        "network": found.network,
        "amount": Amount(found.value).unc(),
        "message": _text(found.message),
        "state_height": found.state_height,
        "tip_height": found.tip_height,
        "tip": found.tip_id.hex(),
        "tip_time": found.tip_time_ms,
        "addresses": [encode_address(NETWORKS[found.network], key) for key in found.key_hashes],
        "coins": [
            {"coin": coin.coin_id.hex(), "amount": Amount(coin.value).unc()} for coin in found.coins
        ],
    }
    if json:
        print_json(facts)
        return
    say(
        f"The proof holds: after anchor {found.state_height} of {found.network} its maker could "
        f"spend {facts['amount']} UNC in {number_of(len(found.coins), 'coin')}. It rests on anchor "
        f"{found.tip_id.hex()} of height {found.tip_height}, {moment(found.tip_time_ms)}: make "
        "sure that this one is on the chain that counts. The coins may have been spent since."
    )
    if sys.stdout.isatty():
        # hundreds of them would push the verdict out of sight
        facts["coins"] = f"{len(found.coins)}: --json lists them"
    print_fields(facts)


def _text(content: bytes) -> str:
    """Return a text, in hex where it is none."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.hex()
