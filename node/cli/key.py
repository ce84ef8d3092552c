"""``unchained-node key``: keys that no node keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from unchained.node.base.randomness import SYSTEM
from unchained.node.base.user_text import user_text
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import (
    ConfigFileOption,
    DataDirOption,
    JsonOption,
    NetworkOption,
    settings_from,
)

app = typer.Typer(no_args_is_help=True, help="Make keys.")


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="key")


@app.command()
@user_text(
    """Make a mnemonic of 24 words and print it with its address and paycode.

    The network is that of the flag, or of the settings in the data directory. Nothing is stored:
    anyone who has the words has the coins, and nobody else can bring them back.
    """
)
def new(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    account: Annotated[
        int, typer.Option("--account", min=0, max=2**32 - 1, help="Number of the account.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    from unchained.node.consensus.params import NETWORKS
    from unchained.node.crypto.accounts import derive_account, mnemonic_seed, new_mnemonic
    from unchained.node.crypto.addresses import Paycode, encode_address, encode_paycode

    flags = {
        "node.network": ("--network", network),
        "node.data_dir": ("--data-dir", data_dir),
    }
    settings = settings_from(flags, config=config)
    rules = NETWORKS[settings.config.node.network]
    mnemonic = new_mnemonic(SYSTEM.token_bytes(32))
    derived = derive_account(mnemonic_seed(mnemonic), rules.chain_id, account)
    facts = {
        "network": rules.name,
        "mnemonic": mnemonic,
        "address": encode_address(rules, derived.key_hash),
        "paycode": encode_paycode(
            Paycode(rules.chain_id, derived.key_hash, derived.view.public_key)
        ),
    }
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name} {value}")
    typer.echo("write the words down: they are not stored anywhere", err=True)
