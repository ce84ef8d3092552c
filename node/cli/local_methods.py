"""Which methods are answered where no node runs: asked for before anything is imported that
answers them."""

from __future__ import annotations

from typing import Final

LOCAL_METHODS: Final = frozenset(
    {
        "wallet.add_account",
        "wallet.address",
        "wallet.backup",
        "wallet.change_passphrase",
        "wallet.check_new",
        "wallet.check_passphrase",
        "wallet.contract_add",
        "wallet.contracts",
        "wallet.create",
        "wallet.delete",
        "wallet.describe",
        "wallet.export_watch",
        "wallet.htlc_create",
        "wallet.import_watch",
        "wallet.info",
        "wallet.list",
        "wallet.lock",
        "wallet.merge",
        "wallet.mnemonic",
        "wallet.name_account",
        "wallet.payee_add",
        "wallet.payee_confirm",
        "wallet.payee_list",
        "wallet.payee_remove",
        "wallet.rename",
        "wallet.restore_backup",
        "wallet.multisig_create",
        "wallet.paycode",
        "wallet.restore",
        "wallet.sign",
        "wallet.sign_message",
        "wallet.unlock",
    }
)
"""What needs no chain."""
