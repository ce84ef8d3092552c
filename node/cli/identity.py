"""``unchained-node id``: who this node is to its peers."""

from __future__ import annotations

import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.options import (
    ConfigFileOption,
    DataDirOption,
    JsonOption,
    NetworkOption,
    settings_from,
    show_one,
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("id")(show)


@user_text("Print the node's peer id; its key is made if there is none yet.")
def show(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    json: JsonOption = False,
) -> None:
    # Only here: libp2p takes longer to import than other commands altogether.
    from unchained.node.base.settings import prepare_data_dir
    from unchained.node.transport.contract import BadIdentityError
    from unchained.node.transport.identity import PEER_KEY_FILE, Identity

    flags = {
        "node.network": ("--network", network),
        "node.data_dir": ("--data-dir", data_dir),
    }
    directory = prepare_data_dir(settings_from(flags, config=config).data_dir)
    try:
        identity = Identity.load_or_create(directory / PEER_KEY_FILE)
    except BadIdentityError as error:
        raise CommandFailedError(str(error)) from None
    show_one("peer", identity.peer, json=json)
