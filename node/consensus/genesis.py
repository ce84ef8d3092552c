"""Genesis of a network: the anchor that every chain begins with (Protocol §10)."""

from __future__ import annotations

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.crypto.lthash import StateCommitment
from unchained.node.crypto.merkle import merkle_root
from unchained.node.crypto.mmr import EMPTY_HISTORY, History
from unchained.node.primitives.body import Body, body_root_of
from unchained.node.primitives.coin import MIX_SIZE, Coin, CoinHeader
from unchained.node.primitives.hashing import LOCK, PARAMS
from unchained.node.primitives.types import CoinId, Lock


class Genesis(msgspec.Struct, frozen=True):
    """Genesis' coin and body, and what the chain commits to after it.

    `state` is the encoding of a `StateCommitment`: to no coins, since genesis mints nothing.
    """

    coin: Coin
    body: Body
    state: bytes
    history: History

    @property
    def id(self) -> CoinId:
        """Genesis' id, whose first 8 hex digits name the network to peers (Protocol §11)."""
        return self.coin.id


def genesis_of(network: Network) -> Genesis:
    """Return genesis of a network."""
    state = StateCommitment()
    body = Body((), (), (), state.root(), EMPTY_HISTORY.root())
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
    return Genesis(coin, body, state.to_bytes(), EMPTY_HISTORY.append(coin.id))
