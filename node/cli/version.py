"""``unchained-node version``: what a report of a fault should begin with."""

from __future__ import annotations

import platform

import typer

from unchained.node.base.user_text import user_text
from unchained.node.base.version import NODE_VERSION
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import JsonOption


def add_to(root: typer.Typer) -> None:
    """Add the command."""
    root.command("version")(version)


@user_text("Print the version of the node, of Python and of the machine.")
def version(json: JsonOption = False) -> None:
    facts = {
        "unchained": NODE_VERSION,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if json:
        print_json(facts)
    else:
        for name, value in facts.items():
            typer.echo(f"{name} {value}")
