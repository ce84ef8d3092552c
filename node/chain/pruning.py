"""What the chain lets go of as it grows: old candidates, lost branches, undo data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from unchained.node.chain.admission import Admission
from unchained.node.chain.branch import Archive
from unchained.node.chain.ledger import Ledger
from unchained.node.chain.tree import AnchorStatus, AnchorTree
from unchained.node.consensus.fork_choice import is_settled
from unchained.node.consensus.params import Network
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage import schema
from unchained.storage.schema import AnchorRecord

HEIGHTS_AT_ONCE: Final = 4
"""Heights whose undo data one anchor's batch drops at most: the backlog after a long sync goes
away little by little."""


def retire_root(
    tree: AnchorTree,
    ledger: Ledger,
    archive: Archive,
    admission: Admission,
) -> list[CoinId]:
    """Let the lowest anchor leave the tree, with the votes for it and its lost branches.

    The main chain keeps the coins that it lists; the anchor's record keeps its votes. Returns the
    anchors of the lost branches.
    """
    old, lost = tree.advance_root()
    record = schema.ANCHOR.get(ledger.view, old.id)
    assert record is not None, "it is on the main chain"
    retired = AnchorRecord(
        record.coin, record.body, record.status, old.votes, record.connected_running_ms, old.marks
    )
    ledger.batch.put(schema.ANCHOR.key(old.id), schema.ANCHOR.encode(retired))
    _drop_bound(old.id, [*old.bound, *admission.forget(old.id)], tree, ledger, archive)
    for node in lost:
        _drop_bound(node.id, [*node.bound, *admission.forget(node.id)], tree, ledger, archive)
        ledger.batch.delete(schema.ANCHOR.key(node.id))
        if node.status is AnchorStatus.COUNTS:
            for wid in node.judged.body.transfers:
                drop_transfer(Wid(wid), tree, ledger)
    for parent_id in admission.stale_parents(tree.root.height):
        _drop_bound(parent_id, admission.forget(parent_id), tree, ledger, archive)
    return [node.id for node in lost]


def _drop_bound(
    anchor_id: CoinId,
    coins: Sequence[CoinId],
    tree: AnchorTree,
    ledger: Ledger,
    archive: Archive,
) -> None:
    for coin_id in coins:
        ledger.batch.delete(schema.BOUND.key(anchor_id, coin_id))
        _drop_coin(coin_id, tree, ledger, archive)


def _drop_coin(coin_id: CoinId, tree: AnchorTree, ledger: Ledger, archive: Archive) -> None:
    on_chain = schema.HISTORY.get(ledger.view, coin_id) is not None
    if not on_chain and not tree.is_listed(coin_id):
        ledger.batch.delete(schema.COIN.key(coin_id))
        archive.forget(coin_id)


def drop_transfer(wid: Wid, tree: AnchorTree, ledger: Ledger) -> None:
    """Delete a transfer's bytes unless it waits or an anchor that counts lists it."""
    waits = schema.MEMPOOL.get(ledger.view, wid) is not None
    if waits or tree.is_listed_aside(wid):
        return
    raw = schema.TRANSFER.get(ledger.view, wid)
    if raw is None:
        return
    try:
        place = schema.TXID.get(ledger.view, SizedTransfer.from_bytes(raw).txid)
    except NonCanonicalError:
        # listed by an anchor that counted, and was never connected
        place = None
    if place is None or place.wid != wid:
        ledger.batch.delete(schema.TRANSFER.key(wid))


def prune_undo(ledger: Ledger, tree: AnchorTree, network: Network, running_ms: int) -> None:
    """Drop undo data that no reorganisation by itself can need (Protocol §6, last rule but one):
    below the last MAX_REORG anchors, of anchors that have been on the chain long enough, and never
    of the tree's root or above: it may reach deeper while a branch is weighed."""
    floor = ledger.undo_floor
    end = min(tree.tip.height - network.max_reorg, tree.root.height)
    for height in range(floor, min(floor + HEIGHTS_AT_ONCE, end)):
        anchor_id = schema.HEIGHT.get(ledger.view, height)
        record = None if anchor_id is None else schema.ANCHOR.get(ledger.view, anchor_id)
        assert record is not None, "it is on the main chain"
        if not is_settled(running_ms - record.connected_running_ms, network):
            return
        ledger.batch.delete(schema.UNDO.key(height))
        ledger.batch.delete(schema.STATE.key(height))
        ledger.undo_floor = height + 1
