"""The coin set and all that follows from the main chain, anchor by anchor (Protocol §4, §5.3).

The ledger stands at the tip. Connecting an anchor judges its state and its transfers, then changes
the coin set, the indexes, the undo data and the event log in one batch; disconnecting takes all
of that back. Nothing reaches the disk before `flush`, so several anchors may share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from unchained.node.chain.transfer_verdict import TransferVerdict
from unchained.node.consensus.anchors import Mint
from unchained.node.consensus.errors import (
    BadStateRootError,
    BodyTooLargeError,
)
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import UnspentCoin, check_transfer_in_context
from unchained.node.crypto.lthash import Member, StateCommitment
from unchained.node.crypto.mmr import History
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer, output_id
from unchained.node.primitives.types import CoinId, Lock, Wid
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore, Overlay
from unchained.storage.schema import (
    AnchorConnected,
    AnchorDisconnected,
    CoinHistory,
    CoinKind,
    Event,
    OwnedCoin,
    SpentCoin,
    StateRecord,
    TransferPlace,
    UndoRecord,
)

Judge = Callable[[Wid], tuple[SizedTransfer | None, TransferVerdict, int]]
"""Gives a listed transfer by its wid: decoded if it can be, the verdict on it, its bytes."""


class CreatedCoin(msgspec.Struct, frozen=True, gc=False):
    """A coin that an anchor adds to the coin set. An output has a `txid`, a minted coin none;
    `index` is that in the transfer's outputs or in the body's list."""

    coin_id: CoinId
    kind: CoinKind
    value: int
    lock: Lock
    txid: bytes
    index: int

    @property
    def minted(self) -> bool:
        """Whether a proof of work made the coin."""
        return self.kind is not CoinKind.OUTPUT


class _Changes:
    """What a body does to the coin set, judged but not applied: a view for its next transfer."""

    def __init__(self, ledger: Ledger, height: int) -> None:
        self._ledger = ledger
        self._height = height
        self.created: dict[CoinId, CreatedCoin] = {}
        self.spent: dict[CoinId, UnspentCoin] = {}
        self.spent_by: dict[CoinId, bytes] = {}
        self.places: list[tuple[bytes, Wid]] = []
        self.fees = 0
        self._at_tip: dict[CoinId, UnspentCoin | None] = {}

    def look_up(self, transfers: Iterable[SizedTransfer]) -> None:
        """Read at once from the coin set at the tip what transfers spend."""
        ids = list(
            {CoinId(entry.coin_id): None for sized in transfers for entry in sized.transfer.inputs}
        )
        self._at_tip = dict(zip(ids, self._ledger.unspent_many(ids), strict=True))

    def unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        """Return the coin if it is in the coin set after the transfers so far."""
        if coin_id in self.spent_by:
            return None
        made = self.created.get(coin_id)
        if made is not None:
            return UnspentCoin(made.value, made.lock, self._height, False)
        return self._at_tip[coin_id]

    def was_spent(self, coin_id: CoinId) -> bool:
        """Tell whether the coin was in the coin set and has been spent."""
        return coin_id in self.spent_by or self._ledger.was_spent(coin_id)

    def apply(self, sized: SizedTransfer, spent: Sequence[UnspentCoin]) -> None:
        """Spend and create what a valid transfer does."""
        for entry, coin in zip(sized.transfer.inputs, spent, strict=True):
            coin_id = CoinId(entry.coin_id)
            self.spent_by[coin_id] = sized.txid
            if coin_id not in self.created:
                self.spent[coin_id] = coin
        for index, output in enumerate(sized.transfer.outputs):
            coin_id = output_id(sized.txid, index)
            self.created[coin_id] = CreatedCoin(
                coin_id, CoinKind.OUTPUT, output.value, Lock(output.lock), sized.txid, index
            )
        self.places.append((sized.txid, sized.wid))
        self.fees += sized.transfer.fee


class Ledger:
    """The coin set at the tip, with a batch of changes that are not yet on disk.

    One owner, who calls from one thread at a time. Every method may raise a `StoreError`.
    """

    def __init__(
        self,
        store: KeyValueStore,
        network: Network,
        *,
        commitment: StateCommitment,
        history: History,
        supply: int,
        next_event: int,
        undo_floor: int,
    ) -> None:
        self._store = store
        self._network = network
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

    def connect(
        self, anchor: Coin, body: Body, mints: Sequence[Mint], transfer_of: Judge
    ) -> list[SizedTransfer]:
        """Let a child of the tip become the tip; return its transfers.

        Raises the `ProtocolError` that makes the anchor invalid; then nothing has changed.
        """
        changes, transfers = self._judge(anchor, body, transfer_of)
        created = _minted(body, mints, changes.fees)
        created.extend(changes.created.values())
        self._apply(anchor, created, changes)
        self.supply += sum(mint.value for mint in mints)
        self.history = self.history.append(anchor.id)
        self._record_state(anchor.height)
        self._move_tip(anchor.id)
        self.batch.put(schema.HEIGHT.key(anchor.height), anchor.id)
        self.log(AnchorConnected(anchor.height, anchor.id))
        return transfers

    def _judge(
        self, anchor: Coin, body: Body, transfer_of: Judge
    ) -> tuple[_Changes, list[SizedTransfer]]:
        # Protocol §5.3: BAD_STATE_ROOT
        state_root = self.commitment.root()
        if body.state_root != state_root:
            raise BadStateRootError(expected=state_root.hex(), actual=body.state_root.hex())
        found = [transfer_of(Wid(wid)) for wid in body.transfers]
        # Protocol §5.3: BODY_TOO_LARGE. What does not decode has no outputs to count.
        size = sum(length if sized is None else sized.size for sized, _, length in found)
        if size > self._network.max_body_size:
            raise BodyTooLargeError(expected=f"at most {self._network.max_body_size}", actual=size)
        # Protocol §5.3: the transfers in order
        changes = _Changes(self, anchor.height)
        changes.look_up(sized for sized, _, _ in found if sized is not None)
        transfers = []
        for sized, verdict, _ in found:
            verdict.raise_alone()
            assert sized is not None, "a transfer that is fit by itself decodes"
            spent = check_transfer_in_context(sized.transfer, changes, anchor.height, self._network)
            verdict.raise_witness()
            changes.apply(sized, spent)
            transfers.append(sized)
        return changes, transfers

    def _apply(self, anchor: Coin, created: list[CreatedCoin], changes: _Changes) -> None:
        height = anchor.height
        put, delete = self.batch.put, self.batch.delete
        added: list[Member] = []
        for coin in created:
            spent_by = changes.spent_by.get(coin.coin_id, b"")
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
        for coin_id, spent in changes.spent.items():
            removed.append((coin_id, spent.value, spent.lock, spent.height, spent.minted))
            delete(schema.UNSPENT.key(coin_id))
        self._mark_spent(
            [(coin_id, height, changes.spent_by[coin_id]) for coin_id in changes.spent]
        )
        for index, (txid, wid) in enumerate(changes.places):
            put(schema.TXID.key(txid), schema.TXID.encode(TransferPlace(wid, height, index)))
        undo = UndoRecord(tuple(SpentCoin.of(*item) for item in changes.spent.items()))
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
        fees = sum(sized.transfer.fee for sized in transfers)
        created = [
            (mint.coin.id, mint.value + (0 if at else fees), mint.lock, True)
            for at, mint in enumerate(mints)
        ]
        for sized in transfers:
            delete(schema.TXID.key(sized.txid))
            created.extend(
                (output_id(sized.txid, index), output.value, Lock(output.lock), False)
                for index, output in enumerate(sized.transfer.outputs)
            )
        removed: list[Member] = []
        for coin_id, value, lock, minted in created:
            delete(schema.HISTORY.key(coin_id))
            delete(schema.OWNER.key(lock, coin_id))
            if coin_id not in spent_in_body:
                delete(schema.UNSPENT.key(coin_id))
                removed.append((coin_id, value, lock, height, minted))
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


def _minted(body: Body, mints: Sequence[Mint], fees: int) -> list[CreatedCoin]:
    """Return what the anchor mints, its own coin first and with the fees (Protocol §5.4)."""
    created = []
    first_uncle = 1 + len(body.fresh)
    for at, mint in enumerate(mints):
        index = 0 if at == 0 else at - 1 if at < first_uncle else at - first_uncle
        value = mint.value + (fees if at == 0 else 0)
        created.append(CreatedCoin(mint.coin.id, CoinKind(mint.kind), value, mint.lock, b"", index))
    return created
