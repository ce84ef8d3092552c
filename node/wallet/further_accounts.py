"""Which accounts of a wallet there are: those that it was made with, and of a restored one those
that coins have come to since (a gap of some accounts without any ends the search).

What is found is kept beside the coins, and found again where that is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from unchained.node.wallet.keystore import Keystore
from unchained.node.wallet.wallet_file import WatchKeys
from unchained.node.wallet.wallet_store import WalletStore

ACCOUNT_GAP: Final = 5
"""Accounts beyond the last one with coins that are looked at, at least."""

_FOUND: Final = "account found"
_WATCHED: Final = "account watched"


class FurtherAccounts:
    """The accounts of one wallet, as far as its store knows."""

    def __init__(self, keystore: Keystore, store: WalletStore) -> None:
        self._keystore = keystore
        self._store = store

    def shown(self) -> tuple[WatchKeys, ...]:
        """Return the accounts that the wallet has, by index."""
        last = self._last()
        return (*self._keystore.accounts, *self._further(last))

    def watched(self) -> tuple[WatchKeys, ...]:
        """Return those and the ones whose coins are looked for, by index."""
        return (*self._keystore.accounts, *self._further(self._window()))

    def found(self) -> tuple[int, ...]:
        """Return those that the wallet was not made with, but has."""
        return tuple(keys.index for keys in self._further(self._last()))

    def note(self, touched: Sequence[bytes]) -> bool:
        """Take note of coins that have come; return whether accounts have to be read anew, since
        more are watched from here on.

        Whether there are more accounts afterwards, `found` says.
        """
        if not self._keystore.further:
            return False
        last, window = self._last(), self._window()
        highest = max([last, *self._accounts_of(touched)])
        if highest == last:
            return False
        self._store.put_number(_FOUND, highest)
        if window - highest >= ACCOUNT_GAP or window >= self._keystore.further[-1].index:
            return False
        # twice the gap at a time: each step reads the chain again
        self._store.put_number(_WATCHED, highest + 2 * ACCOUNT_GAP)
        return True

    def _further(self, last: int) -> tuple[WatchKeys, ...]:
        return tuple(keys for keys in self._keystore.further if keys.index <= last)

    def _last(self) -> int:
        made = self._keystore.accounts[-1].index
        return max(made, self._store.number(_FOUND) or 0)

    def _window(self) -> int:
        made = self._keystore.accounts[-1].index
        return max(made + 2 * ACCOUNT_GAP, self._store.number(_WATCHED) or 0)

    def _accounts_of(self, coin_ids: Sequence[bytes]) -> list[int]:
        found: set[int] = set()
        for start in range(0, len(coin_ids), 500):
            share = coin_ids[start : start + 500]
            marks = ", ".join("?" * len(share))
            rows = self._store.rows(
                f"SELECT DISTINCT account FROM coins WHERE coin_id IN ({marks})",  # noqa: S608
                *share,
            )
            found.update(account for (account,) in rows)
        return sorted(found)
