"""A token that may spend everything and is never revoked."""

from __future__ import annotations

import trio

from unchained.node.rpc.core.registry import Scope
from unchained.node.rpc.core.rights import WalletRights
from unchained.node.wallet.spending import SignedTransfers


class EndlessToken:
    """What stands behind the rights of such a token."""

    def settle(self, signed: SignedTransfers) -> None:
        """Count nothing."""

    def reserve(
        self, txid: bytes, amount: int, replaced: bytes = b"", coin_id: bytes = b""
    ) -> bool:
        """Count nothing."""
        return True

    def check(self, amount: int) -> None:
        """Allow it."""

    def release(self, txid: bytes) -> None:
        """Count nothing."""

    def stands(self) -> bool:
        """Return True."""
        return True

    async def wait_revoked(self) -> None:
        """Never return."""
        await trio.sleep_forever()


def endless_rights(wallet: str, *scopes: Scope) -> WalletRights:
    """Return rights to a wallet that have no limit and no end."""
    token = EndlessToken()
    return WalletRights(wallet, frozenset(scopes), token, token)
