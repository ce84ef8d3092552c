"""Rebuilds what follows from other tables: transfer places, the owner index, the coin set, the
pages of the ranges.

The main chain's bodies, transfers, coins and the coin history are what it goes by. Rows are
put right one by one, so that no moment has less than the one before; a mark in the meta table
makes the next opening do it again if it was cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import HEADER_SIZE, CoinHeader
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.transfer import SizedTransfer, Transfer
from unchained.node.primitives.types import Lock
from unchained.storage import schema
from unchained.storage.errors import NotRepairableError, StoreCorruptError
from unchained.storage.kv import Batch, Getter, KeyValueStore
from unchained.storage.leaves import anchor_nodes, coin_leaves
from unchained.storage.leveldb import REPAIR_HINT
from unchained.storage.pages import FinishedPages, history_pages, state_pages
from unchained.storage.progress import Report, counted, silent
from unchained.storage.schema import CoinHistory, OwnedCoin, TransferPlace
from unchained.storage.tables import PageTable

UNFINISHED_REBUILD: Final = b"rebuild"
"""What the meta table's `META_UNFINISHED` says while a rebuild is under way."""

_BATCH: Final = 4_096
"""Changes per batch."""

_LOST: Final = REPAIR_HINT


class Rebuilt(msgspec.Struct, frozen=True):
    """How many rows a rebuild put right."""

    put: int
    deleted: int


def finish_rebuild(store: KeyValueStore, network: Network, report: Report = silent) -> None:
    """Do a rebuild again that was cut off; nothing if none was. Raises a `StoreError`."""
    if schema.META.get(store, schema.META_UNFINISHED) == UNFINISHED_REBUILD:
        rebuild(store, network, report)


def rebuild(store: KeyValueStore, network: Network, report: Report = silent) -> Rebuilt:
    """Put every derivable row right. Nobody else may write meanwhile.

    Raises `NotRepairableError` when something is missing that nothing else shows,
    `StoreCorruptError` when it does not decode, or what reading and writing raise.
    """
    mark = Batch()
    mark.put(schema.META.key(schema.META_UNFINISHED), UNFINISHED_REBUILD)
    store.write(mark, sync=True)
    work = _Rebuild(store)
    for _ in counted(work.places(), "transfer places", report):
        work.flush(_BATCH)
    for _ in counted(work.coins(), "coins", report):
        work.flush(_BATCH)
    for _ in counted(work.strangers(), "leftovers", report):
        work.flush(_BATCH)
    for _ in counted(work.state_pages(), "state pages", report):
        work.flush(_BATCH)
    for _ in counted(work.history_pages(network), "history pages", report):
        work.flush(_BATCH)
    work.batch.delete(schema.META.key(schema.META_UNFINISHED))
    work.flush(0)
    return Rebuilt(work.put, work.deleted)


def lock_of(reader: Getter, coin_id: bytes, history: CoinHistory) -> Lock | None:
    """Return the lock of a coin of the main chain, spent or not; None if what shows it is
    missing. Raises `StoreCorruptError`."""
    if history.kind is not CoinKind.OUTPUT:
        raw = schema.COIN.get(reader, coin_id)
        return None if raw is None else CoinHeader.from_bytes(raw[:HEADER_SIZE]).lock
    place = schema.TXID.get(reader, history.txid)
    raw = None if place is None else schema.TRANSFER.get(reader, place.wid)
    if place is None or raw is None:
        return None
    try:
        outputs = Transfer.from_bytes(raw).outputs
    except NonCanonicalError as error:
        raise schema.TRANSFER.corrupt(schema.TRANSFER.key(place.wid), str(error)) from None
    return Lock(outputs[history.index].lock) if history.index < len(outputs) else None


class _Rebuild:
    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self.batch = Batch()
        self.put = 0
        self.deleted = 0

    def flush(self, least: int) -> None:
        """Write the batch if it has at least so many changes."""
        if self.batch.changes and len(self.batch) >= least:
            self._store.write(self.batch, sync=True)
            self.batch = Batch()

    def places(self) -> Iterator[None]:
        """Put right where each transfer of the main chain stands, and take away the rest."""
        for height, anchor_id in schema.HEIGHT.scan(self._store):
            record = schema.ANCHOR.get(self._store, anchor_id)
            if record is None or not record.body:
                raise NotRepairableError(f"the body of anchor {height} is lost: {_LOST}")
            try:
                wids = Body.from_bytes(record.body).transfers
            except NonCanonicalError as error:
                raise NotRepairableError(
                    f"the body of anchor {height} is damaged ({error}): {_LOST}"
                ) from None
            for index, wid in enumerate(wids):
                self._place(height, wid, index)
            yield
        self.flush(0)
        for key in self._store.keys(schema.TXID.start, schema.TXID.stop):
            if not self._stands(key):
                self._delete(key)
            yield
        self.flush(0)

    def coins(self) -> Iterator[None]:
        """Put the rows right that follow from each coin's history."""
        for coin_id, history in schema.HISTORY.scan(self._store):
            lock = lock_of(self._store, coin_id, history)
            if lock is None:
                raise NotRepairableError(f"what made coin {coin_id.hex()} is lost: {_LOST}")
            owned = OwnedCoin(history.value, history.height)
            self._set(schema.OWNER.key(lock, coin_id), schema.OWNER.encode(owned))
            key = schema.UNSPENT.key(coin_id)
            if history.spent_by:
                if self._store.get(key) is not None:
                    self._delete(key)
            else:
                minted = history.kind is not CoinKind.OUTPUT
                coin = UnspentCoin(history.value, lock, history.height, minted, history.position)
                self._set(key, schema.UNSPENT.encode(coin))
            yield

    def strangers(self) -> Iterator[None]:
        """Take away rows of coins without a history, and of owners that the coins do not name."""
        for key in self._store.keys(schema.UNSPENT.start, schema.UNSPENT.stop):
            if schema.HISTORY.get(self._store, key[1:]) is None:
                self._delete(key)
            yield
        for key in self._store.keys(schema.OWNER.start, schema.OWNER.stop):
            lock, coin_id = key[1:33], key[33:]
            history = schema.HISTORY.get(self._store, coin_id)
            if history is None or lock_of(self._store, coin_id, history) != lock:
                self._delete(key)
            yield

    def state_pages(self) -> Iterator[None]:
        """Put the pages of the state's range right."""
        pages = state_pages()
        for coin in coin_leaves(self._store):
            if coin.position != pages.count:
                raise NotRepairableError(
                    f"the history of coin {coin.coin_id.hex()} is damaged: position "
                    f"{coin.position}, expected {pages.count}: {_LOST}"
                )
            pages.add(coin.leaf)
            self._put_pages(schema.STATE_PAGE, pages.finished())
            yield
        yield from self._finish_pages(schema.STATE_PAGE, pages)

    def history_pages(self, network: Network) -> Iterator[None]:
        """Put the pages of the history's range right."""
        pages = history_pages()
        for leaf in anchor_nodes(self._store, network):
            pages.add(leaf)
            self._put_pages(schema.HISTORY_PAGE, pages.finished())
            yield
        yield from self._finish_pages(schema.HISTORY_PAGE, pages)

    def _finish_pages(self, table: PageTable, pages: FinishedPages) -> Iterator[None]:
        self._put_pages(table, pages.rest())
        self.flush(0)
        for key in pages.strangers(self._store, table):
            self._delete(key)
            yield

    def _put_pages(self, table: PageTable, made: Iterator[tuple[int, int, bytes]]) -> None:
        for level, index, page in made:
            self._set(table.key(level, index), page)

    def _place(self, height: int, wid: bytes, index: int) -> None:
        raw = schema.TRANSFER.get(self._store, wid)
        if raw is None:
            raise NotRepairableError(f"transfer {wid.hex()} of anchor {height} is lost: {_LOST}")
        try:
            sized = SizedTransfer.from_bytes(raw)
        except NonCanonicalError as error:
            raise NotRepairableError(
                f"transfer {wid.hex()} is damaged ({error}): {_LOST}"
            ) from None
        place = TransferPlace(wid, height, index)
        self._set(schema.TXID.key(sized.txid), schema.TXID.encode(place))

    def _stands(self, key: bytes) -> bool:
        """Return whether a transfer's row is one that `_place` set."""
        try:
            place = schema.TXID.read(self._store, key)
        except StoreCorruptError:
            return False
        assert place is not None, "nobody else writes"
        anchor_id = schema.HEIGHT.get(self._store, place.height)
        record = None if anchor_id is None else schema.ANCHOR.get(self._store, anchor_id)
        if record is None:
            return False
        wids = Body.from_bytes(record.body).transfers
        if place.index >= len(wids) or wids[place.index] != place.wid:
            return False
        raw = schema.TRANSFER.get(self._store, place.wid)
        return raw is not None and SizedTransfer.from_bytes(raw).txid == key[1:]

    def _set(self, key: bytes, value: bytes) -> None:
        if self._store.get(key) != value:
            self.batch.put(key, value)
            self.put += 1

    def _delete(self, key: bytes) -> None:
        self.batch.delete(key)
        self.deleted += 1
