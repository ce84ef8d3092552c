"""``unchained-node config``: the settings, where each comes from, and a file to change them in."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unchained.node.base.config import declared_keys, toml_value
from unchained.node.base.settings import MASK, write_file
from unchained.node.base.user_text import user_text
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import (
    ConfigFileOption,
    DataDirOption,
    JsonOption,
    NetworkOption,
    SetOption,
    settings_from,
    show_one,
)
from unchained.node.cli.tables import print_rows

app = typer.Typer(no_args_is_help=True, help="Show the settings, or write a file to change them.")


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="config")


@app.command()
@user_text("Write a settings file with every key, explained and commented out.")
def init(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    json: JsonOption = False,
) -> None:
    # A file that is about to be replaced need not be valid.
    settings = settings_from(
        {"node.network": ("--network", network), "node.data_dir": ("--data-dir", data_dir)},
        config=config,
        read_file=False,
    )
    write_file(settings.file, force=force)
    show_one("file", settings.file, json=json)


@app.command()
@user_text("Print every setting, its value and where the value comes from.")
def show(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    assignments: SetOption = None,
    json: JsonOption = False,
) -> None:
    settings = settings_from(
        {"node.network": ("--network", network), "node.data_dir": ("--data-dir", data_dir)},
        config=config,
        assignments=assignments,
    )
    rows = [
        (
            key.name,
            MASK if key.secret else settings.value(key.name),
            settings.origins[key.name].text,
        )
        for key in declared_keys().values()
    ]
    if json:
        for name, value, origin in rows:
            print_json({"key": name, "value": value, "origin": origin})
    elif sys.stdout.isatty():
        shown = [
            {"key": name, "value": toml_value(value), "from": origin}
            for name, value, origin in rows
        ]
        print_rows(shown, ("key", "value", "from"), "")
    else:
        for name, value, origin in rows:
            typer.echo(f"{name} = {toml_value(value)}  # {origin}")


@app.command()
@user_text("Print the path of the settings file that applies, whether it exists or not.")
def path(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    json: JsonOption = False,
) -> None:
    settings = settings_from(
        {"node.network": ("--network", network), "node.data_dir": ("--data-dir", data_dir)},
        config=config,
        read_file=False,
    )
    show_one("file", settings.file, json=json)


@app.command()
@user_text("Ask for a password and print its hash, for the setting rpc.password_hash.")
def password(json: JsonOption = False) -> None:
    from unchained.node.rpc.http.gatekeeper import PasswordHash

    chosen = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    show_one("password_hash", PasswordHash.of(chosen), json=json)
