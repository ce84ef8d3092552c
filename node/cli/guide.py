"""What whoever has started a node wants to know next: where to ask it, where the coins are."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from unchained.node.base.settings import Settings
from unchained.node.base.terminal_text import COMMAND
from unchained.node.rpc.core.credential_files import URL_FILE

PROGRAM: Final = "unchained-node"

PLACE_FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {"node.network": "--network", "node.data_dir": "--data-dir"}
)
"""Settings that lead to a node's files, and their flags."""

_QUOTED: Final = re.compile(r"""'[^']*'|"[^"]*["]""")
_WITHOUT_PLACE: Final = frozenset({"config password"})
"""Commands that have no such flags."""


def program() -> str:
    """Return what to type for this program: as it was called, where a shell would not find it by
    its name."""
    return PROGRAM if shutil.which(PROGRAM) else shlex.quote(sys.argv[0])


def hint(text: str, place: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return a text with commands such that they can be typed: `unchained-node …` in backticks.
    `place`: the flags that lead where the user is at work, with their values."""

    def typed(found: re.Match[str]) -> str:
        name, _, said = found[1].partition(" ")
        return f"`{_typed(said, place)}`" if name == PROGRAM and said else found[0]

    return COMMAND.sub(typed, text)


def _typed(said: str, place: Mapping[str, str]) -> str:
    """Return what to type for a command of this program, with those flags that it lacks."""
    flags = {} if said in _WITHOUT_PLACE else place
    has = {word.partition("=")[0] for word in _QUOTED.sub("", said).split()}
    given = (f" {flag} {shlex.quote(flags[flag])}" for flag in flags if flag not in has)
    return f"{program()} {said}{''.join(given)}"


def place_in(given: Mapping[str, str]) -> dict[str, str]:
    """Return the options that lead to a node's files, of those that a command was given."""
    return {flag: given[flag] for flag in PLACE_FLAGS.values() if flag in given}


def place_of(settings: Settings) -> dict[str, str]:
    """Return the flags that lead to the files of these settings, with their values."""
    return {
        flag: str(settings.value(key))
        for key, flag in PLACE_FLAGS.items()
        if settings.origins[key].text != "default" and settings.value(key)
    }


class Guide:
    """What whoever has started a node wants to know next. `payee` is filled in while the node is
    made, `rpc` once it has started."""

    def __init__(self, settings: Settings) -> None:
        self.payee = ""
        self.rpc = ""
        self._settings = settings
        self.next = self.command("status")
        """What to type in another terminal."""

    def look(self) -> None:
        """Find where the node is asked."""
        if self._settings.config.rpc.enabled:
            with suppress(OSError):
                self.rpc = (self._settings.data_dir / URL_FILE).read_text().strip()

    def facts(self) -> dict[str, str]:
        """Return what the log says of it all."""
        found = {"rpc": self.rpc, "coins_to": self.payee, "next": self.next if self.rpc else ""}
        return {name: text for name, text in found.items() if text}

    def command(self, name: str) -> str:
        """Return what to type for a command that is to find this node."""
        return _typed(name, place_of(self._settings))
