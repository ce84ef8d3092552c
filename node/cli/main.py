"""``unchained-node``: the commands, their exit codes, and errors of one line.

Exit codes: 0 done or stopped as asked, 1 failed, 2 wrong use.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Final

import typer

from unchained.node.base import vocabulary
from unchained.node.base.settings import ConfigError
from unchained.node.base.user_text import user_text
from unchained.node.base.vocabulary import Named, Renaming
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import JsonOption
from unchained.node.cli.start import start
from unchained.storage.errors import StoreError

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
"""What the parser returns on Ctrl-C."""
PROGRAM = "unchained-node"

# What the parser raises for wrong use; typer exports this one member of its family only.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

COMMAND_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "bench": ("bench",),
    "chain": ("chain",),
    "coin": ("ledger",),
    "config": ("config",),
    "db": ("db",),
    "doctor": ("doctor",),
    "id": ("identity",),
    "key": ("key",),
    "logs": ("logs",),
    "mempool": ("ledger",),
    "mine": ("mine", "advise"),
    "miner": ("miner",),
    "net": ("net",),
    "node": ("status",),
    "peers": ("net",),
    "rpc": ("status",),
    "start": (),
    "status": ("status",),
    "stop": ("status",),
    "token": ("token",),
    "tasks": ("tasks",),
    "transfer": ("ledger",),
    "verify-message": ("proofs",),
    "verify-proof": ("ledger",),
    "verify-receipt": ("proofs",),
    "verify-reserve": ("proofs",),
    "version": (),
    "wallet": (
        "wallet",
        "pay",
        "sign",
        "contract",
        "invoice",
        "history",
        "proofs",
        "keeping",
    ),
}
"""Which modules each command needs. Only those are imported: the others would cost each command
more time than it takes."""


_NO_SUCH_COMMAND: Final = re.compile(r"No such command '([^']*)'")

POW_BACKEND: Final = "UNCHAINED_POW_BACKEND"
"""The variable that forces a proof-of-work backend; only where it is set is there one to check."""


def build(arguments: Sequence[str]) -> typer.Typer:
    """Return the parser for a command line: with the command that it begins with, or with all."""
    app = typer.Typer(
        help="A peer-to-peer proof-of-work node.",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    app.command()(start)
    app.command()(version)
    wanted = COMMAND_MODULES.get(arguments[0]) if arguments else None
    if wanted is None:
        wanted = tuple(dict.fromkeys(name for names in COMMAND_MODULES.values() for name in names))
    for name in wanted:
        import_module(f"unchained.node.cli.{name}").add_to(app)
    return app


@user_text("Run a node, or look after one.")
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(importlib.metadata.version("unchained"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG_USE)


@user_text("Print the version of the node, of Python and of the machine.")
def version(json: JsonOption = False) -> None:
    facts = {
        "unchained": importlib.metadata.version("unchained"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if json:
        print_json(facts)
    else:
        for name, value in facts.items():
            typer.echo(f"{name} {value}")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error becomes one line on stderr."""
    if os.environ.get(POW_BACKEND):
        from unchained.node.crypto.pow import default_backend

        try:
            default_backend()
        except ValueError as error:
            return _fail(str(error), WRONG_USE)
    try:
        result = build(arguments)(list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except USAGE_ERROR as error:
        return _fail(usage_line(error), WRONG_USE)
    except ConfigError as error:
        return _fail(str(error), WRONG_USE)
    except typer.Abort:
        return _fail("interrupted", FAILED)
    except (StoreError, CommandFailedError) as error:
        return _fail(str(error), FAILED)
    except OSError as error:
        return _fail(_describe(error), FAILED)
    except Exception as error:  # noqa: BLE001
        # A running node writes the traceback to its log; people get one line in any case.
        return _fail(f"internal error: {_describe(error)}", FAILED)
    except BaseExceptionGroup as error:
        # Ctrl-C reaches whichever task runs, and its nursery wraps what it raises.
        if error.split(KeyboardInterrupt)[1] is not None:
            raise
        return _fail("interrupted", FAILED)
    if result == INTERRUPTED:
        return _fail("interrupted", FAILED)
    return result if isinstance(result, int) else 0


def usage_line(error: Exception) -> str:
    """Return what was wrong with the command line, and where the right use is explained."""
    message = " ".join(str(getattr(error, "format_message", error.__str__)()).split())
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else PROGRAM
    renamed = _renamed(error, command.removeprefix(PROGRAM).strip())
    if renamed is not None:
        return f'{renamed.named} "{renamed.old}" is called "{renamed.new}" (see {command} --help)'
    return f"{message.rstrip('.')} (see {command} --help)"


def _renamed(error: Exception, command: str) -> Renaming | None:
    """Return what became of the flag or the command, within `command`, that the parser does not
    know."""
    option = getattr(error, "option_name", None)
    if option is not None:
        return vocabulary.find(Named.FLAG, command, option)
    unknown = _NO_SUCH_COMMAND.match(getattr(error, "message", ""))
    if unknown is None:
        return None
    return vocabulary.find(Named.COMMAND, "", f"{command} {unknown[1]}".strip())


def _describe(error: Exception) -> str:
    # Services bring Trio, which no command that ends well needs for this.
    from unchained.node.base.services import describe

    return describe(error)


def _fail(line: str, code: int) -> int:
    print(f"{PROGRAM}: {line}", file=sys.stderr)  # noqa: T201
    return code


def mend_streams() -> None:
    """Give the process the streams that it was started without, and let it print any character,
    escaped where the terminal has no other way."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 - as long as the process
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line of this process."""
    mend_streams()
    sys.exit(run(sys.argv[1:]))
