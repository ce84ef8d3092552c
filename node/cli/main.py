"""``unchained-node``: the commands, their exit codes, and errors of one line.

Exit codes: 0 done or stopped as asked, 1 failed, 2 wrong use; `doctor` has one more.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, cast

import typer
from typer.main import get_command

from unchained.node.base.user_text import user_text
from unchained.node.base.version import NODE_VERSION
from unchained.node.cli.commands import LazyGroup, from_modules, new_app

if TYPE_CHECKING:
    from unchained.node.base.vocabulary import Renaming

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
"""What the parser returns on Ctrl-C."""
PROGRAM = "unchained-node"

# What the parser raises for wrong use; typer exports this one member of its family only.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


class Command(NamedTuple):
    """A command of the first level: the modules of this room that make it, and its line."""

    modules: tuple[str, ...]
    line: str


COMMANDS: Final[Mapping[str, Command]] = {
    "start": Command(("start",), "Run a node until Ctrl-C, SIGTERM or a failure."),
    "status": Command(("status",), "Show what the node does."),
    "stop": Command(("status",), "Stop the node in good order."),
    "dev": Command(
        ("dev",), "Run a chain of your own to build on: funded wallets, anchors on demand."
    ),
    "wallet": Command(
        ("wallet", "pay", "sign", "contract", "invoice", "history", "proofs", "keeping"),
        "Keep wallets: receive, look, pay, back up.",
    ),
    "mine": Command(("mine", "advise"), "Look after the node's miner."),
    "chain": Command(("chain",), "Look at the chain, or carry it in a file."),
    "coin": Command(("ledger",), "Look at coins."),
    "transfer": Command(("ledger",), "Look at transfers, try them, hand them in."),
    "mempool": Command(("ledger",), "Look at what waits for an anchor."),
    "peers": Command(("net",), "Show the connected peers."),
    "net": Command(("net",), "Look after the node's connections."),
    "node": Command(("status",), "Look into the running node."),
    "tasks": Command(
        ("tasks",), "Show the tasks of the node's event loop, and what each of them waits for."
    ),
    "doctor": Command(
        ("doctor",),
        "Look at clock, disk, peers, ports, memory, huge pages, key files, store and versions, and "
        "say what to do.",
    ),
    "rpc": Command(
        ("status",),
        "Call any method; numbers, true, false, null, [...] and {...} are taken as JSON.",
    ),
    "logs": Command(("logs",), "Print the log in the data directory, the oldest file first."),
    "token": Command(("token",), "Give rights to single wallets, and take them back."),
    "config": Command(("config",), "Show the settings, or write a file to change them."),
    "db": Command(("db",), "Check, measure or copy a node's store."),
    "id": Command(("identity",), "Print the node's peer id; its key is made if there is none yet."),
    "key": Command(("key",), "Make keys."),
    "miner": Command(("miner",), "Mine for a node elsewhere, until Ctrl-C or SIGTERM."),
    "bench": Command(("bench",), "Measure how fast this machine is."),
    "verify-proof": Command(("ledger",), "Check a coin's proof, without a node."),
    "verify-receipt": Command(
        ("proofs",),
        "Check a receipt, without a node: the transfer, its place in an anchor, the anchors' work, "
        "and whom it pays.",
    ),
    "verify-message": Command(
        ("proofs",),
        "Check a signed message, without a node, and show what it says and whose address signed "
        "it.",
    ),
    "verify-reserve": Command(("proofs",), "Check a reserve proof, without a node."),
    "version": Command(
        ("version",), "Print the version of the node, of Python and of the machine."
    ),
}
"""What the help lists. Only the modules of the command that is run are imported."""


_SURPLUS: Final = re.compile(r"(unexpected extra argument)(?:\(s\)|s)? \(.*\)$")
_NEGATIVE: Final = re.compile(r"-[0-9.].*")
_FROM_FILES: Final = ("--mnemonic-file", "--file", "--passphrase-file")
"""Options by which a command reads what is no argument, the likeliest first."""

_NO_SUCH_COMMAND: Final = re.compile(r"No such command '([^']*)'")

POW_BACKEND: Final = "UNCHAINED_POW_BACKEND"
"""The variable that forces a proof-of-work backend; only where it is set is there one to check."""


def command_line() -> LazyGroup:
    """Return the parser."""
    app = new_app(help="A peer-to-peer proof-of-work node.", cls=LazyGroup)
    app.callback(invoke_without_command=True)(root)
    group = cast(LazyGroup, get_command(app))
    for name, (modules, line) in COMMANDS.items():
        group.add_line(name, line, partial(from_modules, name, modules))
    return group


@user_text("Run a node, or look after one.")
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(NODE_VERSION)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG_USE)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error becomes one line on stderr."""
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    if os.environ.get(POW_BACKEND):
        from unchained.node.crypto.pow import default_backend

        try:
            default_backend()
        except ValueError as error:
            return _fail(str(error), WRONG_USE)
    given: dict[str, str] = {}
    try:
        result = command_line().main(
            list(arguments), prog_name=PROGRAM, standalone_mode=False, obj=given
        )
    except USAGE_ERROR as error:
        # A group without a command shows what it has. Typer keeps the class to itself.
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(getattr(error, "message", str(error)))
            return WRONG_USE
        return _fail(usage_line(error), WRONG_USE)
    except typer.Abort:
        return _fail("interrupted", FAILED)
    except Exception as error:  # noqa: BLE001
        return _report(error, given)
    except BaseExceptionGroup as error:
        # Ctrl-C reaches whichever task runs, and its nursery wraps what it raises.
        if error.split(KeyboardInterrupt)[1] is not None:
            raise
        return _fail("interrupted", FAILED)
    if result == INTERRUPTED:
        return _fail("interrupted", FAILED)
    return result if isinstance(result, int) else 0


def _report(error: Exception, given: Mapping[str, str] | None = None) -> int:
    """Print what ended a command and return its exit code. `given`: what its options were given, by
    their names."""
    if isinstance(error, MemoryError):
        return _fail("out of memory", FAILED)
    # Imported only for a command that failed: help and completion have no use for them.
    from unchained.node.base.os_errors import os_error_line
    from unchained.node.base.settings import ConfigError
    from unchained.node.cli.asker import CommandFailedError
    from unchained.node.cli.guide import hint, place_in
    from unchained.storage.errors import StoreError

    if isinstance(error, ConfigError | StoreError | CommandFailedError):
        line = hint(str(error), place_in(given or {}))
        return _fail(line, WRONG_USE if isinstance(error, ConfigError) else FAILED)
    if isinstance(error, BrokenPipeError):
        # Whoever read what was printed has enough, as `head` does.
        return FAILED
    if isinstance(error, UnicodeEncodeError):
        return _fail("a word of the command line is not text in UTF-8", WRONG_USE)
    if isinstance(error, OSError):
        return _fail(os_error_line(error), FAILED)
    # A running node writes the traceback to its log; people get one line in any case.
    return _fail(f"internal error: {_describe(error)}", FAILED)


def usage_line(error: Exception) -> str:
    """Return what was wrong with the command line, and where the right use is explained."""
    message = " ".join(str(getattr(error, "format_message", error.__str__)()).split())
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else PROGRAM
    if surplus := _SURPLUS.search(message):
        # what stands where nothing belongs may be a secret: 24 words, a view key
        options = {name for it in context.command.params for name in it.opts} if context else ()
        ways = [way for way in _FROM_FILES if way in options]
        message = surplus[1] + (f": expected {ways[0]} FILE" if ways else "")
    elif _NEGATIVE.fullmatch(option := getattr(error, "option_name", None) or ""):
        message = f"{option} is no option, and no number here is below 0"
    renamed = _renamed(error, command.removeprefix(PROGRAM).strip())
    if renamed is not None:
        return f'{renamed.named} "{renamed.old}" is called "{renamed.new}" (see {command} --help)'
    return f"{message.rstrip('.')} (see {command} --help)"


def _renamed(error: Exception, command: str) -> Renaming | None:
    """Return what became of the flag or the command, within `command`, that the parser does not
    know."""
    from unchained.node.base.vocabulary import Named, find

    option = getattr(error, "option_name", None)
    if option is not None:
        return find(Named.FLAG, command, option)
    unknown = _NO_SUCH_COMMAND.match(getattr(error, "message", ""))
    if unknown is None:
        return None
    return find(Named.COMMAND, "", f"{command} {unknown[1]}".strip())


def _describe(error: Exception) -> str:
    # Services bring Trio, which no command that ends well needs for this.
    from unchained.node.base.services import describe

    return describe(error)


def _fail(line: str, code: int) -> int:
    text = f"{PROGRAM}: {line}"
    if sys.stderr.isatty():
        # only here: most commands that fail have told a program, which wants one line
        from unchained.node.cli.tables import sentence_lines, width

        text = "\n".join(sentence_lines(text, width()))
    print(text, file=sys.stderr)  # noqa: T201
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


def _as_utf8(word: str) -> str:
    """Return a word of the command line read as UTF-8, whatever the locale says; a name of a file
    that is none stays as it came."""
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        return word


def main() -> None:
    """Run the command line of this process."""
    mend_streams()
    code = run([_as_utf8(word) for word in sys.argv[1:]])
    try:
        sys.stdout.flush()
    except OSError as error:
        # What is left would be tried once more at the end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _report(error)
    sys.exit(code)
