"""The coin set and all that follows from the main chain, anchor by anchor (Protocol §4, §5.3).

The ledger stands at the tip. It puts down what connecting an anchor changes, as the rules have
found it (`consensus.transition`): coin set, indexes, undo data and event log, in one batch;
disconnecting takes all of that back. Nothing reaches the disk before `flush`, so several anchors
may share a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from unchained.node.consensus.mints import Mint
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.consensus.transition import Transition, created_coins
from unchained.node.crypto.lthash import Member, StateCommitment
from unchained.node.crypto.mmr import History
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore, Overlay
from unchained.storage.schema import (
    AnchorConnected,
    AnchorDisconnected,
    CoinHistory,
    Event,
    OwnedCoin,
    SpentCoin,
    StateRecord,
    TransferPlace,
    UndoRecord,
)


class Ledger:
    """The coin set at the tip, with a batch of changes that are not yet on disk.

    One owner, who calls from one thread at a time. Every method may raise a `StoreError`.
    """

    def __init__(
        self,
        store: KeyValueStore,
        *,
        commitment: StateCommitment,
        history: History,
        supply: int,
        next_event: int,
        undo_floor: int,
    ) -> None:
        self._store = store
        self.batch = Batch()
        self.view = Overlay(store, self.batch)
        """The store as it will be after the next flush."""
        self.commitment = commitment
        self.history = history
        """The history range after the tip."""
        self.supply = supply
        """Grains in the coin set."""
        self.next_event = next_event
        """Sequence number of the next event."""
        self.undo_floor = undo_floor
        """Lowest height whose state and undo data are kept."""
        self._new_events: list[Event] = []

    # Reading

    def state_root(self) -> bytes:
        """Return the state root after the tip, 32 bytes."""
        return self.commitment.root()

    def unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        """Return the coin if it is in the coin set."""
        return schema.UNSPENT.get(self.view, coin_id)

    def unspent_many(self, ids: Sequence[CoinId]) -> list[UnspentCoin | None]:
        """Return each coin if it is in the coin set, in the order of `ids`."""
        return schema.UNSPENT.get_many(self.view, ids)

    def was_spent(self, coin_id: CoinId) -> bool:
        """Tell whether the main chain created the coin and spent it."""
        found = schema.HISTORY.get(self.view, coin_id)
        return found is not None and bool(found.spent_by)

    @property
    def next_event_on_disk(self) -> int:
        """Sequence number of the first event of the next flush."""
        return self.next_event - len(self._new_events)

    # Writing

    def log(self, event: Event) -> None:
        """Append to the event log."""
        self.batch.put(schema.EVENT.key(self.next_event), schema.EVENT.encode(event))
        self.next_event += 1
        self._new_events.append(event)

    def flush(self, *, sync: bool, running_ms: int) -> list[Event]:
        """Write everything since the last flush, all or nothing; return its events.

        `running_ms`: how long nodes have run on this store. After a failure the ledger and the
        disk differ: open the store again.
        """
        meta = schema.META
        self.batch.put(meta.key(schema.META_NEXT_EVENT), schema.encode_number(self.next_event))
        self.batch.put(meta.key(schema.META_RUNNING_MS), schema.encode_number(running_ms))
        self._store.write(self.batch, sync=sync)
        self.batch.clear()
        events, self._new_events = self._new_events, []
        return events

    def apply(self, change: Transition, history: History) -> None:
        """Let a child of the tip become the tip: put down what it change.

        `history` is the range after it.
        """
        anchor = change.anchor
        self._change_coins(change)
        self.supply += change.minted
        self.history = history
        self._record_state(anchor.height)
        self._move_tip(anchor.id)
        self.batch.put(schema.HEIGHT.key(anchor.height), anchor.id)
        self.log(AnchorConnected(anchor.height, anchor.id))

    def _change_coins(self, change: Transition) -> None:
        height = change.anchor.height
        put, delete = self.batch.put, self.batch.delete
        added: list[Member] = []
        for coin in change.created:
            spent_by = change.spent_by.get(coin.coin_id, b"")
            put(
                schema.HISTORY.key(coin.coin_id),
                schema.HISTORY.encode(
                    CoinHistory(
                        coin.kind,
                        height,
                        coin.value,
                        coin.txid,
                        coin.index,
                        height if spent_by else 0,
                        spent_by,
                    )
                ),
            )
            put(
                schema.OWNER.key(coin.lock, coin.coin_id),
                schema.OWNER.encode(OwnedCoin(coin.value, height)),
            )
            if not spent_by:
                added.append((coin.coin_id, coin.value, coin.lock, height, coin.minted))
                put(
                    schema.UNSPENT.key(coin.coin_id),
                    schema.UNSPENT.encode(UnspentCoin(coin.value, coin.lock, height, coin.minted)),
                )
        removed: list[Member] = []
        for coin_id, spent in change.spent.items():
            removed.append((coin_id, spent.value, spent.lock, spent.height, spent.minted))
            delete(schema.UNSPENT.key(coin_id))
        self._mark_spent([(coin_id, height, change.spent_by[coin_id]) for coin_id in change.spent])
        for index, sized in enumerate(change.transfers):
            place = TransferPlace(sized.wid, height, index)
            put(schema.TXID.key(sized.txid), schema.TXID.encode(place))
        undo = UndoRecord(tuple(SpentCoin.of(*item) for item in change.spent.items()))
        put(schema.UNDO.key(height), schema.UNDO.encode(undo))
        self.commitment.apply(added, removed)

    def disconnect(
        self,
        anchor: Coin,
        parent_history: History,
        mints: Sequence[Mint],
        transfers: Sequence[SizedTransfer],
    ) -> None:
        """Let the tip's parent become the tip.

        `parent_history` is the range after the parent; `mints` and `transfers` are those that
        the tip was connected with.
        """
        height = anchor.height
        undo = schema.UNDO.get(self.view, height)
        assert undo is not None, f"no undo data at height {height}"
        put, delete = self.batch.put, self.batch.delete
        spent_in_body = {
            CoinId(entry.coin_id) for sized in transfers for entry in sized.transfer.inputs
        }
        for sized in transfers:
            delete(schema.TXID.key(sized.txid))
        removed: list[Member] = []
        for made in created_coins(mints, transfers):
            delete(schema.HISTORY.key(made.coin_id))
            delete(schema.OWNER.key(made.lock, made.coin_id))
            if made.coin_id not in spent_in_body:
                delete(schema.UNSPENT.key(made.coin_id))
                removed.append((made.coin_id, made.value, made.lock, height, made.minted))
        added: list[Member] = []
        for spent in undo.spent:
            coin = spent.unspent()
            added.append((spent.coin_id, coin.value, coin.lock, coin.height, coin.minted))
            put(schema.UNSPENT.key(spent.coin_id), schema.UNSPENT.encode(coin))
        self._mark_spent([(CoinId(spent.coin_id), 0, b"") for spent in undo.spent])
        self.commitment.apply(added, removed)
        self.supply -= sum(mint.value for mint in mints)
        self.history = parent_history
        delete(schema.HEIGHT.key(height))
        delete(schema.UNDO.key(height))
        delete(schema.STATE.key(height))
        self._record_state(height - 1)
        self._move_tip(anchor.parent)
        self.log(AnchorDisconnected(height, anchor.id))

    def _mark_spent(self, coins: Sequence[tuple[CoinId, int, bytes]]) -> None:
        """Note at which height coins were spent, and by which txid."""
        table, put = schema.HISTORY, self.batch.put
        histories = table.get_many(self.view, [coin_id for coin_id, _, _ in coins])
        for (coin_id, height, spent_by), found in zip(coins, histories, strict=True):
            assert found is not None, f"coin {coin_id.hex()} has no history"
            spent = CoinHistory(
                found.kind, found.height, found.value, found.txid, found.index, height, spent_by
            )
            put(table.key(coin_id), table.encode(spent))

    def _record_state(self, height: int) -> None:
        """Note the state after the tip at `height`. Only the tip's row has the vector."""
        below = schema.STATE.get(self.view, height - 1) if height else None
        if below is not None and below.lthash:
            self._put_state(height - 1, StateRecord(b"", below.history, below.supply))
        self._put_state(
            height, StateRecord(self.commitment.to_bytes(), self.history.to_bytes(), self.supply)
        )

    def _put_state(self, height: int, record: StateRecord) -> None:
        self.batch.put(schema.STATE.key(height), schema.STATE.encode(record))

    def _move_tip(self, anchor_id: CoinId) -> None:
        self.batch.put(schema.META.key(schema.META_TIP), anchor_id)
