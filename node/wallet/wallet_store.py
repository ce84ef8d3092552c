"""What a wallet knows: its coins, transfers, labels, and how far it has read the chain.

One SQLite file with a write-ahead log, every change in a transaction that is on disk before it
is reported: a crash at any instant leaves the state before or after. All of it but labels,
payees and contracts can be found again from the chain. Methods block, and may be called from any
thread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Lock, Txid, Wid
from unchained.node.wallet.chain_records import ChainRecords
from unchained.node.wallet.errors import NoSuchCoinError, NoSuchTransferError
from unchained.node.wallet.recogniser import TransferFinds
from unchained.node.wallet.records import (
    Balance,
    Origin,
    Outgoing,
    OutgoingNote,
    OutgoingState,
    WalletCoin,
    WalletStoreStatistics,
)
from unchained.node.wallet.stored_values import told_as_damage
from unchained.node.wallet.tables import ACTIVE, FROZEN, LEAVING

COLUMNS: Final = (
    "coin_id, account, origin, value, lock, txid, idx, height, time_ms, spent_height, spent_by, "
    f"{FROZEN}, {LEAVING}, secret"
)

SETTLED_ANCHORS: Final = 16
"""Anchors above one after which what it spends is taken for spent: W of the networks (Protocol
§10), by when all votes for it are listed. One that is undone could let a transfer be sent again
that no limit counts any more."""

_outgoing_note = msgspec.msgpack.Decoder(OutgoingNote)
_salt_tag_memo = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes])


class WalletStore(ChainRecords):
    """What one wallet knows. Raises `StoreDamagedError` from every method for a file that cannot be
    read."""

    # Coins

    def balance(self, account: int | None, mature_below: int) -> Balance:
        """Return what there is; coins minted at `mature_below` or above cannot be spent yet."""
        which, arguments = _of(account)
        here = f"{which} AND spent_height IS NULL AND height IS NOT NULL"
        young = "origin = 0 AND height >= ?"

        def total(condition: str, *more: object, index: str = "") -> int:
            sql = f"SELECT sum(value) FROM coins {index} WHERE {here} AND {condition}"  # noqa: S608
            return self.rows(sql, *arguments, *more)[0][0] or 0

        # the first reads nothing but an index; all others look at few coins
        everything = total("1")
        leaving = total(LEAVING)
        immature = total(
            f"{young} AND NOT {LEAVING}", mature_below, index="INDEXED BY coins_height"
        )
        frozen = total(f"NOT ({young}) AND {FROZEN} AND NOT {LEAVING}", mature_below)
        confirmed = everything - leaving - immature
        pending = self.rows(
            f"""SELECT coalesce(sum(value), 0) FROM coins
                WHERE {which} AND height IS NULL AND spent_height IS NULL
                AND NOT {LEAVING} AND {ACTIVE.format(txid="coins.txid")}""",  # noqa: S608
            *arguments,
        )[0][0]
        return Balance(confirmed, frozen, immature, leaving, pending)

    def coins(
        self,
        account: int | None = None,
        *,
        spent: bool = False,
        limit: int = 1_000,
        offset: int = 0,
    ) -> list[WalletCoin]:
        """Return coins, the latest first: the unspent, or with `spent` all of them."""
        which, arguments = _of(account, contracts=True)
        there = f"(height IS NOT NULL OR {ACTIVE.format(txid='coins.txid')})"
        unspent = there if spent else f"spent_height IS NULL AND {there}"
        rows = self.rows(
            f"""SELECT {COLUMNS} FROM coins WHERE {which} AND {unspent}
                ORDER BY height IS NULL DESC, height DESC, coin_id LIMIT ? OFFSET ?""",  # noqa: S608
            *arguments,
            limit,
            offset,
        )
        return [self._coin(row) for row in rows]

    def coin(self, coin_id: bytes) -> WalletCoin:
        """Return one coin. Raises `NoSuchCoinError`."""
        return self.coins_by_id([coin_id])[0]

    def coins_by_id(self, coin_ids: Sequence[bytes]) -> list[WalletCoin]:
        """Return coins in the order of their ids. Raises `NoSuchCoinError`."""
        found = self.known_coins(coin_ids)
        for coin_id in coin_ids:
            if coin_id not in found:
                raise NoSuchCoinError(f"the wallet has no coin {coin_id.hex()}")
        return [found[coin_id] for coin_id in coin_ids]

    def known_coins(self, coin_ids: Sequence[bytes]) -> dict[bytes, WalletCoin]:
        """Return those of some coins that the wallet has, by id."""
        found: dict[bytes, WalletCoin] = {}
        for start in range(0, len(coin_ids), 500):
            share = coin_ids[start : start + 500]
            marks = ", ".join("?" * len(share))
            rows = self.rows(
                f"SELECT {COLUMNS} FROM coins WHERE coin_id IN ({marks})",  # noqa: S608
                *share,
            )
            found.update((row[0], self._coin(row)) for row in rows)
        return found

    def first_known(self, coin_ids: Sequence[bytes]) -> bytes | None:
        """Return the first of some coins that the wallet has, None if it has none."""
        return next((coin_id for coin_id in coin_ids if self._knows(coin_id)), None)

    def left_ms(self, txid: bytes, coin_id: bytes) -> int | None:
        """Return when a transfer took a coin out of the wallet, by its anchor's time; 0 where
        something else has spent the coin, None while neither is so `SETTLED_ANCHORS` deep."""
        last = self.last_anchor()
        spent = self.rows(
            """SELECT spent_by = ?1, time_ms FROM
               (SELECT spent_by FROM coins WHERE coin_id = ?2 AND spent_height <= ?3)
               LEFT JOIN transfers ON transfers.txid = spent_by""",
            txid,
            coin_id,
            -1 if last is None else last[0] - SETTLED_ANCHORS,
        )
        if not spent:
            return None
        is_it, time_ms = spent[0]
        found: int | None = time_ms if is_it else 0
        return found

    def coins_at(self, lock: bytes) -> list[WalletCoin]:
        """Return the coins under one lock, by height."""
        rows = self.rows(
            f"SELECT {COLUMNS} FROM coins WHERE lock = ? ORDER BY height",  # noqa: S608
            lock,
        )
        return [self._coin(row) for row in rows]

    def coins_of(self, txid: bytes) -> tuple[list[WalletCoin], list[WalletCoin]]:
        """Return the coins that a transfer brings to the wallet, and those that it spends."""
        brought = self.rows(f"SELECT {COLUMNS} FROM coins WHERE txid = ? ORDER BY idx", txid)  # noqa: S608
        spent = self.rows(
            f"""SELECT {COLUMNS} FROM coins WHERE spent_by = ? AND spent_height IS NOT NULL
                OR coin_id IN (SELECT coin_id FROM uses WHERE uses.txid = ?)
                ORDER BY coin_id""",  # noqa: S608
            txid,
            txid,
        )
        return [self._coin(row) for row in brought], [self._coin(row) for row in spent]

    def _coin(self, row: Any) -> WalletCoin:
        coin_id = row[0]
        salt, tag, memo = self.sealer.unseal(row[13], coin_id, _salt_tag_memo)
        return WalletCoin(
            CoinId(coin_id),
            row[1],
            Origin(row[2]),
            row[3],
            Lock(row[4]),
            row[5],
            row[6],
            row[7],
            row[8],
            row[9],
            row[10],
            bool(row[11]),
            bool(row[12]),
            salt,
            tag,
            memo,
        )

    def reserves(self, below: int, most: int) -> list[WalletCoin]:
        """Return the largest unspent coins of the accounts that anchors below a height include,
        but for those that a waiting transfer spends."""
        rows = self.rows(
            f"""SELECT {COLUMNS} FROM coins WHERE account >= 0 AND spent_height IS NULL
                AND height < ? AND NOT {LEAVING} ORDER BY value DESC, coin_id LIMIT ?""",  # noqa: S608
            below,
            most,
        )
        return [self._coin(row) for row in rows]

    def spendable(
        self,
        account: int,
        mature_below: int,
        *,
        most: int,
        above: int = 0,
        at_most: int | None = None,
        smallest: bool = False,
    ) -> list[tuple[CoinId, int]]:
        """Return ids and values of coins that can be spent: up to `most`, the largest first.

        Only those worth more than `above` grains; `at_most` leaves out larger ones; `smallest`
        gives the smallest first instead.
        """
        bound = "" if at_most is None else "AND value <= ?"
        return self.rows(
            f"""SELECT coin_id, value FROM coins
                WHERE account = ? AND spent_height IS NULL AND height IS NOT NULL
                AND value > ? {bound}
                AND NOT (origin = 0 AND height >= ?) AND NOT {FROZEN} AND NOT {LEAVING}
                ORDER BY value {"ASC" if smallest else "DESC"} LIMIT ?""",  # noqa: S608
            account,
            above,
            *(() if at_most is None else (at_most,)),
            mature_below,
            most,
        )

    def own_change(self, account: int, without: Collection[bytes] = ()) -> list[tuple[CoinId, int]]:
        """Return ids and values of coins that waiting transfers of the wallet itself bring, those
        of the txids `without` apart."""
        marks = ", ".join("?" * len(without))
        return self.rows(
            f"""SELECT coin_id, value FROM coins JOIN outgoing USING (txid)
                WHERE coins.account = ? AND coins.height IS NULL AND spent_height IS NULL
                AND outgoing.height IS NULL AND outgoing.state = 0
                AND coins.txid NOT IN ({marks})
                AND NOT {FROZEN} AND NOT {LEAVING} ORDER BY value DESC LIMIT 25""",  # noqa: S608
            account,
            *without,
        )

    def freeze(self, coin_id: bytes, *, frozen: bool) -> None:
        """Keep a coin back from being chosen, or free it again. Raises `NoSuchCoinError`."""
        self.coin(coin_id)
        if frozen:
            self.run("INSERT OR IGNORE INTO frozen VALUES (?)", coin_id)
        else:
            self.run("DELETE FROM frozen WHERE coin_id = ?", coin_id)

    # Transfers of the wallet

    def put_outgoing(
        self,
        sized: SizedTransfer,
        note: OutgoingNote,
        finds: TransferFinds,
        created_ms: int,
        *,
        replaces: bytes = b"",
    ) -> Outgoing:
        """Note a transfer before it is sent, with what it brings back; return it."""
        self.note_spent(sized.txid, sized.transfer)
        with self.transaction():
            self.put_coins(finds.found)
            self.put_transfer(finds, created_ms)
            self.run(
                "INSERT OR REPLACE INTO outgoing VALUES (?, ?, ?, ?, NULL, 0, ?, ?)",
                sized.txid,
                sized.wid,
                sized.raw,
                created_ms,
                replaces,
                self.sealer.seal(note, sized.txid),
            )
            self.run_many(
                "INSERT OR IGNORE INTO uses VALUES (?, ?)",
                ((spent.coin_id, sized.txid) for spent in sized.transfer.inputs),
            )
            if replaces:
                self.run(
                    "UPDATE outgoing SET state = ? WHERE txid = ?", OutgoingState.REPLACED, replaces
                )
        waiting = OutgoingState.WAITING
        return Outgoing.of(sized, created_ms, None, waiting, replaces, note)

    @told_as_damage()
    def forget_outgoing(self, txid: bytes) -> None:
        """Undo `put_outgoing` for a transfer that was never sent."""
        with self.transaction():
            for (replaced,) in self.rows("SELECT replaces FROM outgoing WHERE txid = ?", txid):
                self.run("UPDATE outgoing SET state = 0 WHERE txid = ? AND state = 2", replaced)
            self.run("DELETE FROM outgoing WHERE txid = ?", txid)
            self.run("DELETE FROM requests WHERE txid = ?", txid)
            self.settle()

    def abandon(self, txid: bytes) -> None:
        """Free the coins of a transfer that is not on the chain. Raises `NoSuchTransferError`."""
        changed = self.run(
            "UPDATE outgoing SET state = 1 WHERE txid = ? AND height IS NULL AND state = 0", txid
        )
        if not changed:
            raise NoSuchTransferError(f"no waiting transfer {txid.hex()} was made by this wallet")

    def expected(self) -> set[Txid]:
        """Return the txids of `waiting_outgoing`."""
        return {
            Txid(txid)
            for (txid,) in self.rows("SELECT txid FROM outgoing WHERE height IS NULL AND state = 0")
        }

    def outgoing(self, txid: bytes) -> Outgoing:
        """Return a transfer that the wallet made. Raises `NoSuchTransferError`."""
        found = self.outgoing_or_none(txid)
        if found is None:
            raise NoSuchTransferError(f"no transfer {txid.hex()} was made by this wallet")
        return found

    def waiting_outgoing(self) -> list[Outgoing]:
        """Return the transfers that the wallet made and still expects on the chain, by time."""
        return self._outgoing_where("height IS NULL AND state = 0")

    def all_outgoing(self) -> list[Outgoing]:
        """Return all transfers that the wallet made, by time."""
        return self._outgoing_where("1")

    def put_states(self, made: Sequence[Outgoing]) -> None:
        """Let transfers of the wallet stand as they did when they were read."""
        with self.transaction():
            self.run_many(
                "UPDATE outgoing SET state = ? WHERE txid = ?",
                ((int(known.state), known.txid) for known in made),
            )

    @told_as_damage()
    def unheard(self) -> list[Outgoing]:
        """Return those of `waiting_outgoing` that the mempool does not have."""
        return self._outgoing_where(
            "height IS NULL AND state = 0 AND txid NOT IN (SELECT txid FROM waiting)"
        )

    def _outgoing_where(self, where: str, *arguments: object) -> list[Outgoing]:
        rows = self.rows(
            f"""SELECT txid, wid, raw, created_ms, height, state, replaces, secret
                FROM outgoing WHERE {where} ORDER BY created_ms, txid""",  # noqa: S608
            *arguments,
        )
        return [self._outgoing(row) for row in rows]

    def _outgoing(self, row: Any) -> Outgoing:
        sized = SizedTransfer.from_bytes(row[2], Wid(row[1]))
        note = self.sealer.unseal(row[7], row[0], _outgoing_note)
        return Outgoing.of(sized, row[3], row[4], OutgoingState(row[5]), row[6], note)

    def outgoing_or_none(self, txid: bytes) -> Outgoing | None:
        """Return a transfer if the wallet made it."""
        found = self._outgoing_where("txid = ?", txid)
        return found[0] if found else None

    def memos_and_tags(self, txid: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return what a transfer's payer wrote to the wallet, and the tags of the paycodes that he
        paid, in the order of its outputs."""
        rows = self.rows(f"SELECT {COLUMNS} FROM coins WHERE txid = ? ORDER BY idx", txid)  # noqa: S608
        coins = [self._coin(row) for row in rows]
        return (
            tuple(coin.memo for coin in coins if coin.memo),
            tuple(dict.fromkeys(coin.tag for coin in coins if any(coin.tag))),
        )

    def statistics(self) -> WalletStoreStatistics:
        """Return a snapshot of the counters."""
        coins, unspent = self.rows("SELECT count(*), count(*) - count(spent_height) FROM coins")[0]
        (outgoing,) = self.rows("SELECT count(*) FROM outgoing")[0]
        return WalletStoreStatistics(coins, unspent, outgoing, self.transactions)


def _of(account: int | None, *, contracts: bool = False) -> tuple[str, tuple[int, ...]]:
    if account is not None:
        return "account = ?", (account,)
    return ("1" if contracts else "account >= 0"), ()
