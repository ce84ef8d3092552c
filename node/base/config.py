"""The table of a node's settings: every key, once, with its type, bounds and description.

The commented file, the documentation and the help of the command line are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, inspect

from unchained.node.base.ports import AUTO, EXAMPLE, Multiaddress

ENV_PREFIX = "UNCHAINED_"

Network = Literal["main", "test", "local", "reg"]
PageAccess = Literal["loopback", "token", "off"]
HostPort = r"^(auto|(\[[0-9a-fA-F:.]+\]|[^:\s]+):(\d{1,5}|auto))$"


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The node itself."""

    network: Annotated[Network, Meta(description="Network to join.")] = "local"
    data_dir: Annotated[
        str, Meta(description="Directory of chain, log and keys; empty: ~/.unchained/NETWORK.")
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least level of the events that are logged."),
    ] = "info"
    log_file_mib: Annotated[
        int,
        Meta(ge=1, le=1024, description="Size at which the log file is set aside, in MiB."),
    ] = 16
    log_files: Annotated[
        int, Meta(ge=1, le=100, description="Log files kept, the present one included.")
    ] = 5
    log_hours: Annotated[
        int,
        Meta(ge=0, le=8760, description="Age at which the log file is set aside, hours; 0: none."),
    ] = 24
    log_days: Annotated[
        int,
        Meta(ge=0, le=3650, description="Days for which old log files are kept; 0: no bound."),
    ] = 14


class MiningConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mining coins."""

    enabled: Annotated[bool, Meta(description="Mine coins.")] = True
    alone: Annotated[
        bool,
        Meta(
            description="Mine on test and main too though no peer has answered: a chain that "
            "nobody else has."
        ),
    ] = False
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="Worker processes; auto: one for each core, fewer where memory is short."),
    ] = "auto"
    nice: Annotated[
        int, Meta(ge=0, le=19, description="Nice level of the workers; 19 yields to all else.")
    ] = 10
    affinity: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=4095)], ...],
        Meta(description="Cores that the workers may use, by number; empty: all."),
    ] = ()
    cpu_cap: Annotated[
        int, Meta(ge=1, le=100, description="Share of a core that each worker may use, in percent.")
    ] = 100
    huge_pages: Annotated[
        bool, Meta(description="Ask the system for huge pages, which make mining faster.")
    ] = True
    pause_on_battery: Annotated[
        bool, Meta(description="Pause while the machine runs on its battery.")
    ] = True
    pause_above_load: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="Pause while other programs use more than this share of the machine, in "
            "percent; 0: never.",
        ),
    ] = 0
    pause_after_input_s: Annotated[
        int,
        Meta(
            ge=0,
            le=86400,
            description="Pause until nobody has typed at a terminal of the machine for so many "
            "seconds; 0: never.",
        ),
    ] = 0
    payout: Annotated[
        str,
        Meta(description="Address that mined coins are paid to; empty: the default wallet."),
    ] = ""


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The store on disk."""

    cache_mib: Annotated[
        int, Meta(ge=1, le=65536, description="Memory for the store's block cache, in MiB.")
    ] = 2


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Connections to other nodes."""

    listen: Annotated[
        tuple[
            Annotated[
                str, Meta(pattern=r"^(/\S+|auto)$", extra={"expected": "multiaddress or auto"})
            ],
            ...,
        ],
        Meta(
            description="Multiaddresses to listen on, such as /ip4/0.0.0.0/tcp/4001; a port that "
            "is auto is the network's (local 4001, reg 4011, test 4021, main 4031) or the next "
            "free one; auto alone: this machine only on local and reg, all its addresses on test "
            "and main; empty: nowhere."
        ),
    ] = (AUTO,)
    bootstrap: Annotated[
        tuple[Multiaddress, ...],
        Meta(description=f"Multiaddresses of nodes to join through, such as {EXAMPLE}."),
    ] = ()
    seeds: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"^/dns[46]?/[^/\s]+/tcp/[0-9]{1,5}$",
                    extra={"expected": "name and port, as /dns/NAME/tcp/PORT"},
                ),
            ],
            ...,
        ],
        Meta(description="Names that stand for many nodes, asked while peers are missing."),
    ] = ()
    port_mapping: Annotated[
        Literal["off", "auto"],
        Meta(
            description="auto: have the port mapped by the home's gateway (UPnP), so that others "
            "can connect; not on local and reg, nor behind a proxy."
        ),
    ] = "off"
    proxy: Annotated[
        str,
        Meta(
            pattern=r"^((\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5})?$",
            extra={"expected": "HOST:PORT"},
            description="SOCKS5 proxy, such as Tor's 127.0.0.1:9050, that all connections to peers "
            "are made through, and that resolves their names; empty: none.",
        ),
    ] = ""
    tor_control: Annotated[
        str,
        Meta(
            pattern=r"^((\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5})?$",
            extra={"expected": "HOST:PORT"},
            description="Tor's control port, such as 127.0.0.1:9051, by which the node sets up an "
            "onion service of its own; empty: none.",
        ),
    ] = ""
    tor_password_file: Annotated[
        str,
        Meta(
            description="File with the password of Tor's control port, which takes "
            "network.tor_trusted; empty: its cookie is used."
        ),
    ] = ""
    tor_cookie_file: Annotated[
        str,
        Meta(
            description="File that Tor writes its cookie to, where only Tor can write; empty: one "
            "of those of Tor's packages."
        ),
    ] = ""
    tor_trusted: Annotated[
        bool,
        Meta(
            description="Who answers at network.tor_control is told the password and the onion "
            "service's key without a proof that it is Tor."
        ),
    ] = False
    only: Annotated[
        tuple[Literal["onion", "ipv4", "ipv6"], ...],
        Meta(description="Kinds of network that peers are dialled in; empty: all."),
    ] = ()
    security: Annotated[
        Literal["hybrid", "any"],
        Meta(
            description="hybrid: post-quantum links alone; any: also classical ones, for clients "
            "that have no others yet."
        ),
    ] = "hybrid"
    announce: Annotated[
        tuple[Multiaddress, ...],
        Meta(description="Multiaddresses to give to others instead of those listened on."),
    ] = ()
    outbound: Annotated[
        int, Meta(ge=0, le=64, description="Connections that the node makes by itself.")
    ] = 8
    inbound: Annotated[
        int, Meta(ge=0, le=512, description="Connections that the node lets others make.")
    ] = 56
    asmap: Annotated[
        str,
        Meta(
            description="File that says which autonomous system an address is in, in Bitcoin "
            "Core's format, so that outbound peers are of different ones; empty: none."
        ),
    ] = ""
    upload_kib: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 22,
            description="KiB per second that the node sends to peers, in answers and gossip, of "
            "which gossip goes first; 0: as much as its line takes.",
        ),
    ] = 0
    assume_valid: Annotated[
        str,
        Meta(
            pattern=r"^([0-9a-f]{64})?$",
            extra={"expected": "hash of 64 hex digits"},
            description="Anchor below which, on its chain, proofs of work are not verified; empty: "
            "the one of this release, if any.",
        ),
    ] = ""
    verify_all: Annotated[
        bool, Meta(description="Verify every proof of work, whatever anchor is assumed valid.")
    ] = False


class RpcConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The node over HTTP."""

    listen: Annotated[
        str,
        Meta(
            pattern=HostPort,
            extra={"expected": "HOST:PORT or auto"},
            description="Address of the server; a port that is auto is the network's (local 8645, "
            "reg 8655, test 8665, main 8675) or the next free one; auto alone: 127.0.0.1:auto.",
        ),
    ] = AUTO
    enabled: Annotated[bool, Meta(description="Serve JSON-RPC, events and health.")] = True
    names: Annotated[
        tuple[
            Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$", extra={"expected": "host name"})], ...
        ],
        Meta(description="Further host names that requests may address the node by."),
    ] = ()
    open_read: Annotated[
        bool, Meta(description="Answer read-only methods without the token in rpc.token.")
    ] = False
    socket: Annotated[
        str,
        Meta(
            pattern=r"^(auto|off|/.+)$",
            extra={"expected": "auto, off or an absolute path"},
            description="Unix socket that gives full access to the node's own user, and to nobody "
            "else; auto: rpc.socket in the data directory.",
        ),
    ] = AUTO
    tls_certificate: Annotated[
        str,
        Meta(description="File (PEM) of the certificate that the RPC shows; empty: no TLS."),
    ] = ""
    tls_key: Annotated[str, Meta(description="File (PEM) of the certificate's key.")] = ""
    page: Annotated[
        PageAccess,
        Meta(
            description="The page for browsers: loopback, seen from this machine without "
            "credentials and with a token from elsewhere; token: with a token alone; off."
        ),
    ] = "loopback"
    metrics: Annotated[
        PageAccess,
        Meta(
            description="Metrics at /metrics: loopback, given to this machine without credentials "
            "and to others with a token; token: with a token alone; off."
        ),
    ] = "loopback"
    wallet_page: Annotated[
        bool,
        Meta(
            description="Let the page show and pay from wallets, in a browser that "
            "`unchained-node wallet page` has given a link."
        ),
    ] = False
    user: Annotated[
        str, Meta(description="User with full access beside the cookie; empty: none.")
    ] = ""
    password_hash: Annotated[
        str,
        Meta(
            pattern=r"^(scrypt\$[0-9]+\$[0-9]+\$[0-9]+\$\S+\$\S+)?$",
            extra={"expected": "hash by unchained-node config password", "secret": True},
            description="Hash of that password, as `unchained-node config password` gives it.",
        ),
    ] = ""
    mining_token_file: Annotated[
        str,
        Meta(
            description="File with the token that miners elsewhere use, made if it is missing; "
            "empty: there is no such token."
        ),
    ] = ""


class NotifyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Telling others of what happens."""

    about: Annotated[
        tuple[Literal["wallet", "invoice", "anchor", "reorg"], ...],
        Meta(
            description="What command and URL are told of: coins and transfers of wallets, "
            "invoices, anchors of the main chain, reorganisations."
        ),
    ] = ("wallet", "invoice", "anchor", "reorg")
    command: Annotated[
        tuple[str, ...],
        Meta(
            description="Program and arguments to run for each, without a shell; %s is the id of "
            "what it is about, %e the event, %w the wallet, %h the height, %n the sequence number, "
            "%% a percent sign; empty: none."
        ),
    ] = ()
    commands: Annotated[int, Meta(ge=1, le=64, description="Commands that run at a time.")] = 4
    command_s: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds after which a command is killed.")
    ] = 60
    url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^\s/@]+(/[^\s#]*)?)?$",
            extra={"expected": "http or https URL without a user", "secret": True},
            description="URL that is sent each as JSON, by POST; empty: none.",
        ),
    ] = ""
    secret_file: Annotated[
        str,
        Meta(
            description="File with the secret that signs what is sent to the URL, made if it is "
            "missing; empty: it is not signed."
        ),
    ] = ""
    most_behind: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Entries that command or URL may be behind; the oldest of more are "
            "dropped.",
        ),
    ] = 10_000


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings, by section."""

    node: Annotated[NodeConfig, Meta(description="The node itself.")] = NodeConfig()
    mining: Annotated[MiningConfig, Meta(description="Mining coins.")] = MiningConfig()
    storage: Annotated[StorageConfig, Meta(description="The store on disk.")] = StorageConfig()
    network: Annotated[NetworkConfig, Meta(description="Connections to other nodes.")] = (
        NetworkConfig()
    )
    rpc: Annotated[RpcConfig, Meta(description="The node over HTTP.")] = RpcConfig()
    notify: Annotated[NotifyConfig, Meta(description="Telling others of what happens.")] = (
        NotifyConfig()
    )


class Key(NamedTuple):
    """One setting as it is declared above."""

    name: str
    """``section.key``."""
    kind: inspect.Type
    declared: object
    """The annotation, which msgspec checks values against."""
    default: object
    description: str
    secret: bool

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return ENV_PREFIX + self.name.upper().replace(".", "__")

    @property
    def expected(self) -> str:
        """What a value must be, as part of a sentence."""
        return phrase(self.kind)


def phrase(kind: inspect.Type, extra: Mapping[str, object] | None = None) -> str:
    """Return in words what values of a type look like."""
    match kind:
        case inspect.Metadata():
            return phrase(kind.type, {**(extra or {}), **(kind.extra or {})})
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in kind.values)
        case inspect.VarTupleType():
            return f"a list, each {phrase(kind.item_type)}"
        case inspect.UnionType():
            return " or ".join(phrase(option) for option in kind.types)
        case _:
            return f"a {extra['expected']}" if extra else "text"


@cache
def declared_keys() -> Mapping[str, Key]:
    """Return every setting in the order in which it is documented."""
    keys: dict[str, Key] = {}
    for section, (kind_of_section, _) in _sections().items():
        for field in msgspec.structs.fields(kind_of_section):
            name = f"{section}.{field.name}"
            kind = inspect.type_info(field.type)
            (meta,) = (m for m in field.type.__metadata__ if isinstance(m, Meta))
            secret = bool((meta.extra or {}).get("secret"))
            keys[name] = Key(name, kind, field.type, field.default, meta.description or "", secret)
    return keys


def section_titles() -> dict[str, str]:
    """Return the sections and what each is about."""
    return {name: title for name, (_, title) in _sections().items()}


def _sections() -> dict[str, tuple[type[msgspec.Struct], str]]:
    found = {}
    for section in msgspec.structs.fields(Config):
        kind, meta = get_args(section.type)
        found[section.name] = (kind, meta.description)
    return found


def toml_value(value: object) -> str:
    """Return a setting's value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list() | tuple():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
        case _:
            return msgspec.json.encode(str(value)).decode()


def commented_file() -> str:
    """Return a settings file with every key, its description and its default, commented out."""
    lines = [
        "# Settings of an Unchained node. A line without # in front sets a key; what is shown is",
        f"# the default. The environment ({ENV_PREFIX}SECTION__KEY) and flags override this file.",
    ]
    section = ""
    titles = section_titles()
    for key in declared_keys().values():
        present, _, name = key.name.partition(".")
        if present != section:
            section = present
            lines += ["", f"[{section}]  # {titles[section]}"]
        lines += ["", f"# {key.description}", f"# Expected: {key.expected}."]
        lines.append(f"# {name} = {toml_value(key.default)}")
    return "\n".join(lines) + "\n"


def documentation() -> str:
    """Return one Markdown table for each section, as in docs/configuration.md."""
    lines: list[str] = []
    section = ""
    titles = section_titles()
    for key in declared_keys().values():
        present, _, name = key.name.partition(".")
        if present != section:
            section = present
            lines += ["", f"### `[{section}]`: {titles[section]}", ""]
            lines += ["| key | default | expected | meaning |", "|---|---|---|---|"]
        lines.append(
            f"| `{name}` | `{toml_value(key.default)}` | {key.expected} | {key.description} |"
        )
    return "\n".join(lines[1:]) + "\n"
