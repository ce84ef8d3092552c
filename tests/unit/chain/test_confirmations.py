from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.framework.chains import accept, open_core, submit_coin
from tests.framework.forge import Forge, Forged
from tests.framework.wallets import WalletChain
from unchained.node.chain.confirmations import anchor_place, confirmations, confirmations_at
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


def test_an_anchor_is_no_safer_than_one_far_below_that_left_coins_out() -> None:
    scene = Scene()
    scene.vote(30)
    scene.anchor()
    for _ in range(3):
        scene.anchor(scene.vote(2))
    scene.vote(20)
    # 20 coins, three anchors and two coins on each parent, less 30.
    assert [scene.at(height) for height in (1, 2, 3, 4)] == [0, 0, 0, 0]
    scene.vote(5)
    assert [scene.at(height) for height in (1, 2, 3, 4)] == [4, 4, 4, 4]


def test_an_anchor_below_may_have_left_out_more_than_there_are_votes_above_it() -> None:
    scene = Scene()
    scene.vote(40)
    scene.anchor()
    scene.anchor(scene.vote(6))
    coins = scene.vote(10)
    # 6 coins, the anchor above and 10 coins, less 40.
    assert (scene.at(1), scene.at(2)) == (0, 0)
    scene.anchor(coins)
    scene.vote(25)
    # The next anchor and 25 coins more; 10 coins, that anchor and 25 coins on the second.
    assert (scene.at(1), scene.at(2), scene.at(3)) == (3, 3, 3)


def test_no_more_is_taken_off_than_a_rival_can_list() -> None:
    scene = Scene()
    most = scene.forge.network.max_listed
    scene.vote(most + 5)
    scene.anchor()
    scene.vote(most)
    assert scene.at(1) == 0
    scene.vote(3)
    assert scene.at(1) == 3


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


class Fork:
    """Two anchors on genesis, which list nothing, and as many votes for each."""

    def __init__(self, votes: int, rival_votes: int) -> None:
        self.scene = Scene()
        forge, now_ms = self.scene.forge, self.scene.forge.now_ms
        self.rival = forge.anchor(forge.genesis)
        self.scene.anchor()
        accept(self.scene.core, self.rival, now_ms)
        self.main = self.scene.tip
        if (self.rival.id < self.main.id) != (rival_votes > votes):
            # Without votes the lower id wins; of both names one will do.
            self.rival, self.main = self.main, self.rival
        self.votes = self.vote(self.main, votes)
        self.vote(self.rival, rival_votes)

    def vote(self, anchor: Forged, count: int) -> list[Coin]:
        coins = [self.scene.forge.coin(anchor) for _ in range(count)]
        for coin in coins:
            submit_coin(self.scene.core, coin, self.scene.forge.now_ms)
        return coins

    @property
    def is_undone(self) -> bool:
        return self.scene.core.tree.tip.id != self.main.id


@pytest.mark.parametrize(("votes", "rival_votes"), [(1, 0), (5, 3), (9, 8), (12, 1)])
def test_a_known_rival_undoes_nothing_by_fewer_votes_than_there_are_confirmations(
    votes: int, rival_votes: int
) -> None:
    fork = Fork(votes, rival_votes)
    assert not fork.is_undone
    needed, confirmed = 0, fork.scene.at(1)
    while not fork.is_undone:
        fork.vote(fork.rival, 1)
        needed += 1
    # With as many votes the lower id wins.
    assert confirmed == votes - rival_votes
    assert needed in (confirmed, confirmed + 1)


def test_what_is_above_an_anchor_is_no_safer_than_it_is_beside_its_rival() -> None:
    fork = Fork(4, 3)
    fork.scene.tip = fork.main
    fork.scene.anchor(fork.votes)
    fork.scene.vote(3)
    # The anchor above is a vote too; its own rival has none.
    assert (fork.scene.at(1), fork.scene.at(2)) == (5, 3)
    fork.vote(fork.rival, 3)
    assert (fork.scene.at(1), fork.scene.at(2)) == (2, 2)


def test_a_rival_that_is_dead_or_set_aside_takes_nothing_off() -> None:
    fork = Fork(5, 3)
    tree = fork.scene.core.tree
    node = tree.nodes[fork.rival.id]
    assert fork.scene.at(1) == 2
    tree.mark_dead(node)
    assert fork.scene.at(1) == 5


def test_confirmations_of_the_lowest_anchor_of_the_tree_are_its_votes() -> None:
    fork = Fork(5, 3)
    # Both anchors are votes for it.
    assert fork.scene.at(0) == 7


def test_who_has_read_up_to_an_anchor_is_told_the_confirmations_of_that_one_too() -> None:
    scene = Scene()
    first = scene.anchor()
    second = scene.anchor(scene.vote(2))
    scene.vote(3)
    view = scene.core.view
    expected = {height: scene.at(height) for height in range(3)}
    assert expected[2] == 3
    assert confirmations(view, second.id, range(5)) == expected
    del expected[2]
    assert confirmations(view, first.id, range(5)) == expected


def test_who_has_read_up_to_a_rival_is_told_of_what_both_chains_share() -> None:
    fork = Fork(5, 3)
    view = fork.scene.core.view
    assert confirmations(view, fork.rival.id, (0, 1)) == {0: fork.scene.at(0)}


def test_an_anchor_beside_the_main_chain_has_votes_and_no_confirmations() -> None:
    fork = Fork(5, 3)
    view = fork.scene.core.view
    found = anchor_place(view, fork.rival.coin, 0)
    assert (found.standing, found.next, found.votes, found.confirmations) == ("side", None, 3, 0)
    found = anchor_place(view, fork.main.coin, 0)
    assert (found.standing, found.next, found.votes, found.confirmations) == ("main", None, 5, 2)
