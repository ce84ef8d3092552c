"""Confirmations in votes, as people and programs are told them."""

from __future__ import annotations

from tests.framework.wallets import WalletChain
from unchained.node.rpc.methods.chain import votes_since

COINS = 3
"""Bound to each anchor but the last: two fresh coins, and the next anchor."""


def test_counts_what_is_bound_to_an_anchor_and_those_above() -> None:
    chain = WalletChain()
    chain.grow(chain.core.network.max_reorg + 20, *[chain._nobody] * COINS)
    settled = chain.core.tree.root.height
    assert settled > 2
    for height in (1, 2, settled - 1, settled, settled + 1, chain.height - 3, chain.height):
        assert votes_since(chain.core, height) == COINS * (chain.height - height)
