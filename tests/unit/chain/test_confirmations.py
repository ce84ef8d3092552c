from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.framework.chains import accept, open_core, submit_coin
from tests.framework.forge import Forge, Forged
from tests.framework.wallets import WalletChain
from unchained.node.chain.confirmations import confirmations_at
from unchained.node.chain.core import ChainCore
from unchained.node.primitives.coin import Coin
from unchained.storage.memory import MemoryStore

COINS = 3
"""Bound to each anchor but the last: two fresh coins, and the next anchor."""


class Scene:
    """A chain on which coins and anchors are made one by one."""

    def __init__(self) -> None:
        self.forge = Forge()
        self.core: ChainCore = open_core(MemoryStore(), self.forge.network)
        self.tip = self.forge.genesis

    def vote(self, count: int) -> list[Coin]:
        """Bind so many plain coins to the last anchor."""
        coins = [self.forge.coin(self.tip) for _ in range(count)]
        for coin in coins:
            submit_coin(self.core, coin, self.forge.now_ms)
        return coins

    def anchor(self, fresh: Sequence[Coin] = ()) -> Forged:
        """Add an anchor that lists these coins."""
        self.tip = self.forge.anchor(self.tip, fresh)
        accept(self.core, self.tip, self.forge.now_ms)
        assert self.core.tree.tip.id == self.tip.id
        return self.tip

    def at(self, height: int) -> int:
        return confirmations_at(self.core.view, height)


def test_confirmations_count_what_is_bound_to_an_anchor_and_those_above() -> None:
    chain = WalletChain()
    chain.grow(chain.core.network.max_reorg + 20, *[chain._nobody] * COINS)
    settled = chain.core.tree.root.height
    assert settled > 2
    for height in (1, 2, settled - 1, settled, settled + 1, chain.height - 3, chain.height):
        assert confirmations_at(chain.core.view, height) == COINS * (chain.height - height)


def test_what_an_anchor_left_out_is_taken_off_its_votes() -> None:
    scene = Scene()
    known = scene.vote(5)
    scene.anchor(known[:1])
    assert scene.at(1) == 0
    scene.vote(4)
    assert scene.at(1) == 0
    scene.vote(1)
    assert scene.at(1) == 1
    # What comes late for an anchor could be listed by a rival all the same.
    late = scene.forge.coin(scene.forge.genesis)
    submit_coin(scene.core, late, scene.forge.now_ms)
    assert scene.at(1) == 0


def test_an_anchor_above_is_no_safer_than_the_one_below_that_left_coins_out() -> None:
    scene = Scene()
    scene.vote(9)
    scene.anchor()
    scene.anchor(scene.vote(2))
    coins = scene.vote(4)
    # 2 coins, the anchor above and 4 coins, less 9.
    assert (scene.at(1), scene.at(2)) == (0, 0)
    coins += scene.vote(4)
    assert (scene.at(1), scene.at(2)) == (2, 2)
    # Of its own there are no more: 8 votes, and none was left out.
    coins += scene.vote(9)
    assert (scene.at(1), scene.at(2)) == (11, 11)
    scene.anchor(coins)
    scene.vote(3)
    assert (scene.at(1), scene.at(2), scene.at(3)) == (15, 15, 3)


@pytest.mark.parametrize("left_out", [4, 7])
def test_no_payment_that_has_confirmations_is_undone_by_a_rival_without_votes(
    left_out: int,
) -> None:
    undone = 0
    for votes in range(left_out + 2):
        scene = Scene()
        rival = scene.forge.anchor(scene.forge.genesis, scene.vote(left_out))
        scene.anchor()
        scene.vote(votes)
        confirmed = scene.at(1)
        accept(scene.core, rival, scene.forge.now_ms)
        if scene.core.tree.tip.id == rival.id:
            undone += 1
            assert confirmed == 0
    # A vote counts for two fresh coins.
    assert undone >= left_out // 2
