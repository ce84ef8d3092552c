"""The coin set and all that follows from the main chain, anchor by anchor (Protocol §4, §5.3).

The ledger stands at the tip. It puts down what connecting an anchor changes, as the rules have
found it (`consensus.transition`): coin set, ranges, indexes, undo data and event log, in one
batch; disconnecting takes all of that back. Nothing reaches the disk before `flush`, so several
anchors may share a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from unchained.node.consensus.mints import Mint
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.consensus.transition import Transition, created_locks
from unchained.node.crypto.history_range import HistoryPeaks, HistoryRange
from unchained.node.crypto.state_range import SPENT, STATE_PAGE_HEIGHT, StateRange, leaf_of
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore, Overlay
from unchained.storage.pages import BatchPages, StoredPages, upper_pages
from unchained.storage.presence import there
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
        height: int,
        state: StateRecord,
        next_event: int,
        undo_floor: int,
    ) -> None:
        self._store = store
        self.batch = Batch()
        self.view = Overlay(store, self.batch)
        """The store as it will be after the next flush."""
        self.state = StateRange(StoredPages(store, schema.STATE_PAGE), state.positions)
        """The state's range after the tip; to be read only."""
        self.state.keep(upper_pages(store, schema.STATE_PAGE, state.positions, STATE_PAGE_HEIGHT))
        self.anchors = HistoryRange(StoredPages(store, schema.HISTORY_PAGE), height + 1)
        """The history's range after the tip, with all its nodes; to be read only."""
        self._state_pages = BatchPages(self.batch, schema.STATE_PAGE)
        self._history_pages = BatchPages(self.batch, schema.HISTORY_PAGE)
        self.history = HistoryPeaks.from_bytes(state.history)
        """The history after the tip by its peaks."""
        self.supply = state.supply
        """Grains in the coin set."""
        self.pool = state.pool
        """Grains of fees that no anchor's coin has received yet."""
        self.next_event = next_event
        """Sequence number of the next event."""
        self.undo_floor = undo_floor
        """Lowest height whose state and undo data are kept."""
        self._new_events: list[Event] = []

    # Reading

    def state_root(self) -> bytes:
        """Return the state root after the tip, 32 bytes."""
        return self.state.root(self.supply, self.pool)

    def unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        """Return the coin if it is in the coin set."""
        return schema.UNSPENT.get(self.view, coin_id)

    def unspent_many(self, ids: Sequence[CoinId]) -> list[UnspentCoin | None]:
        """Return each coin if it is in the coin set, in the order of `ids`."""
        return schema.UNSPENT.get_many(self.view, ids)

    def was_spent(self, coin_id: CoinId) -> bool:
        """Return whether the main chain created the coin and spent it."""
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
        self.state.flush(self._state_pages)
        self.anchors.flush(self._history_pages)
        meta = schema.META
        self.batch.put(meta.key(schema.META_NEXT_EVENT), schema.encode_number(self.next_event))
        self.batch.put(meta.key(schema.META_RUNNING_MS), schema.encode_number(running_ms))
        self._store.write(self.batch, sync=sync)
        self.batch.clear()
        events, self._new_events = self._new_events, []
        return events

    def apply(self, change: Transition, history: HistoryPeaks) -> None:
        """Let a child of the tip become the tip: put down what it changes.

        `history` is the range after it.
        """
        anchor = change.anchor
        self._change_coins(change)
        self.supply += change.supply_change
        self.pool = change.pool
        self.history = history
        self.anchors.append(change.leaf)
        record = StateRecord(self.state.count, self.supply, self.pool, history.to_bytes())
        self.batch.put(schema.STATE.key(anchor.height), schema.STATE.encode(record))
        self._move_tip(anchor.id)
        self.batch.put(schema.HEIGHT.key(anchor.height), anchor.id)
        self.log(AnchorConnected(anchor.height, anchor.id))

    def _change_coins(self, change: Transition) -> None:
        height = change.anchor.height
        put, delete = self.batch.put, self.batch.delete
        state = self.state
        for coin in change.created:
            position = state.count
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
                        position,
                    )
                ),
            )
            put(
                schema.OWNER.key(coin.lock, coin.coin_id),
                schema.OWNER.encode(OwnedCoin(coin.value, height)),
            )
            # Protocol §4: A coin has a position though the body that creates it spends it
            if spent_by:
                state.append(SPENT)
                continue
            state.append(leaf_of(coin.coin_id, coin.value, coin.lock, height, coin.minted))
            put(
                schema.UNSPENT.key(coin.coin_id),
                schema.UNSPENT.encode(
                    UnspentCoin(coin.value, coin.lock, height, coin.minted, position)
                ),
            )
        for coin_id, spent in change.spent.items():
            # Protocol §4: Spending clears a leaf
            state.set_leaf(schema.position_of(spent), SPENT)
            delete(schema.UNSPENT.key(coin_id))
        self._mark_spent([(coin_id, height, change.spent_by[coin_id]) for coin_id in change.spent])
        for index, sized in enumerate(change.transfers):
            place = TransferPlace(sized.wid, height, index)
            put(schema.TXID.key(sized.txid), schema.TXID.encode(place))
        undo = UndoRecord(tuple(SpentCoin.of(*item) for item in change.spent.items()))
        put(schema.UNDO.key(height), schema.UNDO.encode(undo))

    def disconnect(
        self,
        anchor: Coin,
        parent_history: HistoryPeaks,
        mints: Sequence[Mint],
        transfers: Sequence[SizedTransfer],
    ) -> None:
        """Let the tip's parent become the tip.

        `parent_history` is the range after the parent; `mints` and `transfers` are those that
        the tip was connected with.
        """
        height = anchor.height
        undo = there(schema.UNDO.get(self.view, height), f"undo data at height {height}")
        before = there(schema.STATE.get(self.view, height - 1), f"state at height {height - 1}")
        put, delete = self.batch.put, self.batch.delete
        spent_in_body = {
            CoinId(entry.coin_id) for sized in transfers for entry in sized.transfer.inputs
        }
        for sized in transfers:
            delete(schema.TXID.key(sized.txid))
        for coin_id, lock in created_locks(mints, transfers):
            delete(schema.HISTORY.key(coin_id))
            delete(schema.OWNER.key(lock, coin_id))
            if coin_id not in spent_in_body:
                delete(schema.UNSPENT.key(coin_id))
        undo_state(self.state, before, undo)
        for spent in undo.spent:
            put(schema.UNSPENT.key(spent.coin_id), schema.UNSPENT.encode(spent.unspent()))
        self._mark_spent([(CoinId(spent.coin_id), 0, b"") for spent in undo.spent])
        self.supply, self.pool = before.supply, before.pool
        self.history = parent_history
        self.anchors.truncate(height)
        delete(schema.HEIGHT.key(height))
        delete(schema.UNDO.key(height))
        delete(schema.STATE.key(height))
        self._move_tip(anchor.parent)
        self.log(AnchorDisconnected(height, anchor.id))

    def _mark_spent(self, coins: Sequence[tuple[CoinId, int, bytes]]) -> None:
        """Note at which height coins were spent, and by which txid."""
        table, put = schema.HISTORY, self.batch.put
        histories = table.get_many(self.view, [coin_id for coin_id, _, _ in coins])
        for (coin_id, height, spent_by), found in zip(coins, histories, strict=True):
            assert found is not None, f"coin {coin_id.hex()} has no history"
            spent = msgspec.structs.replace(found, spent_height=height, spent_by=spent_by)
            put(table.key(coin_id), table.encode(spent))

    def _move_tip(self, anchor_id: CoinId) -> None:
        self.batch.put(schema.META.key(schema.META_TIP), anchor_id)


def undo_state(state: StateRange, before: StateRecord, undo: UndoRecord) -> None:
    """Take an anchor back from the range after it; `before` is the record of its parent."""
    # Protocol §4: A reorganisation takes away the positions of the anchors that it undoes and
    # puts back the leaves that they cleared and the pool as it was
    state.truncate(before.positions)
    for spent in undo.spent:
        coin = spent.unspent()
        leaf = leaf_of(spent.coin_id, coin.value, coin.lock, coin.height, coin.minted)
        state.set_leaf(spent.position, leaf)
