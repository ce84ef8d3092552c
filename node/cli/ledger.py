"""``unchained-node coin``, ``transfer``, ``mempool`` and ``verify-proof``: coins and what moves
them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.confirm import confirm_sending, is_asked, print_payee
from unchained.node.cli.facts import SUM_COLUMNS
from unchained.node.cli.file_network import FileNetworkOption, check_file_network
from unchained.node.cli.input_file import read_file, read_stream
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import JsonOption, YesOption
from unchained.node.cli.output_file import check_output, write_output
from unchained.node.cli.tables import print_fields
from unchained.node.rpc.core.values import HEX_BYTES_MAX

if TYPE_CHECKING:
    from unchained.node.consensus.coin_proof import CoinStanding

coin_app = typer.Typer(no_args_is_help=True, help="Look at coins.")
transfer_app = typer.Typer(no_args_is_help=True, help="Look at transfers, try them, hand them in.")
mempool_app = typer.Typer(no_args_is_help=True, help="Look at what waits for an anchor.")

CoinArgument = Annotated[str, typer.Argument(metavar="ID", help="A coin's id.")]
TransferArgument = Annotated[str, typer.Argument(metavar="ID", help="A txid or a wid.")]
RawArgument = Annotated[
    str,
    typer.Argument(metavar="HEX|@FILE|-", help="The encoding in hex, in a file, or on the input."),
]


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(coin_app, name="coin")
    root.add_typer(transfer_app, name="transfer")
    root.add_typer(mempool_app, name="mempool")
    root.command("verify-proof")(verify_proof)


@asking(coin_app, "get")
@user_text("Show what is known of a coin.")
def coin_get(node: Asker, coin: CoinArgument) -> None:
    node.show_fields(node.call("coin.get", coin=coin))


@asking(coin_app, "history", table=True)
@user_text("Show the life of a coin, oldest first.")
def coin_history(node: Asker, coin: CoinArgument) -> None:
    found = node.call("coin.history", coin=coin)
    node.show_rows(found, ["event", "height", "time", "anchor", "txid"], "nothing is known")


@asking(coin_app, "proof")
@user_text(
    "Prove what became of a coin, unspent or spent, to somebody without a node (`verify-proof`)."
)
def coin_proof(
    node: Asker,
    coin: CoinArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the proof to a file."),
    ] = None,
) -> None:
    if output is not None:
        check_output(output)
    found = node.call("coin.proof", coin=coin)
    if output is not None:
        write_output(output, bytes.fromhex(found["file"]))
        found = found | {"file": str(output)}
    node.show_fields(found)


@asking(coin_app, "raw")
@user_text("Print the bytes of a minted coin in hex.")
def coin_raw(node: Asker, coin: CoinArgument) -> None:
    found = node.call("coin.raw", coin=coin)
    node.show(found, lambda: typer.echo(found))


@asking(coin_app, "owned-by", table=True)
@user_text("Show the coins under the lock of an address, or under a lock.")
def coin_owned_by(
    node: Asker,
    owner: Annotated[str, typer.Argument(metavar="ADDRESS|LOCK", help="Whose coins.")],
    spent: Annotated[bool, typer.Option("--spent", help="Show spent coins too.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many to show.")] = 100,
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Go on after this coin.")
    ] = None,
) -> None:
    is_lock = len(owner) == 64 and set(owner) <= set("0123456789abcdef")
    found = node.call(
        "coin.owned_by",
        address=None if is_lock else owner,
        lock=owner if is_lock else None,
        spent=spent,
        limit=limit,
        after=after,
    )

    def human() -> None:
        node.show_rows(found["coins"], ["id", "amount", "height", "spent"], "no coins")
        if found["next"] is not None:
            typer.echo(f"more: --after {found['next']}", err=True)

    node.show(found, human)


@asking(transfer_app, "get")
@user_text("Show a transfer of the main chain or the mempool.")
def transfer_get(node: Asker, transfer: TransferArgument) -> None:
    node.show_fields(node.call("transfer.get", txid=transfer))


@asking(transfer_app, "raw")
@user_text("Print the encoding of a transfer in hex.")
def transfer_raw(node: Asker, transfer: TransferArgument) -> None:
    found = node.call("transfer.raw", txid=transfer)
    node.show(found, lambda: typer.echo(found))


@asking(transfer_app, "decode")
@user_text("Show what an encoded transfer says.")
def transfer_decode(node: Asker, raw: RawArgument) -> None:
    node.show_fields(node.call("transfer.decode", raw=_raw(raw)))


@asking(transfer_app, "test")
@user_text("Say whether the mempool would accept a transfer. Exit code 1 if not.")
def transfer_test(node: Asker, raw: RawArgument) -> None:
    found = node.call("transfer.test", raw=_raw(raw))
    node.show_fields(found)
    if not (found["accepted"] or found["known"]):
        raise typer.Exit(1)


@asking(transfer_app, "submit")
@user_text("Hand a transfer in, to the mempool and to peers. A person is shown and asked.")
def transfer_submit(node: Asker, raw: RawArgument, yes: YesOption = False) -> None:
    content = _raw(raw)
    if is_asked(yes):
        _print_transfer(node.call("transfer.decode", raw=content))
        confirm_sending()
    node.show_fields(node.call("transfer.submit", raw=content))


def _print_transfer(found: dict[str, Any]) -> None:
    """Print what a transfer pays, on standard error: its bytes name locks alone."""
    for output in found["outputs"]:
        print_payee(output["amount"], f"lock:{output['lock']}", (), err=True)
    typer.echo(f"{found['fee']:>{SUM_COLUMNS}} UNC  fee", err=True)


@asking(mempool_app, "info")
@user_text("Show how full the mempool is and what it asks for.")
def mempool_info(node: Asker) -> None:
    node.show_fields(node.call("mempool.info"))


@asking(mempool_app, "list", table=True)
@user_text("Show waiting transfers, the best paid first.")
def mempool_list(
    node: Asker,
    sort: Annotated[
        str,
        typer.Option("--sort", metavar="fee_rate|time", help="The best paid or the latest first."),
    ] = "fee_rate",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many to show.")] = 100,
    offset: Annotated[
        int, typer.Option("--offset", min=0, help="How many to leave out before.")
    ] = 0,
) -> None:
    found: list[dict[str, Any]] = node.call("mempool.list", sort=sort, limit=limit, offset=offset)
    node.show_rows(found, ["txid", "fee", "fee_rate", "size", "time"], "nothing waits")


@asking(mempool_app, "entry")
@user_text("Show one waiting transfer.")
def mempool_entry(node: Asker, transfer: TransferArgument) -> None:
    node.show_fields(node.call("mempool.entry", txid=transfer))


@asking(mempool_app, "fee-estimate")
@user_text("Show the fee rate at which a transfer should be included within some anchors.")
def mempool_fee_estimate(
    node: Asker,
    target: Annotated[
        int, typer.Argument(metavar="[ANCHORS]", min=1, max=100, help="Within how many anchors.")
    ] = 2,
) -> None:
    node.show_fields(node.call("mempool.fee_estimate", target=target))


@user_text(
    "Check a coin's proof, without a node. Exit code 1 if it does not hold, 2 if the file is no "
    "proof."
)
def verify_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `coin proof --output` wrote.")],
    network: FileNetworkOption = None,
    json: JsonOption = False,
) -> None:
    from unchained.node.consensus.coin_proof import (
        COIN_PROOF_BYTES_MAX,
        CoinProof,
        FalseCoinProofError,
        NotACoinProofError,
        network_of,
        verify_coin_proof,
    )
    from unchained.node.crypto.pow import default_backend
    from unchained.node.rpc.core.values import Amount, encode

    try:
        with file.open("rb") as stream:
            proof = CoinProof.from_file(stream.read(COIN_PROOF_BYTES_MAX + 1))
        found = verify_coin_proof(proof, network_of(proof.chain_id), default_backend())
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    except NotACoinProofError as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    except FalseCoinProofError as error:
        raise CommandFailedError(f"{file}: the proof does not hold: {error}") from None
    check_file_network(file, found.network, network)
    facts: dict[str, Any] = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in msgspec.structs.asdict(found).items()
    }
    facts |= {"amount": facts.pop("value")}
    facts |= {name: Amount(facts[name]) for name in ("amount", "supply", "pool")}
    facts |= {name: str(facts[name]) for name in ("work", "work_since")}
    plain: dict[str, Any] = msgspec.to_builtins(facts, enc_hook=encode)
    if json:
        print_json(plain)
        return
    typer.echo(_verdict(found, plain["amount"]))
    print_fields(plain)


def _verdict(found: CoinStanding, amount: str) -> str:
    state = f"the state after anchor {found.state_height} of {found.network}"
    kept = f"unspent in {state}"
    if found.spent:
        kept = f"spent in {state}; after anchor {found.unspent_height} it was unspent"
    return (
        f"The proof holds: coin {found.coin_id.hex()} of {amount} UNC, included by anchor "
        f"{found.height}, is {kept}. It rests on anchor {found.tip_id.hex()} of height "
        f"{found.tip_height}: make sure that this one is on the chain that counts."
    )


def _raw(argument: str) -> str:
    """Return hex digits from the argument, a file of hex or bytes, or the standard input."""
    if argument == "-":
        content = read_stream(sys.stdin.buffer, "standard input", 2 * HEX_BYTES_MAX)
    elif argument.startswith("@"):
        content = read_file(Path(argument[1:]), 2 * HEX_BYTES_MAX)
    else:
        return argument.strip().lower()
    try:
        text = content.decode("ascii").strip().lower()
        bytes.fromhex(text)
    except ValueError:
        return content.hex()
    return text
