"""Commands that ask a running node: how they find it, what they share, how they print.

A command is a function whose first parameter is an `Asker`; `asking` gives it the options that
lead to the node and to the form of the output, and turns what goes wrong into one line.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from unchained.node.base.terminal_text import harmless
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import (
    DataDirOption,
    JsonOption,
    NetworkOption,
    settings_from,
)

if TYPE_CHECKING:
    from unchained.node.cli.local_wallets import LocalWallets
    from unchained.node.rpc.client.client import Client

# The client brings Trio and TLS: it is imported when a node is asked, not for help or errors.

TOKEN_BYTES_MAX: Final = 512
"""Bytes of a file with a token."""

ASK_SECONDS: Final = 60.0
"""How long a command waits for an answer unless it says otherwise."""

RpcOption = Annotated[
    str | None,
    typer.Option(
        "--rpc",
        metavar="URL",
        help="Ask the node at this URL, with the cookie in the data directory.",
    ),
]


TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Show the node this token, not the cookie."),
]
CertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--rpc-certificate",
        metavar="FILE",
        help="Trust this certificate (PEM), and those that it signs, for the RPC over https.",
    ),
]


class CommandFailedError(Exception):
    """A command could not do what it was asked to; the text is one line that says what to do.

    `word` is the node's for why it refused, empty if it was not the node."""

    def __init__(self, text: str, word: str = "") -> None:
        super().__init__(text)
        self.word = word


class Asker:
    """A node to ask, and the way to print its answers."""

    def __init__(
        self,
        network: str | None,
        data_dir: str | None,
        rpc: str | None,
        json: bool,
        *,
        token_file: Path | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.flags = {
            "node.network": ("--network", network),
            "node.data_dir": ("--data-dir", data_dir),
        }
        """The flags that lead to the settings, as `settings_from` takes them."""
        self._url = rpc
        self._token_file = token_file
        self._certificate = certificate
        self._client: Client | None = None
        self._wallets: LocalWallets | None = None
        self.json = json

    @property
    def remote(self) -> bool:
        """Whether the user named the node by a URL."""
        return self._url is not None

    def data_dir(self) -> Path:
        """Return the data directory that options, environment and settings lead to."""
        return settings_from(self.flags, config=None).data_dir

    def call(self, method: str, *, seconds: float = ASK_SECONDS, **params: object) -> Any:
        """Return a method's result as plain JSON; parameters that are None are left out.

        Raises `CommandFailedError`.
        """
        given = {name: value for name, value in params.items() if value is not None}
        return self.call_with(method, given, seconds=seconds)

    def call_with(
        self,
        method: str,
        params: Mapping[str, object] | Sequence[object],
        *,
        seconds: float = ASK_SECONDS,
    ) -> Any:
        """Return a method's result as plain JSON. Raises `CommandFailedError`."""
        from unchained.node.rpc.client.client import ClientError, NodeNotRunningError
        from unchained.node.rpc.core.errors import RpcError

        try:
            return self._connected().call(method, params, seconds=seconds)
        except NodeNotRunningError:
            if self.remote:
                raise CommandFailedError(self._not_running()) from None
        except ClientError as error:
            raise CommandFailedError(str(error)) from None
        except RpcError as error:
            raise CommandFailedError(_refusal(error), error.error) from None
        return self._local(method).call(method, params)

    def _local(self, method: str) -> LocalWallets:
        """Return what answers a method where no node runs. Raises `CommandFailedError` where that
        takes a node."""
        from unchained.node.cli.local_wallets import LOCAL_METHODS, LocalWallets

        if method not in LOCAL_METHODS:
            raise CommandFailedError(self._not_running())
        if self._wallets is None:
            self._wallets = LocalWallets(settings_from(self.flags, config=None))
        return self._wallets

    @property
    def is_local(self) -> bool:
        """Whether answers came from the files of the data directory, with no node."""
        return self._wallets is not None

    def is_running(self) -> bool:
        """Return whether the node answers.

        Raises `CommandFailedError` if something else is in the way.
        """
        from unchained.node.rpc.client.client import ClientError, NodeNotRunningError

        try:
            self._connected().call("node.version")
        except NodeNotRunningError:
            return False
        except ClientError as error:
            raise CommandFailedError(str(error)) from None
        return True

    def _connected(self) -> Client:
        from unchained.node.rpc.client.client import Client, Endpoint
        from unchained.node.rpc.core.credential_files import COOKIE_FILE

        if self._client is None:
            directory = self.data_dir()
            token = None if self._token_file is None else _token_in(self._token_file)
            if self._url is None:
                endpoint = Endpoint.of(directory, token=token)
            else:
                cookie = None if token is not None else directory / COOKIE_FILE
                try:
                    endpoint = Endpoint.at(self._url, cookie=cookie, token=token)
                except ValueError as error:
                    raise typer.BadParameter(str(error), param_hint="--rpc") from None
            if self._certificate is not None:
                endpoint = endpoint.trusting(self._certificate)
            self._client = Client(endpoint, timeout=ASK_SECONDS)
        return self._client

    def _not_running(self) -> str:
        start = " ".join(
            ["unchained-node start", *(f"{flag} {value}" for flag, value in self._given())]
        )
        return f"the node is not running (start it with `{start}`)"

    def _given(self) -> list[tuple[str, str]]:
        return [(flag, value) for flag, value in self.flags.values() if value is not None]

    # Printing

    def show(self, result: object, human: Callable[[], None]) -> None:
        """Print a result as JSON on one line if that was asked for, else let `human` do it."""
        if self.json:
            print_json(result)
        else:
            human()

    def show_fields(self, result: Mapping[str, Any]) -> None:
        """Print a result whose members stand one below the other."""
        self.show(result, lambda: print_fields(result))

    def show_rows(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str
    ) -> None:
        """Print a list of results as a table of some of their members, or `empty`."""
        self.show(rows, lambda: print_rows(rows, columns, empty))


def _token_in(file: Path) -> str:
    """Return the token in a file. Raises `typer.BadParameter`."""
    try:
        with file.open("rb") as stream:
            token = stream.read(TOKEN_BYTES_MAX + 1).decode("ascii").strip()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--token-file") from None
    except UnicodeDecodeError:
        token = ""
    if not 0 < len(token) <= TOKEN_BYTES_MAX or not token.isprintable():
        raise typer.BadParameter(f"{file} holds no token", param_hint="--token-file")
    return token


def asking(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function that takes an `Asker` and parameters of its own a command of `app`."""
    shared = {
        "network": (NetworkOption, None),
        "data_dir": (DataDirOption, None),
        "rpc": (RpcOption, None),
        "token_file": (TokenFileOption, None),
        "certificate": (CertificateOption, None),
        "json": (JsonOption, False),
    }

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        options = [
            inspect.Parameter(
                option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )
            for option, (kind, default) in shared.items()
        ]

        def run(**arguments: Any) -> None:
            options = {option: arguments.pop(option) for option in shared}
            function(Asker(**options), **arguments)

        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__name__ = function.__name__
        run.__doc__ = function.__doc__
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *options]
        )
        run.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
        app.command(name)(run)
        return function

    return register


def print_fields(result: Mapping[str, Any]) -> None:
    """Print names and values, a nested object's under its own name; colours on a terminal."""
    rows = list(_flat(result))
    if not sys.stdout.isatty():
        for name, value in rows:
            typer.echo(f"{name.removesuffix('_ms')} {value}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        title = name.removesuffix("_ms").replace("_", " ")
        table.add_row(title, _styled(name, value))
    Console(highlight=False).print(table)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> None:
    """Print a table; on anything but a terminal with tabs between the columns, for other
    programs. A column `a.b` is the member b of the member a."""
    cells = [[shown(column, _member(row, column)) for column in columns] for row in rows]
    names = [column.rpartition(".")[2].removesuffix("_ms") for column in columns]
    titles = [name.replace("_", " ") for name in names]
    if not sys.stdout.isatty():
        typer.echo("\t".join(names))
        for line in cells:
            typer.echo("\t".join(line))
        return
    if not rows:
        typer.echo(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles, box=None, header_style="bold")
    for column, title in zip(columns, table.columns, strict=True):
        title.overflow = "fold"
        if all(isinstance(_member(row, column), int | float) for row in rows):
            title.justify = "right"
    for line in cells:
        table.add_row(*(_styled(column, cell) for column, cell in zip(columns, line, strict=True)))
    Console(highlight=False).print(table)


def shown(name: str, value: object) -> str:
    """Return a member's value for a person: times as dates, durations with a unit."""
    last = name.rpartition(".")[2]
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (last in TIMES or last.endswith(("_time", "_time_ms"))):
        return moment(value)
    if isinstance(value, int) and last.endswith("_ms"):
        return duration(value)
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, list):
        return ", ".join(shown("", item) for item in value) or "-"
    return harmless(str(value))


TIMES: Final = frozenset({"time", "time_ms"})
"""Members that are moments in ms since the Unix epoch."""


def moment(time_ms: int) -> str:
    """Return a time in UTC, to the second."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (OverflowError, OSError, ValueError):
        return f"{time_ms} ms"


def duration(ms: int) -> str:
    """Return a duration in its two largest units."""
    if ms < 1000:
        return f"{ms} ms"
    seconds = ms // 1000
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _flat(result: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in result.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value):
                yield from _flat(item, f"{prefix}{name}.{index}.")
        else:
            yield prefix + name, shown(name, value)


def _member(row: Mapping[str, Any], column: str) -> object:
    value: Any = row
    for name in column.split("."):
        value = value[name] if isinstance(value, Mapping) else None
    return value


_GOOD: Final = frozenset({"ok", "main", "mining", "unspent", "included", "yes", "running"})
_BAD: Final = frozenset({"invalid", "spent", "off", "backing-off"})


def _styled(name: str, text: str) -> str:
    """Return a cell with rich's markup: what comes from outside is escaped."""
    from rich.markup import escape

    safe = escape(text)
    if text in _GOOD or text.startswith("ok"):
        return f"[green]{safe}[/green]"
    if text in _BAD:
        return f"[red]{safe}[/red]"
    if text == "-":
        return f"[dim]{safe}[/dim]"
    if name.endswith(
        ("amount", "supply", "pool", "pool_share", "fee", "fees", "minted", "balance")
    ):
        return f"[bold]{safe}[/bold]"
    return safe


_OPTION_NAMES: Final = re.compile(r"\b(?:allow_high_fee|no_passphrase|fee_rate)\b")
"""Names of parameters in messages that a command has as options."""


def _as_option(found: re.Match[str]) -> str:
    return f"--{found[0].replace('_', '-')}"


def _refusal(error: Exception) -> str:
    from unchained.node.rpc.core.errors import BusyError, UnauthorizedError

    text = _OPTION_NAMES.sub(_as_option, harmless(str(error)))
    if isinstance(error, UnauthorizedError):
        return f"{text}: is this the data directory of the node that answers?"
    if isinstance(error, BusyError):
        return f"{text}: try again in a moment"
    return text
