"""Commands that spend: each unlocks the wallet for itself, and locks it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from unchained.node.base.randomness import SYSTEM
from unchained.node.cli.asker import Asker, CommandFailedError
from unchained.node.cli.passphrases import with_passphrase
from unchained.node.cli.wallet import SLOW_ANSWER_S

UNLOCK_S: Final = 120.0
"""For how long a command unlocks a wallet that it then locks again."""
LOCKED: Final = "WALLET_LOCKED"
"""The node's word for a wallet that has to be unlocked first."""


class SpendCommand:
    """Calls that need an unlocked wallet: it is unlocked for them, and locked again, but for other
    commands that have unlocked it as well."""

    def __init__(
        self, node: Asker, wallet: str, passphrase_file: Path | None, descriptor: int | None
    ) -> None:
        self._node = node
        self._wallet = wallet
        self._file = passphrase_file
        self._descriptor = descriptor
        self._holder = SYSTEM.token_bytes(8).hex()

    def plan(self, method: str, asked: Mapping[str, object]) -> dict[str, Any]:
        """Return what a method would send: for that no wallet need be unlocked. Raises
        `CommandFailedError`."""
        given = {name: value for name, value in asked.items() if value is not None}
        found: dict[str, Any] = self._node.call_with(
            method, given | {"wallet": self._wallet, "dry_run": True}, seconds=SLOW_ANSWER_S
        )
        return found

    def call(self, method: str, **params: object) -> Any:
        """Return a method's result. Raises `CommandFailedError`."""
        node, wallet = self._node, self._wallet
        # Nobody is asked for a passphrase to hear then that there is another mistake.
        try:
            return node.call(method, seconds=SLOW_ANSWER_S, wallet=wallet, **params)
        except CommandFailedError as error:
            if error.word != LOCKED:
                raise

        def unlock(passphrase: str) -> None:
            unlocking = {"passphrase": passphrase, "wallet": wallet, "seconds": UNLOCK_S}
            unlocking["holder"] = self._holder
            node.call_with("wallet.unlock", unlocking, seconds=SLOW_ANSWER_S)

        with_passphrase(node, wallet, self._file, self._descriptor, unlock)
        try:
            return node.call(method, seconds=SLOW_ANSWER_S, wallet=wallet, **params)
        finally:
            node.call("wallet.lock", wallet=wallet, holder=self._holder)
