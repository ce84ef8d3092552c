"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from unchained.node.base.config import declared_keys
from unchained.node.base.settings import Settings, load
from unchained.node.base.terminal_text import json_line

_KEYS = declared_keys()


def about(key: str) -> str:
    """Return the help for a setting: its description, what it takes and its variable."""
    declared = _KEYS[key]
    return f"{declared.description} Takes {declared.expected}. ({declared.env})"


NetworkOption = Annotated[
    str | None, typer.Option("--network", metavar="NAME", help=about("node.network"))
]
DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help=about("node.data_dir"))
]
ConfigFileOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. Default: config.toml in the data directory.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Set any key of the settings file; may be given more than once.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one value on a line.")]


def settings_from(
    flags: Mapping[str, tuple[str, object | None]],
    *,
    config: Path | None,
    assignments: list[str] | None = None,
    read_file: bool = True,
) -> Settings:
    """Return the settings that flags, environment and, if `read_file`, the file lead to.

    `flags` maps a key to the flag's name and value, None where it was not given. Raises
    ConfigError, and `typer.BadParameter` for an assignment that is none.
    """
    given: dict[str, tuple[str, object]] = {}
    for assignment in assignments or ():
        key, equals, value = assignment.partition("=")
        if not equals:
            raise typer.BadParameter(
                f'"{assignment}" given, expected SECTION.KEY=VALUE', param_hint="--set"
            )
        given[key.strip()] = ("--set", value.strip())
    given |= {key: (flag, value) for key, (flag, value) in flags.items() if value is not None}
    return load(given, os.environ, home=_home(), file=config, read_file=read_file)


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None  # an account that has no name, and no HOME either, as in some containers


def show_one(name: str, value: object, *, json: bool) -> None:
    """Print the one thing that a command finds: alone, or as JSON under its name."""
    typer.echo(json_line({name: str(value)}) if json else value)
