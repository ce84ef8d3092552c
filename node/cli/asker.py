"""Commands that ask a running node: how they find it, what they share, how they print.

A command is a function whose first parameter is an `Asker`; `asking` gives it the options that
lead to the node and to the form of the output, and turns what goes wrong into one line.
"""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer

from unchained.node.base.config import Network
from unchained.node.base.settings import ConfigError
from unchained.node.base.terminal_text import harmless
from unchained.node.cli.command_words import ID_PARAMETERS, LISTED_IDS, CommandWords
from unchained.node.cli.json_output import print_json
from unchained.node.cli.local_methods import LOCAL_METHODS
from unchained.node.cli.options import (
    DataDirOption,
    JsonOption,
    NetworkOption,
    settings_from,
)
from unchained.node.cli.short_ids import ShortIdError, is_short_peer, one_of
from unchained.node.cli.tables import print_fields, print_rows
from unchained.storage.errors import StoreLockedError
from unchained.storage.lock import is_held

if TYPE_CHECKING:
    from unchained.node.cli.local_wallets import LocalWallets
    from unchained.node.rpc.client.client import Client

# The client brings Trio and TLS: it is imported when a node is asked, not for help or errors.

TOKEN_BYTES_MAX: Final = 512
"""Bytes of a file with a token."""

ASK_SECONDS: Final = 60.0
"""How long a command waits for an answer unless it says otherwise."""

PAGE_ENTRIES: Final = 1000
"""Entries of a list that are asked for at once: the most that a node returns."""

RpcOption = Annotated[
    str | None,
    typer.Option(
        "--rpc",
        metavar="URL",
        help="Ask the node at this URL, with the cookie in the data directory.",
    ),
]


ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns", metavar="NAME,NAME,...", help="Columns of the table, or all of them."
    ),
]

MINING_WALLET: Final = "mining"
"""The wallet that a node makes for what it mines before it has a default wallet."""

LOOKING: Final = frozenset(
    f"wallet.{name}"
    for name in (
        *("accounts", "coins", "contract_history", "contract_info", "contracts"),
        *("describe", "get_invoice", "history", "history_since", "info", "invoices", "mined"),
        *("payee_list", "transfer"),
    )
)
"""Methods that show what a wallet has, and do nothing; but the balance, which people ask for first,
is not among them."""

LOOK_AROUND_S: Final = 1.0
"""How long a node of another network may take to say that it is there."""

_ID_DIGITS: Final = 64
_PREFIX: Final = re.compile(r"[0-9a-f]{4,63}", re.ASCII)
_LISTED_PREFIX: Final = re.compile(r"[0-9a-f]{4,15}", re.ASCII)

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
        columns: str | None = None,
        words: CommandWords | None = None,
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
        self._columns = columns
        self._words = words
        self._said_mining = False

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
        """Return a method's result as plain JSON; ids may be given by their first digits.

        Raises `CommandFailedError`.
        """
        if not isinstance(params, Mapping):
            return self._ask(method, params, seconds)
        wallet = {"wallet": params["wallet"]} if "wallet" in params else {}
        try:
            params = {
                name: self._whole(method, name, value, wallet) for name, value in params.items()
            }
        except ShortIdError as error:
            raise CommandFailedError(str(error)) from None
        try:
            return self._ask(method, params, seconds)
        except CommandFailedError as error:
            other = self._mining_instead(method, error, params)
            if other is None:
                if error.word == "NO_SUCH_WALLET" and params.get("wallet") == "default":
                    raise CommandFailedError(
                        f"{error}: `unchained-node wallet create` makes it", error.word
                    ) from None
                raise
        return self._ask(method, other, seconds)

    def _ask(
        self, method: str, params: Mapping[str, object] | Sequence[object], seconds: float
    ) -> Any:
        from unchained.node.rpc.client.client import ClientError, NodeNotRunningError
        from unchained.node.rpc.core.errors import RpcError

        try:
            try:
                return self._connected().call(method, params, seconds=seconds)
            except NodeNotRunningError:
                return self._local(method).call(method, params)
        except ClientError as error:
            raise CommandFailedError(str(error)) from None
        except RpcError as error:
            raise CommandFailedError(self._refusal(method, error), error.error) from None

    def _local(self, method: str) -> LocalWallets:
        """Return what answers a method where no node runs. Raises `CommandFailedError` where that
        takes a node."""
        if self.remote or method not in LOCAL_METHODS:
            raise CommandFailedError(self._not_running()) from None
        if self._wallets is None:
            from unchained.node.cli.local_wallets import LocalWallets

            settings = settings_from(self.flags, config=None)
            try:
                self._wallets = LocalWallets(settings)
            except StoreLockedError:
                raise CommandFailedError(_busy(settings.data_dir)) from None
        return self._wallets

    @property
    def is_local(self) -> bool:
        """Whether answers came from the files of the data directory, with no node."""
        return self._wallets is not None

    def url(self) -> str:
        """Return where the node listens, once it has answered."""
        from unchained.node.rpc.core.credential_files import URL_FILE

        if self._url is not None:
            return self._url.rstrip("/")
        return (self.data_dir() / URL_FILE).read_text(encoding="utf-8").strip()

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

    def _mining_instead(
        self, method: str, error: CommandFailedError, params: Mapping[str, object]
    ) -> dict[str, object] | None:
        """Return the parameters for the wallet `mining` where there is no default wallet: who has
        just begun to mine has that one alone."""
        if error.word != "NO_SUCH_WALLET" or params.get("wallet") != "default":
            return None
        found = self._ask("wallet.list", {}, ASK_SECONDS)
        if all(entry["wallet"] != MINING_WALLET for entry in found):
            return None
        # whoever looks sees what there is; whoever pays, is paid or takes keys has to know of which
        if method not in LOOKING and not self._said_mining:
            self._said_mining = True
            typer.echo(f"there is no wallet default: this is {MINING_WALLET}", err=True)
        return {**params, "wallet": MINING_WALLET}

    # Ids by their first digits

    def _whole(self, method: str, name: str, value: object, wallet: Mapping[str, object]) -> object:
        """Return a parameter with the ids in it whole; `wallet` is the parameter that names whose
        they are, if there is one. Raises `CommandFailedError`, `ShortIdError`."""
        if isinstance(value, list):
            return [self._whole(method, name, item, wallet) for item in value]
        if not isinstance(value, str):
            return value
        if name in ID_PARAMETERS and _PREFIX.fullmatch(value.lower()):
            return one_of(value, self._ids(method, value.lower(), wallet), _unknown(value))
        listed, by, is_paged = LISTED_IDS.get(method, ("", "", False))
        if name == listed and _LISTED_PREFIX.fullmatch(value.lower()):
            entries = self._pages(by, wallet) if is_paged else self.call_with(by, wallet)
            ids = {entry["id"] for entry in entries}
            found = {each for each in ids if each.startswith(value.lower())}
            return one_of(value, found, _unknown(value))
        if name == "peer" and is_short_peer(value):
            peers = (peer["peer"] for peer in self._ask("net.peers", {}, ASK_SECONDS))
            found = {peer for peer in peers if peer.startswith(value)}
            unknown = f"no peer is connected whose id begins with {value}: `unchained-node peers`"
            return one_of(value, found, unknown)
        return value

    def _ids(self, method: str, prefix: str, wallet: Mapping[str, object]) -> set[str]:
        found = {entry["id"] for entry in self._ask("chain.find", {"prefix": prefix}, ASK_SECONDS)}
        if not found and method.startswith("wallet."):
            # What the chain never saw: contracts, and transfers that were given up.
            found = {
                text
                for entries in (
                    self.call_with("wallet.contracts", wallet),
                    self._pages("wallet.history", wallet),
                )
                for entry in entries
                for text in entry.values()
                if isinstance(text, str) and text.startswith(prefix) and len(text) == _ID_DIGITS
            }
        return found

    def _pages(self, method: str, wallet: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """Yield all that a method lists: of a part of it, digits could fit one thing alone that are
        another's."""
        for offset in count(0, PAGE_ENTRIES):
            page = self.call_with(method, {**wallet, "limit": PAGE_ENTRIES, "offset": offset})
            yield from page
            if len(page) < PAGE_ENTRIES:
                return

    # What went wrong, in the words of the command line

    def _not_running(self) -> str:
        if self.remote:
            return f"no node answers at {self._url}"
        settings = settings_from(self.flags, config=None)
        if is_held(settings.data_dir):
            return _busy(settings.data_dir)
        network = settings.config.node.network
        others = [
            f"one of {other} runs (--network {other})"
            for other in get_args(Network)
            if other != network and self._runs(other)
        ]
        flags = "".join(f" {flag} {shlex.quote(value)}" for flag, value in self._given())
        start = f"unchained-node start{flags}"
        hint = "; ".join([f"start it with `{start}`", *others])
        return f"no node of network {network} is running in {settings.data_dir}: {hint}"

    def _runs(self, network: str) -> bool:
        """Return whether a node of another network answers in that one's own directory."""
        from unchained.node.rpc.client.client import Client, ClientError, Endpoint
        from unchained.node.rpc.core.errors import RpcError

        flags = {"node.network": ("--network", network)}
        try:
            endpoint = Endpoint.of(settings_from(flags, config=None).data_dir)
            Client(endpoint, timeout=LOOK_AROUND_S).call("node.version")
        except (ClientError, RpcError, ConfigError):
            return False
        return True

    def _given(self) -> list[tuple[str, str]]:
        return [(flag, value) for flag, value in self.flags.values() if value is not None]

    def _refusal(self, method: str, error: Exception) -> str:
        from unchained.node.rpc.core.errors import BusyError, UnauthorizedError

        text = harmless(str(error))
        if self._words is not None:
            text = self._words.translate(method, text)
        if isinstance(error, UnauthorizedError):
            return f"{text}: is this the data directory of the node that answers?"
        if isinstance(error, BusyError):
            return f"{text}: try again in a moment"
        return text

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

    @property
    def is_brief(self) -> bool:
        """Whether a table is for a person who has not said what it is to show."""
        return sys.stdout.isatty() and self._columns is None and not self.json

    def show_rows(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str
    ) -> None:
        """Print a list of results as a table of some of their members, or `empty`; `--columns`
        names others. Raises `typer.BadParameter`."""
        chosen = columns if self._columns is None else _chosen(self._columns, rows)
        self.show(rows, lambda: print_rows(rows, chosen, empty))


def _unknown(given: str) -> str:
    return f"nothing is known whose id begins with {given}"


def _busy(directory: Path) -> str:
    """Return what to say where nobody answers, but somebody has the data directory."""
    return (
        f"the node in {directory} is starting or stopping, or another command has its files: try "
        "again in a moment"
    )


def _chosen(wanted: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = list(dict.fromkeys(name for row in rows for name in _members(row)))
    if wanted == "all":
        return known
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if rows and name not in known:
            raise typer.BadParameter(
                f"{name!r} is no column; there are {', '.join(known)}", param_hint="--columns"
            )
    if not names:
        raise typer.BadParameter("expected NAME,NAME,... or all", param_hint="--columns")
    return names


def _members(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _members(value, f"{prefix}{name}.")
        else:
            yield prefix + name


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


def asking(
    app: typer.Typer, name: str, *, table: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function that takes an `Asker` and parameters of its own a command of `app`.

    `table`: it shows rows, of which `--columns` chooses the members."""
    shared: dict[str, tuple[Any, object]] = {
        "network": (NetworkOption, None),
        "data_dir": (DataDirOption, None),
        "rpc": (RpcOption, None),
        "token_file": (TokenFileOption, None),
        "certificate": (CertificateOption, None),
        "json": (JsonOption, False),
    }
    if table:
        shared["columns"] = (ColumnsOption, None)

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
            function(Asker(**options, words=CommandWords(name, own)), **arguments)

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
