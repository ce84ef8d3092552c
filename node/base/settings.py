"""Settings of a node: one frozen value from defaults, a TOML file, the environment and flags.

Each later source overrides the earlier ones. Whatever is wrong with a setting is a `ConfigError`
of one line.
"""

from __future__ import annotations

import difflib
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

import msgspec
from msgspec import inspect

from unchained.node.base.config import (
    ENV_PREFIX,
    Config,
    Key,
    NodeConfig,
    commented_file,
    declared_keys,
    section_titles,
    toml_value,
)
from unchained.node.base.near_names import did_you_mean

FILE_NAME = "config.toml"
LOG_NAME = "node.log"
ENV_FILE = "UNCHAINED_CONFIG"
MASK = "***"
OWN_NAMES = (FILE_NAME, LOG_NAME, "db")
"""A directory that holds one of these is a node's data directory."""


SETTINGS_FILE_BYTES_MAX: Final = 1 << 20
"""Bytes of a settings file that is read."""


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
        hint = f'nearest known: "{nearest}"' if nearest else "`config show` lists all"
        super().__init__(key, f'unknown setting "{key}" ({origin}); {hint}')
        self.nearest = nearest


class BadValueError(ConfigError):
    """A setting has a value that it cannot have."""

    def __init__(self, key: str, shown: str, problem: str, origin: str) -> None:
        super().__init__(key, f"{key} = {shown} ({origin}): {problem}")


class BadFileError(ConfigError):
    """A file of settings cannot be read."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__("", f"{path}: {problem}")


class NoHomeError(ConfigError):
    """There is no home directory for the data directory to lie in."""

    def __init__(self) -> None:
        super().__init__(
            "node.data_dir",
            "this account has no home directory: name a data directory by --data-dir",
        )


class BadDataDirectoryError(ConfigError):
    """The data directory cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__("node.data_dir", f"data directory {path}: {problem}")


LIKENESS_MIN: Final = 0.5
"""How like a known key, or its last part, a name is at least that may be meant for it."""


def nearest_key(name: str, known: list[str]) -> str:
    """Return the known key that is most like the name, empty where none is like it."""

    def likeness(candidate: str) -> tuple[float, ...]:
        pairs = ((name, candidate), (name.rpartition(".")[2], candidate.rpartition(".")[2]))
        return tuple(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    # The last part counts twice: a key in the wrong section is the commonest mistake.
    found = max(known, key=lambda candidate: sum(likeness(candidate)))
    return found if max(likeness(found)) >= LIKENESS_MIN else ""


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
    home: Path | None,
    file: Path | None = None,
    read_file: bool = True,
) -> Settings:
    """Return the settings from all sources.

    `flags` maps ``section.key`` to the flag's name and value, where the flag was given. `file` is
    the one that the user named; else `UNCHAINED_CONFIG`, else `config.toml` in the data directory
    that flags and environment lead to, if it exists. Without `read_file` only its path is found
    out. `home` is None where the user has none. Raises ConfigError.
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


def _data_dir(values: Mapping[str, tuple[object, SettingOrigin]], home: Path | None) -> Path:
    chosen = str(values.get("node.data_dir", ("", None))[0])
    if chosen:
        return Path(chosen).expanduser().absolute()
    if home is None:
        raise NoHomeError
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
        with path.open("rb") as file:
            raw = file.read(SETTINGS_FILE_BYTES_MAX + 1)
        if len(raw) > SETTINGS_FILE_BYTES_MAX:
            raise BadFileError(path, f"is longer than {SETTINGS_FILE_BYTES_MAX} bytes")
        text = raw.decode()
        document = tomllib.loads(text)
    except FileNotFoundError:
        raise BadFileError(path, "no such file") from None
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadFileError(path, "is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BadFileError(path, f"is not valid TOML: {error}") from None
    except RecursionError:
        raise BadFileError(path, "is not valid TOML: its brackets are nested too deep") from None
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
    """Return the line, from 1, on which a section or key is set; TOML's parser does not say."""
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
        words = _words_of(key.kind)
        hint = next(filter(None, (did_you_mean(text, words) for text in _texts(value, words))), "")
        expected = f"expected {key.expected}" + (f"; {hint}" if hint else "")
        raise BadValueError(key.name, shown, expected, origin.text) from None


def _words_of(kind: inspect.Type) -> Sequence[str]:
    """Return the words that a value of a type, or each of its values, may be."""
    match kind:
        case inspect.Metadata():
            return _words_of(kind.type)
        case inspect.LiteralType():
            return [str(word) for word in kind.values]
        case inspect.VarTupleType():
            return _words_of(kind.item_type)
        case inspect.UnionType():
            return [word for option in kind.types for word in _words_of(option)]
        case _:
            return ()


def _texts(value: object, words: Sequence[str]) -> list[str]:
    """Return the texts in a value that are none of the words."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text not in words]


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
        what = "written" if path.exists() else "made"
        raise BadDataDirectoryError(path, f"cannot be {what}: {error.strerror}") from None
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
