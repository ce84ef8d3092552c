"""Where a command gets a passphrase: from the terminal, a file or a file descriptor.

Never from an argument, which every process of the machine can read.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from unchained.node.base.number_words import number_of
from unchained.node.cli.asker import Asker, CommandFailedError
from unchained.node.rpc.core.values import SECRET_CHARS_MAX

T = TypeVar("T")

VARIABLE: Final = "UNCHAINED_WALLET_PASSPHRASE_FILE"
"""The environment variable that names a file with the passphrase."""

WRONG: Final = "WRONG_PASSPHRASE"
"""The node's word for a passphrase that is another."""

PASSPHRASE_SHORT: Final = 8
"""Characters below which a new passphrase is warned of."""

PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        envvar=VARIABLE,
        help="Read the passphrase from the first line of a file.",
    ),
]
PassphraseFdOption = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        metavar="N",
        min=0,
        max=2**31 - 1,
        help="Read it from an open file descriptor.",
    ),
]


def read_passphrase(
    file: Path | None, descriptor: int | None, *, what: str = "Passphrase", new: bool = False
) -> str:
    """Return a passphrase from wherever the user wants it taken; ask twice for a `new` one.

    Raises `CommandFailedError` where there is neither file nor terminal.
    """
    if descriptor is not None:
        return read_secret(descriptor, f"file descriptor {descriptor}")
    if file is not None:
        return read_secret(file, str(file))
    if not sys.stdin.isatty():
        raise CommandFailedError(
            "no passphrase: use a terminal, --passphrase-file FILE or --passphrase-fd N"
        )
    typed = ""
    while not typed:
        typed = typer.prompt(
            what,
            default="",
            show_default=False,
            hide_input=True,
            confirmation_prompt=new,
            err=True,
        )
        if not typed:
            typer.echo("expected a passphrase, got an empty line", err=True)
    return typed


def try_passphrase(file: Path | None, descriptor: int | None, use: Callable[[str], T]) -> T:
    """Return what `use` makes of a passphrase that is known already; who has mistyped it on a
    terminal is asked once more. Raises `CommandFailedError`."""
    try:
        return use(read_passphrase(file, descriptor))
    except CommandFailedError as error:
        if error.word != WRONG or file is not None or descriptor is not None:
            raise
        typer.echo(f"{error}: once more", err=True)
    return use(read_passphrase(file, descriptor))


def with_passphrase(
    node: Asker, wallet: str, file: Path | None, descriptor: int | None, use: Callable[[str], T]
) -> T:
    """Return what `use` makes of a wallet's passphrase, from wherever the user wants it taken,
    empty if it has none; who has mistyped it is asked once more.

    Raises `CommandFailedError`, also where the wallet has no use for one.
    """
    found = node.call("wallet.info", wallet=wallet)
    if not found["open"]:
        raise CommandFailedError(f"the wallet {wallet!r} is closed: open it first (`wallet open`)")
    if found["watch_only"]:
        raise CommandFailedError(
            f"the wallet {wallet!r} is watch-only: it has no spend key, and no passphrase"
        )
    return try_passphrase(file, descriptor, use) if found["has_passphrase"] else use("")


def new_passphrase(none: bool, file: Path | None, descriptor: int | None) -> str:
    """Return the passphrase that a wallet is to have, empty for `none`. Raises
    `CommandFailedError`."""
    check_one_way(none, file, descriptor)
    if none:
        return ""
    chosen = read_passphrase(file, descriptor, what="New passphrase", new=True)
    if 0 < len(chosen) < PASSPHRASE_SHORT:
        typer.echo(
            f"warning: a passphrase of {number_of(len(chosen), 'character')} is soon guessed by "
            f"whoever gets the wallet's file: {PASSPHRASE_SHORT} or more are better",
            err=True,
        )
    return chosen


def check_one_way(none: bool, file: Path | None, descriptor: int | None) -> None:
    """Check that nobody names a passphrase and says that there is `none`. A file that the
    environment names is there for all commands: this one says otherwise. Raises
    `CommandFailedError`."""
    named = file is not None and str(file) != os.environ.get(VARIABLE)
    if none and (named or descriptor is not None):
        raise CommandFailedError("expected a passphrase or --no-passphrase, got both")


def read_secret(source: Path | int, name: str) -> str:
    """Return the first line of a file or an open descriptor. Raises `CommandFailedError`."""
    try:
        with open(source, "rb", closefd=not isinstance(source, int)) as opened:
            content = opened.readline(SECRET_CHARS_MAX + 1)
        if len(content) > SECRET_CHARS_MAX:
            raise CommandFailedError(
                f"{name}: expected a line of at most {SECRET_CHARS_MAX} bytes, it is longer"
            )
        if isinstance(source, Path):
            warn_of_readers(source)
        return content.decode().partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise CommandFailedError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandFailedError(f"{name} is not text in UTF-8") from None


def warn_of_readers(file: Path) -> None:
    """Say so where others may read a file that holds a secret. Raises OSError."""
    mode = file.stat().st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        typer.echo(f"warning: others can read {file}: chmod 600 it", err=True)
