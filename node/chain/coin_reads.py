"""Reads of coins and transfers: what became of them, what waits, what is lacking.

Pure functions of a `ChainView`, or of a store; `LiveQueries` runs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from unchained.node.chain.answers import (
    CoinFates,
    KnownCoin,
    Lacking,
    MempoolState,
    TransferEncoding,
    WaitingFees,
    WaitingOrder,
    WaitingOutput,
    WaitingSpend,
    WaitingTransfer,
)
from unchained.node.chain.confirmations import confirmations_at
from unchained.node.chain.mempool.mempool import SHOWN_TO_NOBODY, Mempool, PoolEntry
from unchained.node.chain.results import Outcome
from unchained.node.chain.view import ChainView
from unchained.node.consensus.policy import CAPACITY, EXPIRY_MS
from unchained.node.primitives.body import Body
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.transfer import SizedTransfer, wid_of
from unchained.node.primitives.types import CoinId, Txid, Wid
from unchained.storage import schema
from unchained.storage.kv import Getter
from unchained.storage.presence import there
from unchained.storage.rebuild import lock_of

# Coins


def known_coin(view: ChainView, coin_id: CoinId) -> KnownCoin | None:
    """Return what is known of a coin: minted, or an output of a transfer."""
    mempool = view.waiting.mempool
    history = schema.HISTORY.get(view.store, coin_id)
    minted = view.archive.coin(coin_id)
    spending = mempool.spender_of(coin_id)
    spender = None if spending is None else WaitingSpend(spending.txid, spending.added_ms)
    if history is None:
        output = _waiting_output(mempool, coin_id)
        if minted is None and output is None and spender is None:
            return None
        return KnownCoin(minted, None, False, None, None, None, 0, output, spender)
    unspent = schema.UNSPENT.get(view.store, coin_id)
    return KnownCoin(
        minted,
        history,
        unspent is not None,
        lock_of(view.store, coin_id, history) if unspent is None else unspent.lock,
        view.archive.main_anchor(history.height),
        view.archive.main_anchor(history.spent_height) if history.spent_by else None,
        confirmations_at(view, history.height),
        None,
        spender,
    )


def _waiting_output(mempool: Mempool, coin_id: CoinId) -> WaitingOutput | None:
    found = mempool.output(coin_id)
    if found is None:
        return None
    value, lock, wid = found
    maker = there(mempool.get(wid), f"waiting transfer {wid.hex()}")
    return WaitingOutput(value, lock, maker.txid)


def coin_fates(view: ChainView, ids: Iterable[CoinId]) -> CoinFates:
    """Return which coins the main chain includes."""
    found = {}
    for coin_id in ids:
        history = schema.HISTORY.get(view.store, coin_id)
        if history is not None:
            found[coin_id] = (history.kind, history.value)
    return CoinFates(view.tree.tip.height, found)


def lacking(
    store: Getter,
    bodies: Sequence[Body],
    most_bytes: int,
    unseen: AbstractSet[Wid] = frozenset(),
) -> Lacking:
    """Return what bodies list and a store does not have; of a body whose transfers that are there
    are too large, no more of them than show it. `most_bytes`: those of a body. What is `unseen` is
    as if the store did not have it."""
    listed = list(dict.fromkeys(id_ for body in bodies for id_ in (*body.fresh, *body.uncles)))
    found = schema.COIN.get_many(store, listed)
    coins = [CoinId(id_) for id_, raw in zip(listed, found, strict=True) if raw is None]
    lengths: dict[Wid, int | None] = {}
    for body in bodies:
        size = 0
        for wid in map(Wid, body.transfers):
            if wid not in lengths:
                raw = None if wid in unseen else schema.TRANSFER.get(store, wid)
                lengths[wid] = None if raw is None else len(raw)
            size += lengths[wid] or 0
            # Protocol §5.2: BODY_TOO_LARGE is said "as soon as those that are there do"
            if size > most_bytes:
                break
    return Lacking(
        coins,
        [wid for wid, length in lengths.items() if length is None],
        {wid: length for wid, length in lengths.items() if length is not None},
    )


# Transfers


def encoded_length(view: ChainView, wid: Wid) -> int | None:
    """Return how many bytes a transfer's encoding has, None if they are not here: in the store,
    or kept for jobs that list them."""
    entry = view.waiting.mempool.get(wid)
    if entry is not None:
        return entry.raw_size
    raw = schema.TRANSFER.get(view.store, wid) or view.waiting.jobs.get(wid)
    return None if raw is None else len(raw)


def transfer_bytes(view: ChainView, wid: Wid) -> bytes | None:
    """Return the encoding of a transfer that a body or the mempool holds."""
    return schema.TRANSFER.get(view.store, wid)


def transfers(view: ChainView, wids: Iterable[Wid], most_bytes: int) -> list[bytes]:
    """Return the encodings of transfers, empty bytes for unknown and hidden ones: as many of the
    first as have `most_bytes` together, one at least."""
    found: list[bytes] = []
    size = 0
    unseen = view.waiting.mempool.unseen_by(SHOWN_TO_NOBODY)
    for wid in wids:
        raw = b"" if wid in unseen else transfer_bytes(view, wid) or b""
        if found and size + len(raw) > most_bytes:
            break
        size += len(raw)
        found.append(raw)
    return found


def unseen_of(view: ChainView, wids: Iterable[Wid]) -> set[Wid]:
    """Return those of some transfers of which peers are not to learn that they are here, or that
    are not here any more."""
    unseen = view.waiting.mempool.unseen_by(SHOWN_TO_NOBODY)
    return {wid for wid in wids if wid in unseen or encoded_length(view, wid) is None}


def transfer_named(view: ChainView, transfer_id: bytes) -> bytes | None:
    """Return the encoding of a transfer that is named by its txid or its wid."""
    entry = view.waiting.mempool.by_txid(Txid(transfer_id))
    if entry is not None:
        return transfer_bytes(view, entry.wid)
    place = schema.TXID.get(view.store, transfer_id)
    return transfer_bytes(view, Wid(transfer_id if place is None else place.wid))


def find_transfer(view: ChainView, transfer_id: bytes) -> TransferEncoding | None:
    """Return a transfer of the main chain or the mempool, named by its txid or its wid."""
    raw = transfer_named(view, transfer_id)
    if raw is None:
        return None
    try:
        sized = SizedTransfer.from_bytes(raw)
    except NonCanonicalError:
        # Listed by an anchor that cannot be connected, for all that §5.2 asks.
        return None
    values = input_values(view, sized)
    entry = view.waiting.mempool.get(sized.wid)
    if entry is not None:
        return TransferEncoding(raw, values, entry.added_ms, None, 0, 0)
    place = schema.TXID.get(view.store, sized.txid)
    if place is None or place.wid != wid_of(raw):
        # Its bytes are kept for a body of a side branch.
        return None
    anchor = there(view.archive.main_anchor(place.height), f"anchor at height {place.height}")
    return TransferEncoding(
        raw, values, None, anchor, place.index, confirmations_at(view, place.height)
    )


def input_values(view: ChainView, sized: SizedTransfer) -> list[int | None]:
    """Return the values (grains) of the coins that a transfer spends, where they are known."""
    return [_value(view, CoinId(entry.coin_id)) for entry in sized.transfer.inputs]


def _value(view: ChainView, coin_id: CoinId) -> int | None:
    history = schema.HISTORY.get(view.store, coin_id)
    if history is not None:
        return history.value
    waiting = view.waiting.mempool.output(coin_id)
    return None if waiting is None else waiting[0]


def try_transfer(view: ChainView, sized: SizedTransfer, now_ms: int) -> list[Txid] | None:
    """Check a transfer for the mempool by all but its witness; return the txids that it would
    replace, None if it is known already.

    Raises a `PolicyError` or a `TransferError`.
    """
    checked = view.waiting.check(sized, now_ms)
    return None if isinstance(checked, Outcome) else [entry.txid for entry in checked]


# The mempool


def mempool_state(view: ChainView, now_ms: int) -> MempoolState:
    """Return how full the mempool is and what it asks for."""
    found = view.waiting.mempool.statistics(now_ms)
    return MempoolState(
        found.transfers, found.bytes, CAPACITY, found.fees, found.min_fee_rate, EXPIRY_MS
    )


def waiting_fees(view: ChainView, now_ms: int) -> WaitingFees:
    """Return what all waiting transfers pay."""
    mempool = view.waiting.mempool
    return WaitingFees(mempool.min_fee_rate(now_ms), [(entry.fee, entry.size) for entry in mempool])


def hidden_transfers(view: ChainView) -> list[Wid]:
    """Return the waiting transfers that are hidden from peers, in no order."""
    return list(view.waiting.mempool.hidden)


def waiting_transfers(
    view: ChainView, order: WaitingOrder, limit: int, offset: int
) -> list[WaitingTransfer]:
    """Return waiting transfers in an order, `limit` of them after the first `offset`."""
    mempool = view.waiting.mempool
    entries = sorted(
        mempool, key=lambda entry: (-entry.rate if order == "fee_rate" else 0.0, -entry.arrival)
    )
    return [_describe(mempool, entry) for entry in entries[offset : offset + limit]]


def waiting_transfer(view: ChainView, transfer_id: bytes) -> WaitingTransfer | None:
    """Return one waiting transfer, named by its txid or its wid."""
    mempool = view.waiting.mempool
    entry = mempool.by_txid(Txid(transfer_id)) or mempool.get(Wid(transfer_id))
    return None if entry is None else _describe(mempool, entry)


def _describe(mempool: Mempool, entry: PoolEntry) -> WaitingTransfer:
    return WaitingTransfer(
        entry.wid,
        entry.txid,
        entry.fee,
        entry.size,
        entry.raw_size,
        entry.added_ms,
        len(entry.inputs),
        len(entry.outputs),
        _txids(mempool, entry.parents),
        _txids(mempool, entry.children),
    )


def _txids(mempool: Mempool, wids: Iterable[Wid]) -> tuple[Txid, ...]:
    entries = (mempool.get(wid) for wid in wids)
    return tuple(sorted(entry.txid for entry in entries if entry is not None))
