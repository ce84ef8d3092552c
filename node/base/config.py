"""Settings of a node: one frozen value from defaults, a TOML file, the environment and flags.

Each later source overrides the earlier ones. Every key is declared once, below, with its type,
bounds and description: the commented file, the documentation and the help of the command line
are made from that. Whatever is wrong with a setting is a `ConfigError` of one line.
"""

from __future__ import annotations

import difflib
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, cast, get_args

import msgspec
from msgspec import Meta, inspect

FILE_NAME = "config.toml"
LOG_NAME = "node.log"
ENV_PREFIX = "UNCHAINED_"
ENV_FILE = "UNCHAINED_CONFIG"
MASK = "***"
OWN_NAMES = (FILE_NAME, LOG_NAME, "db")
"""A directory that holds one of these is a node's data directory."""

Network = Literal["main", "test", "local", "reg"]
NETWORKS: tuple[str, ...] = get_args(Network)

HostPort = r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$"


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


class MiningConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mining coins."""

    enabled: Annotated[bool, Meta(description="Mine coins.")] = True
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
        tuple[Annotated[str, Meta(pattern=r"^/\S+$", extra={"expected": "multiaddress"})], ...],
        Meta(description="Multiaddresses to listen on, such as /ip4/0.0.0.0/tcp/4001."),
    ] = ()
    bootstrap: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^/\S+$", extra={"expected": "multiaddress"})], ...],
        Meta(description="Multiaddresses of nodes to join the network through."),
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
    announce: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^/\S+$", extra={"expected": "multiaddress"})], ...],
        Meta(description="Multiaddresses to give to others instead of those listened on."),
    ] = ()
    outbound: Annotated[
        int, Meta(ge=0, le=64, description="Connections that the node makes by itself.")
    ] = 8
    inbound: Annotated[
        int, Meta(ge=0, le=512, description="Connections that the node lets others make.")
    ] = 56
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
            pattern=HostPort, extra={"expected": "HOST:PORT"}, description="Address of the server."
        ),
    ] = "127.0.0.1:8645"
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


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings, by section."""

    node: NodeConfig = NodeConfig()
    mining: MiningConfig = MiningConfig()
    storage: StorageConfig = StorageConfig()
    network: NetworkConfig = NetworkConfig()
    rpc: RpcConfig = RpcConfig()


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


class SettingOrigin(NamedTuple):
    """Where a value came from: `default`, a file and line, a variable or a flag."""

    text: str


class ConfigError(Exception):
    """A setting is wrong: `key` names it, the message is one line."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class UnknownKeyError(ConfigError):
    """There is no such setting."""

    def __init__(self, key: str, origin: str, known: list[str]) -> None:
        nearest = nearest_key(key, known)
        super().__init__(key, f'unknown setting "{key}" ({origin}); nearest known: "{nearest}"')
        self.nearest = nearest


class BadValueError(ConfigError):
    """A setting has a value that it cannot have."""

    def __init__(self, key: str, shown: str, problem: str, origin: str) -> None:
        super().__init__(key, f"{key} = {shown} ({origin}): {problem}")


class BadFileError(ConfigError):
    """A file of settings cannot be read."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__("", f"{path}: {problem}")


class BadDataDirectoryError(ConfigError):
    """The data directory cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__("node.data_dir", f"data directory {path}: {problem}")


def nearest_key(name: str, known: list[str]) -> str:
    """Return the known key that is most like the name."""

    def likeness(candidate: str) -> float:
        # The last part counts twice: a key in the wrong section is the commonest mistake.
        pairs = ((name, candidate), (name.rpartition(".")[2], candidate.rpartition(".")[2]))
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return max(known, key=likeness)


def declared_keys() -> dict[str, Key]:
    """Return every setting in the order in which it is documented."""
    keys: dict[str, Key] = {}
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            name = f"{section.name}.{field.name}"
            kind = inspect.type_info(field.type)
            (meta,) = (m for m in field.type.__metadata__ if isinstance(m, Meta))
            secret = bool((meta.extra or {}).get("secret"))
            keys[name] = Key(name, kind, field.type, field.default, meta.description or "", secret)
    return keys


def section_titles() -> dict[str, str]:
    """Return the sections and what each is about."""
    return {
        section.name: (section.type.__doc__ or "").split("\n")[0]
        for section in msgspec.structs.fields(Config)
    }


class Settings(msgspec.Struct, frozen=True):
    """The settings of a node, where each came from, and the files they lead to."""

    config: Config
    origins: Mapping[str, SettingOrigin]
    file: Path
    """The settings file, whether it exists or not."""
    data_dir: Path

    def value(self, key: str) -> object:
        """Return the value of ``section.key``."""
        section, _, name = key.partition(".")
        return getattr(getattr(self.config, section), name)

    def fault(self, key: str, problem: str) -> BadValueError:
        """Return the error for a value that only its user could find to be wrong."""
        shown = MASK if declared_keys()[key].secret else toml_value(self.value(key))
        return BadValueError(key, shown, problem, self.origins[key].text)


def load(
    flags: Mapping[str, tuple[str, object]],
    env: Mapping[str, str],
    *,
    home: Path,
    file: Path | None = None,
    read_file: bool = True,
) -> Settings:
    """Return the settings from all sources.

    `flags` maps ``section.key`` to the flag's name and value, where the flag was given. `file` is
    the one that the user named; else `UNCHAINED_CONFIG`, else `config.toml` in the data directory
    that flags and environment lead to, if it exists. Without `read_file` only its path is found
    out. Raises ConfigError.
    """
    keys = declared_keys()
    outer: dict[str, tuple[object, SettingOrigin]] = {}
    for key, text, origin in _from_env(keys, env):
        outer[key] = (check(keys[key], text, origin, from_text=True), origin)
    for key, (flag, value) in flags.items():
        if key not in keys:
            raise UnknownKeyError(key, flag, list(keys))
        from_text = isinstance(value, str)
        outer[key] = (
            check(keys[key], value, SettingOrigin(flag), from_text=from_text),
            SettingOrigin(flag),
        )

    if file is None and ENV_FILE in env:
        file = Path(env[ENV_FILE]).expanduser()
    named = file is not None
    searched = _data_dir(outer, home)
    path = file or searched / FILE_NAME
    found: dict[str, tuple[object, SettingOrigin]] = {}
    if read_file and (named or path.is_file()):
        found = dict(_from_file(keys, path))
    values = found | outer
    data_dir = _data_dir(values, home)
    if found and not named and data_dir != searched:
        key = "node.data_dir" if values.get("node.data_dir", ("",))[0] else "node.network"
        raise BadValueError(
            key,
            toml_value(values[key][0]),
            f"this file is read for the data directory {searched}, expected a setting that leads "
            "there; choose another by --network or --data-dir, or name the file by --config",
            values[key][1].text,
        )
    sections: dict[str, dict[str, object]] = {section: {} for section in section_titles()}
    for key, (value, _) in values.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    config = msgspec.convert(sections, Config)
    origins = {key: values[key][1] if key in values else SettingOrigin("default") for key in keys}
    return Settings(config, origins, path.absolute(), data_dir)


def _data_dir(values: Mapping[str, tuple[object, SettingOrigin]], home: Path) -> Path:
    chosen = str(values.get("node.data_dir", ("", None))[0])
    if chosen:
        return Path(chosen).expanduser().absolute()
    network = str(values.get("node.network", (NodeConfig().network, None))[0])
    return home / ".unchained" / network


def _from_env(
    keys: Mapping[str, Key], env: Mapping[str, str]
) -> Iterator[tuple[str, str, SettingOrigin]]:
    for name, text in env.items():
        # Variables without the double underscore belong to others, such as UNCHAINED_CONFIG.
        if name.startswith(ENV_PREFIX) and "__" in name:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".", 1)
            if key not in keys:
                raise UnknownKeyError(key, f"environment variable {name}", list(keys))
            yield key, text, SettingOrigin(f"environment variable {name}")


def _from_file(
    keys: Mapping[str, Key], path: Path
) -> Iterator[tuple[str, tuple[object, SettingOrigin]]]:
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError:
        raise BadFileError(path, "no such file") from None
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadFileError(path, "is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BadFileError(path, f"is not valid TOML: {error}") from None
    sections = section_titles()
    for section, content in document.items():
        place = f"{path}:{_line(text, section, None)}"
        if section not in sections:
            known = list(sections) if isinstance(content, dict) else list(keys)
            raise UnknownKeyError(section, place, known)
        if not isinstance(content, dict):
            raise BadFileError(path, f"{section} is a section: write [{section}] above its keys")
        for name, value in content.items():
            key = f"{section}.{name}"
            origin = SettingOrigin(f"{path}:{_line(text, section, name)}")
            if key not in keys:
                raise UnknownKeyError(key, origin.text, list(keys))
            yield key, (check(keys[key], value, origin, from_text=False), origin)


def _line(text: str, section: str, name: str | None) -> int:
    """Return the line, from 1, on which a section or key is set; TOML's parser does not tell."""
    present = ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split("#")[0].strip()
        if bare.startswith("["):
            present = bare.strip("[] \"'")
            if name is None and present == section:
                return number
        elif "=" in bare:
            left = bare.split("=")[0].translate({ord(sign): None for sign in " \t\"'"})
            key = f"{present}.{left}" if present else left
            if key == (f"{section}.{name}" if name else section):
                return number
    return 1


def check(key: Key, value: object, origin: SettingOrigin, *, from_text: bool) -> object:
    """Return the value as its key declares it; a text from outside may stand for any type."""
    shown = MASK if key.secret else toml_value(value)
    inner = key.kind.type if from_text and isinstance(key.kind, inspect.Metadata) else key.kind
    if from_text and isinstance(inner, inspect.VarTupleType):
        value = [part.strip() for part in str(value).split(",") if part.strip()]
    try:
        return cast(object, msgspec.convert(value, cast(type, key.declared), strict=not from_text))
    except msgspec.ValidationError:
        raise BadValueError(key.name, shown, f"expected {key.expected}", origin.text) from None


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


def prepare_data_dir(path: Path, *, owner: Callable[[], int] = os.geteuid) -> Path:
    """Make the data directory, readable by its owner alone, and see that it can be written.

    A directory that exists is closed to others if it is empty or a node's, and else left as it
    is: it may be a home directory. Raises BadDataDirectoryError.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        names = {entry.name for entry in path.iterdir()}
        if status.st_uid == owner() and (not names or names.intersection(OWN_NAMES)):
            path.chmod(0o700)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError:
        raise BadDataDirectoryError(path, "is a file, expected a directory") from None
    except OSError as error:
        raise BadDataDirectoryError(path, f"cannot be written: {error.strerror}") from None
    return path


def write_file(path: Path, *, force: bool = False) -> None:
    """Write the commented settings file, mode 0600; replace one that exists only if `force`.

    Raises BadFileError.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(commented_file())
    except FileExistsError:
        problem = "exists; --force replaces it" if path.exists() else "its directory is a file"
        raise BadFileError(path, problem) from None
    except OSError as error:
        raise BadFileError(path, f"cannot be written: {error.strerror}") from None
