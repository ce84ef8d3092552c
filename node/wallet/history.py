"""What came and went: one entry for each minted coin and each transfer that touched a wallet."""

from __future__ import annotations

from typing import Final

from unchained.node.wallet.records import HistoryEntry
from unchained.node.wallet.tables import ACTIVE
from unchained.node.wallet.wallet_store import WalletStore

_HISTORY: Final = f"""
SELECT key, max(minted), max(height), max(time_ms), sum(received), sum(sent) FROM (
    SELECT coin_id AS key, 1 AS minted, height, time_ms, value AS received, 0 AS sent
        FROM coins WHERE origin = 0 AND height IS NOT NULL
    UNION ALL
    SELECT txid, 0, height, time_ms, value, 0 FROM coins
        WHERE origin IN (1, 2) AND (height IS NOT NULL OR {ACTIVE.format(txid="coins.txid")})
    UNION ALL
    SELECT spent_by, 0, spent_height, 0, 0, value FROM coins
        WHERE spent_height IS NOT NULL AND account >= 0
    UNION ALL
    SELECT uses.txid, 0, NULL, 0, 0, coins.value FROM uses JOIN coins USING (coin_id)
        WHERE coins.spent_height IS NULL AND coins.account >= 0
          AND {ACTIVE.format(txid="uses.txid")}
) GROUP BY key ORDER BY max(height) IS NULL DESC, max(height) DESC, key LIMIT ? OFFSET ?
"""  # noqa: S608 - made of constants


def read_history(store: WalletStore, limit: int, offset: int) -> list[HistoryEntry]:
    """Return a page of what touched the wallet, what waits first, then from the tip down."""
    entries = []
    for key, minted, height, time_ms, received, sent in store.rows(_HISTORY, limit, offset):
        made = None if minted else store.outgoing_or_none(key)
        entries.append(
            HistoryEntry(
                key,
                bool(minted),
                height,
                time_ms or (0 if made is None else made.created_ms),
                received,
                sent,
                None if made is None else made.fee,
                store.label("coin" if minted else "transfer", key),
                () if made is None else made.payees,
                () if minted else store.memos(key),
            )
        )
    return entries
