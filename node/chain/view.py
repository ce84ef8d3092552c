"""What a read of the chain sees: all that the writer has, at one moment, to look at only."""

from __future__ import annotations

import msgspec

from unchained.node.chain.branch import Archive
from unchained.node.chain.mempool.waiting_transfers import WaitingTransfers
from unchained.node.chain.reorg_window import ReorgWindow
from unchained.node.chain.tree import AnchorTree
from unchained.node.consensus.params import Network
from unchained.node.crypto.history_range import HistoryRange
from unchained.storage.kv import Getter


class ChainView(msgspec.Struct, frozen=True):
    """The anchors of the last MAX_REORG heights, known coins and old anchors, the main chain's
    history, the store as it will be after the next flush, and the transfers that wait. Of use in
    the writer's thread alone."""

    network: Network
    tree: AnchorTree
    archive: Archive
    history: HistoryRange
    store: Getter
    waiting: WaitingTransfers
    window: ReorgWindow
