"""What a body lists, checked by the headers of its chain alone: before any Argon2id of it, where
the anchors below may not have been connected yet (Protocol §5.2: "all cheap checks before any
Argon2").

So an unproven coin is looked at only where it claims what its place allows: whoever has one looked
at for nothing has mined it there, or has forged a mix, which is found out at the first.
"""

from __future__ import annotations

from collections.abc import Mapping

from unchained.node.consensus.coins import check_claims, check_coin_alone, check_height
from unchained.node.consensus.params import Network
from unchained.node.consensus.transition import check_fresh_parent
from unchained.node.consensus.uncles import check_listed_time, check_uncle_hash, check_window
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId


def check_listed(
    anchor: Coin,
    body: Body,
    coins: Mapping[CoinId, Coin],
    targets: Mapping[int, int],
    network: Network,
) -> None:
    """Check an anchor's coin by itself, and those of its listed coins that are among `coins` by
    what its own header and those below it say.

    `targets` are those of the anchors of its chain by height, the last W of them where they are
    known: MAX_TARGET stands for any other. What passes may break a rule all the same; what does not
    breaks one for certain. Raises a `CoinError` or an `AnchorError`.
    """
    check_coin_alone(anchor, network)
    header = anchor.header
    for coin in _among(body.fresh, coins):
        check_listed_time(coin, header.time, network)
        check_fresh_parent(coin, anchor)
        check_coin_alone(coin, network)
        # It has the anchor's own parent.
        check_height(coin, header.height)
        check_claims(coin, header.n_total, header.target)
    for coin in _among(body.uncles, coins):
        check_listed_time(coin, header.time, network)
        check_window(header.height - coin.height, 0, network)
        # A late coin's own target is that of this chain's anchor at its height.
        check_uncle_hash(coin, targets.get(coin.height, network.max_target))
        check_coin_alone(coin, network)


def _among(ids: tuple[bytes, ...], coins: Mapping[CoinId, Coin]) -> list[Coin]:
    return [coins[CoinId(coin_id)] for coin_id in ids if CoinId(coin_id) in coins]
