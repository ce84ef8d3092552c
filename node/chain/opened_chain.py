"""From a store to a chain: genesis for an empty one, the last MAX_REORG anchors of any other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from unchained.node.chain.branch import Archive
from unchained.node.chain.ledger import Ledger
from unchained.node.chain.tree import AnchorStatus, AnchorTree, Validation
from unchained.node.consensus.context import child_context
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.node.crypto.history_range import HistoryPeaks, HistoryRange
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.kv import Batch, Getter, KeyValueStore
from unchained.storage.pages import BatchPages, StoredPages
from unchained.storage.presence import there
from unchained.storage.schema import AnchorRecord, StateRecord


class OpenedChain(msgspec.Struct):
    """A chain as it was when the store was last written. Of the tree there is the root; `main` are
    the main chain's anchors above it."""

    tree: AnchorTree
    main: list[CoinId]
    ledger: Ledger
    archive: Archive
    running_ms: int
    """How long nodes have run on this store, ms."""


def open_chain(store: KeyValueStore, network: Network) -> OpenedChain:
    """Read the chain, after laying down genesis if the store holds none.

    Raises `StoreCorruptError` when what is needed is not there.
    """
    tip_id = schema.meta_id(store, schema.META_TIP)
    if tip_id is None:
        store.write(genesis_rows(store, network), sync=True)
        tip_id = genesis_of(network).id
    tip = _coin(store, tip_id)
    state = there(schema.STATE.get(store, tip.height), f"state at height {tip.height}")
    ledger = Ledger(
        store,
        height=tip.height,
        state=state,
        next_event=schema.meta_number(store, schema.META_NEXT_EVENT) or 0,
        undo_floor=next(schema.STATE.scan(store))[0],
    )
    archive = Archive(ledger.view, network)
    root_id, root_height = _find_root(store, network, tip)
    tree = AnchorTree(_coin(store, root_id), main_validation(store, network, root_height))
    main = [
        there(schema.HEIGHT.get(store, height), f"anchor at height {height}")
        for height in range(root_height + 1, tip.height + 1)
    ]
    running_ms = schema.meta_number(store, schema.META_RUNNING_MS) or 0
    return OpenedChain(tree, main, ledger, archive, running_ms)


def connect_loaded(tree: AnchorTree, main: Sequence[CoinId]) -> None:
    """Let a tree that has been filled have the main chain that it had.

    Raises `StoreCorruptError` when one of its anchors does not count.
    """
    for anchor_id in main:
        node = there(tree.get(anchor_id), f"anchor {anchor_id.hex()}")
        there(node.validation, f"body of anchor {anchor_id.hex()}")
        tree.set_tip(node)


def genesis_rows(store: KeyValueStore, network: Network) -> Batch:
    """Return what a store that holds no chain is to be given for it to hold genesis."""
    genesis = genesis_of(network)
    record = AnchorRecord(genesis.coin.raw, genesis.body.to_bytes(), AnchorStatus.COUNTS, 0, 0)
    state = StateRecord(0, 0, 0, genesis.history.to_bytes())
    batch = Batch()
    anchors = HistoryRange(StoredPages(store, schema.HISTORY_PAGE), 0)
    anchors.append(*genesis.history.peaks)
    anchors.flush(BatchPages(batch, schema.HISTORY_PAGE))
    batch.put(schema.ANCHOR.key(genesis.id), schema.ANCHOR.encode(record))
    batch.put(schema.COIN.key(genesis.id), genesis.coin.raw)
    batch.put(schema.HEIGHT.key(0), genesis.id)
    batch.put(schema.STATE.key(0), schema.STATE.encode(state))
    batch.put(schema.META.key(schema.META_TIP), genesis.id)
    batch.put(schema.META.key(schema.META_NEXT_EVENT), schema.encode_number(0))
    batch.put(schema.META.key(schema.META_RUNNING_MS), schema.encode_number(0))
    return batch


def _find_root(store: KeyValueStore, network: Network, tip: Coin) -> tuple[CoinId, int]:
    """Return the lowest anchor of the main chain from which on all votes are kept.

    That is the one MAX_REORG below the tip; or a higher one where the tip has been higher, since
    what left the tree then does not come back; or a lower one where a deeper branch was being
    weighed.
    """

    def main_id(height: int) -> CoinId:
        return there(schema.HEIGHT.get(store, height), f"anchor at height {height}")

    def has_votes(height: int) -> bool:
        key = schema.BOUND.key(main_id(height), main_id(height + 1))
        return store.get(key) is not None

    height = max(0, tip.height - network.max_reorg)
    while height < tip.height and not has_votes(height):
        height += 1
    while 0 < height < tip.height and has_votes(height - 1):
        height -= 1
    return main_id(height), height


def main_validation(store: Getter, network: Network, height: int) -> Validation:
    """Return the validation of the main chain's anchor at a height whose state is kept.

    Raises `StoreCorruptError` when what is needed is not there.
    """
    if height == 0:
        return Validation.of_genesis(genesis_of(network), network)
    anchor_id = there(schema.HEIGHT.get(store, height), f"anchor at height {height}")
    # R of Protocol §7: an anchor that knows of it is all that the validation takes of a parent.
    origin = Validation.of_genesis(genesis_of(network), network).context
    if height > 1:
        origin_id = there(schema.HEIGHT.get(store, 1), "anchor at height 1")
        first = _body(store, origin_id)
        listed = len(first.fresh) + len(first.uncles)
        origin = child_context(_coin(store, origin_id), listed, origin, network)
    validated = Validation.of_child(
        _coin(store, anchor_id), _body(store, anchor_id), origin, network
    )
    state = there(schema.STATE.get(store, height), f"state at height {height}")
    context = msgspec.structs.replace(
        validated.context, history=HistoryPeaks.from_bytes(state.history)
    )
    return msgspec.structs.replace(validated, context=context)


def _coin(store: Getter, coin_id: CoinId) -> Coin:
    return Coin.from_bytes(there(schema.COIN.get(store, coin_id), f"coin {coin_id.hex()}"))


def _body(store: Getter, anchor_id: CoinId) -> Body:
    return Body.from_bytes(_record(store, anchor_id).body)


def _record(store: Getter, anchor_id: CoinId) -> AnchorRecord:
    return there(schema.ANCHOR.get(store, anchor_id), f"anchor {anchor_id.hex()}")
