"""Genesis of a network: the anchor that every chain begins with (Protocol §10)."""

from __future__ import annotations

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.crypto.history_range import EMPTY_HISTORY, HistoryNode, HistoryPeaks
from unchained.node.crypto.merkle import merkle_root
from unchained.node.crypto.state_range import state_root
from unchained.node.primitives.body import Body, body_root_of
from unchained.node.primitives.coin import MIX_SIZE, Coin, CoinHeader
from unchained.node.primitives.hashing import LOCK, PARAMS
from unchained.node.primitives.types import CoinId, Lock


class Genesis(msgspec.Struct, frozen=True):
    """Genesis' coin and body, and the history after it. The state after it has no positions and an
    empty pool, since genesis mints nothing."""

    coin: Coin
    body: Body
    history: HistoryPeaks

    @property
    def id(self) -> CoinId:
        """Genesis' id, whose first 8 hex digits name the network to peers (Protocol §11)."""
        return self.coin.id


def genesis_of(network: Network) -> Genesis:
    """Return genesis of a network."""
    # Protocol §10: "body_root of the empty body over the empty state and the empty history"
    body = Body((), (), (), state_root(0, 0, 0, ()), EMPTY_HISTORY.root())
    no_ids = merkle_root(())
    header = CoinHeader(
        chain_id=network.chain_id,
        version=1,
        parent=CoinId(PARAMS(network.column_bytes())),
        height=0,
        time=network.birth_ms,
        n_total=0,
        target=network.target0,
        lock=Lock(LOCK(b"genesis " + network.name.encode())),
        body_root=body_root_of(no_ids, no_ids, no_ids, body.state_root, body.history_root),
        nonce=0,
    )
    coin = Coin.assemble(header, bytes(MIX_SIZE))
    # Protocol §4: "genesis's: work 0, coins 0"
    leaf = HistoryNode.of_anchor(coin.id, 0, 0, header.time).to_bytes()
    return Genesis(coin, body, EMPTY_HISTORY.append(leaf))
