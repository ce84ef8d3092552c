"""Of which network a file is that a command checks without a node.

The file says so itself, and coins of a private or a test network cost next to nothing: what holds
there shows a person nothing who means the network that he uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.options import settings_from

FileNetworkOption = Annotated[
    str | None,
    typer.Option(
        "--network", metavar="NAME", help="Of which it must be. Default: that of the settings."
    ),
]


def check_file_network(file: Path, network: str, name: str | None) -> None:
    """See that a file is of the network that was named, else of that of the settings. Raises
    `CommandFailedError`, and `ConfigError` for a name of none."""
    settings = settings_from({"node.network": ("--network", name)}, config=None)
    expected = settings.config.node.network
    if network == expected:
        return
    hint = f"; `--network {network}` if that is meant" if name is None else ""
    raise CommandFailedError(f"{file} is of the network {network}, expected {expected}{hint}")
