"""What a wallet knows from the chain: its coins, what spends them, and what waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from unchained.node.primitives.transfer import Transfer
from unchained.node.wallet.recogniser import FoundCoin, TransferFinds
from unchained.node.wallet.stored_values import told_as_damage
from unchained.node.wallet.tables import SETTLE
from unchained.node.wallet.user_records import UserRecords

# What a minted coin is worth depends on the chain that includes it.
_UPSERT: Final = """
INSERT INTO coins (
    coin_id, account, origin, value, lock, txid, idx, height, time_ms, seen_ms, tag, secret
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (coin_id) DO UPDATE SET
    height = coalesce(excluded.height, height),
    value = excluded.value,
    idx = excluded.idx,
    secret = excluded.secret,
    time_ms = CASE WHEN excluded.height IS NULL THEN time_ms ELSE excluded.time_ms END
"""

_LEAST: Final = -(1 << 63)
_MOST: Final = (1 << 63) - 1

_FORGET: Final = (
    *(
        f"DELETE FROM {table}"  # noqa: S608 - names of ours
        for table in ("anchors", "coins", "uses", "waiting", "transfers", "history")
    ),
    "DELETE FROM wallet_events",
    "DELETE FROM meta WHERE name NOT IN ('network', 'owner')",
    "UPDATE outgoing SET height = NULL",
    "UPDATE invoices SET status = 0, received = 0, pending = 0, confirmed = 0",
    "DELETE FROM dirty",
    "DELETE FROM dirty_tags",
    "INSERT INTO dirty SELECT txid FROM outgoing",
    "INSERT INTO dirty_tags SELECT tag FROM invoices",
)


class ChainRecords(UserRecords):
    """The part of a wallet's file that can be found again from the chain."""

    def connect(
        self,
        anchors: Sequence[tuple[int, bytes]],
        found: Sequence[FoundCoin],
        transfers: Sequence[tuple[TransferFinds, int, int]],
        *,
        keep: int,
    ) -> list[bytes]:
        """Take in what anchors bring; return the ids of coins of the wallet that they spend.

        `transfers` are of everyone, each with height and time (ms) of its anchor; the coins that
        they bring are among the `found`. The last `keep` anchors' ids are kept.
        """
        spent: list[bytes] = []
        with self.transaction():
            self.put_coins(found)
            for finds, height, time_ms in transfers:
                ours = [coin for coin in finds.spends if self._spend(coin, finds.txid, height)]
                if ours or finds.found:
                    self.put_transfer(finds, time_ms)
                spent += ours
            self.run_many(
                "UPDATE outgoing SET height = ? WHERE txid = ?",
                ((height, finds.txid) for finds, height, _ in transfers),
            )
            self.run_many("INSERT OR REPLACE INTO anchors VALUES (?, ?)", anchors)
            if anchors:
                self.run("DELETE FROM anchors WHERE height <= ?", anchors[-1][0] - keep)
        return spent

    def read_again(
        self,
        first: int | None,
        last: int | None,
        found: Sequence[FoundCoin],
        spent: Mapping[bytes, tuple[int, bytes]],
        transfers: Sequence[tuple[TransferFinds, int, int]],
    ) -> list[bytes]:
        """Make what is known of the anchors between two heights, None for no bound, what the chain
        says, which has been read beyond them: return the ids of coins that stand otherwise.

        `found` are all coins of the wallet in them, `spent` says of each that is spent, wherever,
        at which height and by which transfer; `transfers` as `connect` has them. What is not among
        the `found` is none of the wallet's: whoever could write the file has invented it.
        """
        low, high = _LEAST if first is None else first, _MOST if last is None else last
        known = {coin.coin_id: coin for coin in found}
        with self.transaction():
            rows = self.rows(
                """SELECT coin_id, account, origin, lock, txid, tag FROM coins
                   WHERE height BETWEEN ? AND ?""",
                low,
                high,
            )
            wrong = [row[0] for row in rows if row[1:] != self._identity(known.get(row[0]))]
            for coin_id in wrong:
                if coin_id in known:
                    self.run("DELETE FROM coins WHERE coin_id = ?", coin_id)
                else:
                    self._forget_coin(coin_id)
            included = {finds.txid for finds, _, _ in transfers}
            self.run_many(
                "UPDATE outgoing SET height = NULL WHERE txid = ?",
                [
                    (txid,)
                    for (txid,) in self.rows(
                        "SELECT txid FROM outgoing WHERE height BETWEEN ? AND ?", low, high
                    )
                    if txid not in included
                ],
            )
            changed = wrong + self.connect((), found, transfers, keep=0)
            for coin_id in known:
                height, txid = spent.get(coin_id, (None, b""))
                changed += [coin_id] * self.run(
                    """UPDATE coins SET spent_height = ?1, spent_by = ?2 WHERE coin_id = ?3
                       AND (spent_height IS NOT ?1 OR spent_by != ?2)""",
                    height,
                    txid,
                    coin_id,
                )
        return changed

    def _identity(self, coin: FoundCoin | None) -> tuple[object, ...] | None:
        """Return what of a coin no chain changes, as the columns have it."""
        if coin is None:
            return None
        tag = self.sealer.pseudonym(coin.tag)
        return coin.account, int(coin.origin), coin.lock, coin.txid, tag

    def _forget_coin(self, coin_id: bytes) -> None:
        # Of what a transfer of the wallet spends it is remembered that the chain has it not.
        self.run(
            """DELETE FROM coins WHERE coin_id = ?
               AND coin_id NOT IN (SELECT coin_id FROM uses)""",
            coin_id,
        )
        self.run(
            """UPDATE coins SET height = NULL, spent_height = NULL, spent_by = x''
               WHERE coin_id = ?""",
            coin_id,
        )

    def work_out_invoices(self) -> None:
        """Mark all invoices: how they stand is worked out anew."""
        self.run("INSERT INTO dirty_tags SELECT tag FROM invoices")

    def first_height(self) -> int | None:
        """Return the height of the first coin that came, or transfer that was sent; None where the
        chain has neither."""
        rows = self.rows(
            """SELECT min(height) FROM (SELECT min(height) AS height FROM coins
               UNION ALL SELECT min(height) FROM outgoing)"""
        )
        found: int | None = rows[0][0]
        return found

    def forget_chain(self) -> None:
        """Forget what the chain can tell, the log of it included, and keep what the user did: what
        transfers of the wallet spend is theirs to say."""
        with self.transaction():
            for change in _FORGET:
                self.run(change)
            for txid, raw in self.rows("SELECT txid, raw FROM outgoing"):
                self.run_many(
                    "INSERT OR IGNORE INTO uses VALUES (?, ?)",
                    [(spent.coin_id, txid) for spent in Transfer.from_bytes(raw).inputs],
                )

    def put_transfer(self, finds: TransferFinds, time_ms: int) -> None:
        """Note what the history tells of a transfer that touches the wallet."""
        self.run(
            """INSERT INTO transfers VALUES (?, ?, ?, ?)
               ON CONFLICT (txid) DO UPDATE SET time_ms = excluded.time_ms""",
            finds.txid,
            time_ms,
            finds.fee,
            msgspec.msgpack.encode(finds.others()),
        )

    def put_coins(self, found: Sequence[FoundCoin]) -> None:
        """Take in coins; those that are there already get the new height, if there is one."""
        with self.transaction():
            self.run_many(
                _UPSERT,
                (
                    (
                        coin.coin_id,
                        coin.account,
                        int(coin.origin),
                        coin.value,
                        coin.lock,
                        coin.txid,
                        coin.index,
                        coin.height,
                        coin.time_ms,
                        coin.time_ms,
                        self.sealer.pseudonym(coin.tag),
                        self.sealer.seal((coin.salt, coin.tag, coin.memo), coin.coin_id),
                    )
                    for coin in found
                ),
            )

    def _spend(self, coin_id: bytes, txid: bytes, height: int) -> bool:
        return (
            self.run(
                "UPDATE coins SET spent_height = ?, spent_by = ? WHERE coin_id = ?",
                height,
                txid,
                coin_id,
            )
            > 0
        )

    def rewind(self, height: int) -> None:
        """Forget what anchors above a height brought; what they held waits again."""
        with self.transaction():
            # Of what a transfer of the wallet spends it is remembered that the chain has it not.
            self.run(
                """DELETE FROM coins WHERE height > ? AND origin = 0
                   AND coin_id NOT IN (SELECT coin_id FROM uses)""",
                height,
            )
            self.run("UPDATE coins SET height = NULL WHERE height > ?", height)
            self.run(
                "UPDATE coins SET spent_height = NULL, spent_by = x'' WHERE spent_height > ?",
                height,
            )
            self.run("UPDATE outgoing SET height = NULL WHERE height > ?", height)
            self.run("DELETE FROM anchors WHERE height > ?", height)

    def set_waiting(self, wid: bytes, finds: TransferFinds | None, time_ms: int = 0) -> bool:
        """Note that a transfer waits in the mempool since a time, with what it brings; None: it
        does not.

        Returns whether it touches the wallet.
        """
        with self.transaction():
            if finds is None:
                return self.run("DELETE FROM waiting WHERE wid = ?", wid) > 0
            ours = [coin_id for coin_id in finds.spends if self._knows(coin_id)]
            if not ours and not finds.found:
                return False
            self.put_coins(finds.found)
            self.put_transfer(finds, time_ms)
            self.run_many(
                "INSERT OR IGNORE INTO uses VALUES (?, ?)",
                ((coin_id, finds.txid) for coin_id in ours),
            )
            self.run("INSERT OR REPLACE INTO waiting VALUES (?, ?)", finds.txid, wid)
        return True

    def _knows(self, coin_id: bytes) -> bool:
        return bool(self.rows("SELECT 1 FROM coins WHERE coin_id = ?", coin_id))

    def clear_waiting(self) -> None:
        """Forget which transfers wait in the mempool: it will be read whole."""
        self.run("DELETE FROM waiting")

    def settle(self) -> None:
        """Find out which transfers of the wallet cannot come any more, or can again; forget
        coins that nothing is going to bring."""
        with self.transaction():
            # what builds on a transfer that cannot come cannot come either, and so on
            while self.run(SETTLE):
                pass
            self.run(
                """DELETE FROM uses WHERE txid NOT IN (SELECT txid FROM waiting)
                   AND txid NOT IN (SELECT txid FROM outgoing)"""
            )
            # but for what its transfers spend: as long as that is not back, they cannot come
            self.run(
                """DELETE FROM coins WHERE height IS NULL
                   AND txid NOT IN (SELECT txid FROM waiting)
                   AND txid NOT IN (SELECT txid FROM outgoing)
                   AND coin_id NOT IN (SELECT coin_id FROM uses)"""
            )

    @told_as_damage()
    def include(self, txid: bytes, height: int) -> None:
        """Note that the main chain includes a transfer of the wallet."""
        self.run("UPDATE outgoing SET height = ? WHERE txid = ?", height, txid)
