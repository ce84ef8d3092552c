"""What whoever has started a node wants to know next: where to ask it, where the coins are."""

from __future__ import annotations

import shlex
import shutil
import sys
from contextlib import suppress
from typing import Final

from unchained.node.base.settings import Settings
from unchained.node.rpc.core.credential_files import URL_FILE

PROGRAM: Final = "unchained-node"


def program() -> str:
    """Return what to type for this program: as it was called, where a shell would not find it by
    its name."""
    return PROGRAM if shutil.which(PROGRAM) else shlex.quote(sys.argv[0])


def hint(text: str) -> str:
    """Return a text with commands such that they can be typed: `unchained-node …` in backticks."""
    return text.replace(f"`{PROGRAM} ", f"`{program()} ")


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
        flags = ""
        for key, flag in (("node.network", "--network"), ("node.data_dir", "--data-dir")):
            if self._settings.origins[key].text != "default" and self._settings.value(key):
                flags += f" {flag} {shlex.quote(str(self._settings.value(key)))}"
        return f"{program()} {name}{flags}"
