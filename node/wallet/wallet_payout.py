"""Whom the coins pay that are mined to a wallet."""

from __future__ import annotations

from unchained.node.crypto.accounts import WatchAccount
from unchained.node.primitives.types import CoinId, Lock


class WalletPayout:
    """Decides whom a coin pays: an account, under a lock of its own for each time."""

    __slots__ = ("_account",)

    def __init__(self, account: WatchAccount) -> None:
        self._account = account

    def lock_for(self, parent: CoinId, time_ms: int) -> Lock:
        """Return the lock of a coin with this parent and header time (Protocol §9)."""
        return self._account.mining_lock(parent, time_ms)
