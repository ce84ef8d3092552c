"""A command that spends unlocks the wallet for itself alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.spend_command import LOCKED, SpendCommand


class Node:
    """Answers as a node with a wallet without a passphrase that is unlocked for some."""

    def __init__(self) -> None:
        self.holders: set[object] = set()
        self.sent = 0

    def call_with(self, method: str, params: Mapping[str, Any], **_: object) -> Any:
        return self.call(method, **params)

    def call(self, method: str, **params: object) -> Any:
        if method == "wallet.unlock":
            self.holders.add(params["holder"])
        elif method == "wallet.lock":
            self.holders.remove(params["holder"])
        elif method == "wallet.send":
            if not self.holders:
                raise CommandFailedError("the wallet is locked", LOCKED)
            # meanwhile another command, which began before, locks it again
            self.holders.discard("other")
            if not self.holders:
                raise CommandFailedError("the wallet is locked", LOCKED)
            self.sent += 1
        return {"open": True, "watch_only": False, "has_passphrase": False}


def test_it_locks_what_it_has_unlocked() -> None:
    node = Node()
    for _ in range(2):
        SpendCommand(node, "default", None, None).call("wallet.send")  # type: ignore[arg-type]
    assert (node.holders, node.sent) == (set(), 2)
    node.holders.add("other")
    SpendCommand(node, "default", None, None).call("wallet.send")  # type: ignore[arg-type]
    assert (node.holders, node.sent) == (set(), 3)
