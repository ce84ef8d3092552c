"""A small chain as rows of a store: well linked, with transfers, but without proof of work.

For tests of storage alone, which knows no rules.
"""

from __future__ import annotations

import random

from unchained.node.consensus.context import leaf_of as anchor_leaf
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import LOCAL
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.crypto.history_range import HistoryRange
from unchained.node.crypto.state_range import SPENT, StateRange, leaf_of
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.transfer import Input, Output, SizedTransfer, Transfer, output_id
from unchained.node.primitives.types import CoinId, Lock
from unchained.storage import schema
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.pages import BatchPages, StoredPages
from unchained.storage.schema import (
    AnchorConnected,
    AnchorRecord,
    CoinAccepted,
    CoinHistory,
    MempoolRecord,
    OwnedCoin,
    SpentCoin,
    StateRecord,
    TransferEntered,
    TransferPlace,
    UndoRecord,
)

SUBSIDY = 10**8


class ChainWriter:
    """Writes anchors with one fresh coin each; every second one spends the fresh coin before."""

    def __init__(self, store: KeyValueStore, seed: int = 1) -> None:
        self._store = store
        self._rng = random.Random(seed)
        self._state = StateRange(StoredPages(store, schema.STATE_PAGE), 0)
        self._history = HistoryRange(StoredPages(store, schema.HISTORY_PAGE), 0)
        self._supply = 0
        self._event = 0
        self._fresh: tuple[CoinId, UnspentCoin] | None = None
        genesis = genesis_of(LOCAL)
        self.tip = genesis.coin
        batch = Batch()
        record = AnchorRecord(genesis.coin.raw, genesis.body.to_bytes(), 1, 0, 0)
        batch.put(schema.ANCHOR.key(genesis.id), schema.ANCHOR.encode(record))
        batch.put(schema.COIN.key(genesis.id), genesis.coin.raw)
        batch.put(schema.HEIGHT.key(0), genesis.id)
        self._history.append(*genesis.history.peaks)
        self._finish(batch, 0)

    def grow(self, anchors: int) -> None:
        """Append so many anchors, one batch each."""
        for _ in range(anchors):
            self._anchor()

    def wait(self, transfer: SizedTransfer) -> None:
        """Put a transfer into the mempool."""
        batch = Batch()
        batch.put(schema.TRANSFER.key(transfer.wid), transfer.raw)
        row = schema.MEMPOOL.encode(MempoolRecord(0, 1, transfer.transfer.fee, transfer.size))
        batch.put(schema.MEMPOOL.key(transfer.wid), row)
        self._log(batch, TransferEntered(transfer.wid))
        self._store.write(batch, sync=True)

    def transfer(self, coin_id: CoinId, value: int) -> SizedTransfer:
        """Return a transfer, unsigned, that spends one coin into two."""
        outputs = (
            Output(value // 2, self._rng.randbytes(32), b""),
            Output(value - value // 2, self._rng.randbytes(32), b""),
        )
        entry = Input(coin_id, bytes(33), bytes(32))
        return SizedTransfer.of(Transfer(1, LOCAL.chain_id, 0, 0, (entry,), outputs, (), ()))

    def _anchor(self) -> None:
        batch = Batch()
        height = self.tip.height + 1
        fresh, anchor = self._coin(height), self._coin(height)
        spent: list[SpentCoin] = []
        transfers = []
        if self._fresh is not None and height % 2 == 0:
            coin_id, old = self._fresh
            sized = self.transfer(coin_id, old.value)
            transfers.append(sized.wid)
            spent.append(SpentCoin.of(coin_id, old))
            self._spend(batch, height, coin_id, old, sized)
        body = Body((fresh.id,), (), tuple(transfers), bytes(32), bytes(32))
        record = AnchorRecord(anchor.raw, body.to_bytes(), 1, 2, height)
        batch.put(schema.ANCHOR.key(anchor.id), schema.ANCHOR.encode(record))
        batch.put(schema.HEIGHT.key(height), anchor.id)
        batch.put(schema.UNDO.key(height), schema.UNDO.encode(UndoRecord(tuple(spent))))
        for coin, kind in ((anchor, CoinKind.ANCHOR), (fresh, CoinKind.FRESH)):
            batch.put(schema.COIN.key(coin.id), coin.raw)
            batch.put(schema.BOUND.key(coin.parent, coin.id), b"")
            self._log(batch, CoinAccepted(coin.id))
            position = self._state.count
            made = CoinHistory(kind, height, SUBSIDY, b"", 0, 0, b"", position)
            new = UnspentCoin(SUBSIDY, coin.header.lock, height, True, position)
            self._create(batch, coin.id, new, made)
            self._supply += SUBSIDY
        self._fresh = fresh.id, new
        self._history.append(anchor_leaf(anchor, 1, LOCAL))
        self.tip = anchor
        self._log(batch, AnchorConnected(height, anchor.id))
        self._finish(batch, height)

    def _coin(self, height: int) -> Coin:
        parent = self.tip
        header = CoinHeader(
            LOCAL.chain_id,
            1,
            parent.id,
            height,
            parent.header.time + 1,
            0,
            LOCAL.target0,
            Lock(self._rng.randbytes(32)),
            bytes(32),
            self._rng.getrandbits(64),
        )
        return Coin.assemble(header, self._rng.randbytes(32))

    def _spend(
        self, batch: Batch, height: int, coin_id: CoinId, coin: UnspentCoin, sized: SizedTransfer
    ) -> None:
        position = schema.position_of(coin)
        made = CoinHistory(
            CoinKind.FRESH, coin.height, coin.value, b"", 0, height, sized.txid, position
        )
        batch.put(schema.HISTORY.key(coin_id), schema.HISTORY.encode(made))
        batch.delete(schema.UNSPENT.key(coin_id))
        self._state.set_leaf(position, SPENT)
        batch.put(schema.TRANSFER.key(sized.wid), sized.raw)
        place = TransferPlace(sized.wid, height, 0)
        batch.put(schema.TXID.key(sized.txid), schema.TXID.encode(place))
        for index, output in enumerate(sized.transfer.outputs):
            position = self._state.count
            history = CoinHistory(
                CoinKind.OUTPUT, height, output.value, sized.txid, index, 0, b"", position
            )
            new = UnspentCoin(output.value, Lock(output.lock), height, False, position)
            self._create(batch, output_id(sized.txid, index), new, history)

    def _create(
        self, batch: Batch, coin_id: CoinId, coin: UnspentCoin, history: CoinHistory
    ) -> None:
        batch.put(schema.HISTORY.key(coin_id), schema.HISTORY.encode(history))
        batch.put(schema.UNSPENT.key(coin_id), schema.UNSPENT.encode(coin))
        owned = OwnedCoin(coin.value, coin.height)
        batch.put(schema.OWNER.key(coin.lock, coin_id), schema.OWNER.encode(owned))
        self._state.append(leaf_of(coin_id, coin.value, coin.lock, coin.height, coin.minted))

    def _log(self, batch: Batch, event: schema.Event) -> None:
        batch.put(schema.EVENT.key(self._event), schema.EVENT.encode(event))
        self._event += 1
        key = schema.META.key(schema.META_NEXT_EVENT)
        batch.put(key, schema.encode_number(self._event))

    def _finish(self, batch: Batch, height: int) -> None:
        history = self._history.history().to_bytes()
        state = StateRecord(self._state.count, self._supply, 0, history)
        self._state.flush(BatchPages(batch, schema.STATE_PAGE))
        self._history.flush(BatchPages(batch, schema.HISTORY_PAGE))
        batch.put(schema.STATE.key(height), schema.STATE.encode(state))
        batch.put(schema.META.key(schema.META_TIP), self.tip.id)
        self._store.write(batch, sync=True)
