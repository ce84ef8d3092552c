"""In which order the help of `wallet` lists its commands, and under which titles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

WALLET_SECTIONS: Final[Mapping[str, Sequence[str]]] = {
    "Wallets and keys": (
        "create",
        "restore",
        "list",
        "info",
        "open",
        "close",
        "unlock",
        "lock",
        "change-passphrase",
        "mnemonic",
        "rename",
        "delete",
        "page",
    ),
    "Receive": (
        "address",
        "paycode",
        "invoice",
        "invoices",
        "get-invoice",
        "cancel-invoice",
    ),
    "Look": (
        "balance",
        "history",
        "mined",
        "transfer",
        "coins",
        "history-since",
        "rescan",
    ),
    "Pay": (
        "send",
        "bump-fee",
        "abandon",
        "sweep",
        "consolidate",
        "freeze",
    ),
    "Names": ("payee", "label", "accounts", "add-account", "name-account"),
    "Sign elsewhere": (
        "prepare",
        "describe",
        "sign",
        "merge",
        "broadcast",
        "export-watch",
        "import-watch",
    ),
    "Contracts": ("contracts", "contract", "multisig", "htlc"),
    "Prove": ("receipt", "sign-message", "prove-reserve"),
    "Back up": ("backup", "restore-backup"),
}
"""Each command stands once; one that is named nowhere stands at the end, under Others."""
