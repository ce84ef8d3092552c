"""Where the tree begins: MAX_REORG below the tip, or deeper while a deeper branch is weighed.

A branch that leaves the main chain below the tree is for the operator only where the main chain
has been this node's own for long (Protocol §6). So the tree can be lowered again: anchors come
back from the store, with the votes that they had, and stay for as long as the root is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from unchained.node.chain.admission import Admission
from unchained.node.chain.branch import Archive
from unchained.node.chain.ledger import Ledger
from unchained.node.chain.opened_chain import main_validation
from unchained.node.chain.tree import AnchorStatus, AnchorTree
from unchained.node.consensus.fork_choice import is_settled
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage import schema
from unchained.storage.presence import there
from unchained.storage.schema import AnchorRecord

TREE_ANCHORS_MAX: Final = 8_192
"""Anchors in a lowered tree, on all branches: what bounds the memory that a deep branch takes."""

ANCHORS_PER_STEP_MAX: Final = 64
"""Anchors that enter or leave the tree in one operation of the writer, some 50 ms."""

PRUNED_HEIGHTS_AT_ONCE: Final = 4
"""Heights whose undo data one anchor's batch drops at most: the backlog after a long sync goes
away little by little."""


class ReorgWindow:
    """Lowers the root of the tree and lets it rise again. Changes are in the ledger's batch."""

    def __init__(
        self,
        network: Network,
        tree: AnchorTree,
        ledger: Ledger,
        archive: Archive,
        admission: Admission,
    ) -> None:
        self._network = network
        self._tree = tree
        self._ledger = ledger
        self._archive = archive
        self._admission = admission
        self.held = False
        """Whether the root stays where it is while the tip rises."""

    @property
    def is_full(self) -> bool:
        """Whether a lowered tree may not grow any more."""
        return self.held and len(self._tree.nodes) >= TREE_ANCHORS_MAX

    @property
    def undo_floor(self) -> int:
        """The lowest height whose state and undo data are kept."""
        return self._ledger.undo_floor

    def floor(self, running_ms: int) -> int:
        """Return the lowest height of the main chain at which a branch may leave it that this
        node would follow by itself (Protocol §6, last rule but one)."""
        room = (TREE_ANCHORS_MAX - len(self._tree.nodes)) // 2
        root = self._tree.root.height
        low, high = max(self._ledger.undo_floor, root - max(0, room)), root
        # What is higher joined the main chain later.
        while low < high:
            middle = (low + high) // 2
            if self.is_settled(middle + 1, running_ms):
                low = middle + 1
            else:
                high = middle
        return min(low, root)

    def is_settled(self, height: int, running_ms: int) -> bool:
        """Return whether the main chain's anchor at a height has been there for MAX_REORG * T of
        the node's running time."""
        anchor_id = there(self._archive.main_id(height), f"anchor at height {height}")
        record = there(schema.ANCHOR.get(self._ledger.view, anchor_id), f"anchor {anchor_id.hex()}")
        return is_settled(running_ms - record.connected_running_ms, self._network)

    def extend(self, height: int) -> bool:
        """Take some anchors back into the tree; return whether its root is as low as a height.

        Their states have to be kept. Raises `StoreCorruptError` if something is missing.
        """
        for _ in range(ANCHORS_PER_STEP_MAX):
            if self._tree.root.height <= height:
                break
            self._restore(self._tree.root.height - 1)
        return self._tree.root.height <= height

    def _restore(self, height: int) -> None:
        view = self._ledger.view
        validated = main_validation(view, self._network, height)
        anchor_id = validated.context.id
        coin = there(self._archive.coin(anchor_id), f"coin {anchor_id.hex()}")
        record = there(schema.ANCHOR.get(view, anchor_id), f"anchor {anchor_id.hex()}")
        bound = self._listed_children(anchor_id, height)
        root = self._tree.lower_root(coin, validated)
        # Stored as bound again too, so that the tree is as deep if it is opened again.
        self._admission.restore(root, [there(self._archive.coin(i), i.hex()) for i in bound])
        root.connected_running_ms = record.connected_running_ms
        self._tree.recall_votes(root, record.votes)

    def _listed_children(self, anchor_id: CoinId, height: int) -> list[CoinId]:
        """Return the coins that are bound to a main-chain anchor below the root and listed by
        the main chain."""
        above = self._tree.root
        bound = [above.id, *map(CoinId, above.validated.body.fresh)]
        # Protocol §5.2: a late coin comes at most W anchors after the next one
        for later in range(height + 2, height + 2 + self._network.window):
            node = self._tree.main_at(later)
            for uncle in () if node is None else node.validated.body.uncles:
                coin = there(self._archive.coin(CoinId(uncle)), f"coin {uncle.hex()}")
                if coin.parent == anchor_id:
                    bound.append(coin.id)
        return bound

    def shrink(self) -> list[CoinId]:
        """Let some of what is deeper than MAX_REORG leave the tree, with the branches that leave
        the main chain there; return the anchors of those branches."""
        lost: list[CoinId] = []
        for _ in range(ANCHORS_PER_STEP_MAX):
            if not self.is_deep:
                break
            lost += self._retire_root()
        return lost

    @property
    def is_deep(self) -> bool:
        """Whether the tree reaches further down than MAX_REORG."""
        return self._tree.tip.height - self._tree.root.height > self._network.max_reorg

    # What the chain lets go of as it grows: old candidates, lost branches, undo data

    def _retire_root(self) -> list[CoinId]:
        """Let the lowest anchor leave the tree, with the votes for it and its lost branches.

        The main chain keeps the coins that it lists; the anchor's record keeps its votes. Returns
        the anchors of the lost branches.
        """
        old, lost = self._tree.advance_root()
        batch, admission = self._ledger.batch, self._admission
        # Nothing is read for it: long syncs retire as many anchors as they connect.
        retired = AnchorRecord(
            old.coin.raw,
            old.validated.body.to_bytes(),
            old.status,
            old.votes,
            old.connected_running_ms,
            old.marks,
        )
        batch.put(schema.ANCHOR.key(old.id), schema.ANCHOR.encode(retired))
        for node in (old, *lost):
            self._drop_bound(node.id, [*node.bound, *admission.forget(node.id)])
        for node in lost:
            batch.delete(schema.ANCHOR.key(node.id))
            if node.status is AnchorStatus.COUNTS:
                for wid in node.validated.body.transfers:
                    self._drop_transfer(Wid(wid))
        for parent_id in admission.stale_parents(self._tree.root.height):
            self._drop_bound(parent_id, admission.forget(parent_id))
        return [node.id for node in lost]

    def _drop_bound(self, anchor_id: CoinId, coins: Sequence[CoinId]) -> None:
        batch, view = self._ledger.batch, self._ledger.view
        root = self._tree.root
        listed = {root.id, *root.validated.body.fresh}
        for coin_id in coins:
            batch.delete(schema.BOUND.key(anchor_id, coin_id))
            # Most are of the next anchor of the main chain, where nothing need be looked up.
            on_chain = coin_id in listed or schema.HISTORY.get(view, coin_id) is not None
            if not on_chain and not self._tree.is_listed(coin_id):
                batch.delete(schema.COIN.key(coin_id))
                self._archive.forget(coin_id)
                self._drop_absent(coin_id)

    def _drop_absent(self, anchor_id: CoinId) -> None:
        """Delete what is on record of an anchor that has waited for the clock, out of the tree."""
        record = schema.ANCHOR.get(self._ledger.view, anchor_id)
        if record is None or self._tree.get(anchor_id) is not None:
            return
        self._ledger.batch.delete(schema.ANCHOR.key(anchor_id))
        if record.body:
            for wid in Body.from_bytes(record.body).transfers:
                self._drop_transfer(Wid(wid))

    def _drop_transfer(self, wid: Wid) -> None:
        """Delete a transfer's bytes unless it waits or an anchor that counts lists it."""
        view = self._ledger.view
        if schema.MEMPOOL.get(view, wid) is not None or self._tree.is_listed_aside(wid):
            return
        raw = schema.TRANSFER.get(view, wid)
        if raw is None:
            return
        try:
            place = schema.TXID.get(view, SizedTransfer.from_bytes(raw, wid).txid)
        except NonCanonicalError:
            # listed by an anchor that counted, and was never connected
            place = None
        if place is None or place.wid != wid:
            self._ledger.batch.delete(schema.TRANSFER.key(wid))

    def prune_undo(self, running_ms: int) -> None:
        """Drop undo data that no reorganisation by itself can need (Protocol §6, last rule but
        one): below the last MAX_REORG anchors, of anchors that have been on the chain long enough,
        and never of the tree's root or above: it may reach deeper while a branch is weighed."""
        ledger, floor = self._ledger, self._ledger.undo_floor
        end = min(self._tree.tip.height - self._network.max_reorg, self._tree.root.height)
        for height in range(floor, min(floor + PRUNED_HEIGHTS_AT_ONCE, end)):
            if not self.is_settled(height, running_ms):
                return
            ledger.batch.delete(schema.UNDO.key(height))
            ledger.batch.delete(schema.STATE.key(height))
            ledger.undo_floor = height + 1
