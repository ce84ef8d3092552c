"""A chain as the rules read it: above the tree's root by its nodes, below it by the store."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.chains import submit_body
from tests.framework.corechain import Chain
from tests.framework.forge import Forge, Forged
from tests.framework.rules import context_of, rule_broken
from unchained.node.chain import branch as branch_module
from unchained.node.chain.branch import CACHED_COINS, Archive, Branch, KnownParents
from unchained.node.consensus.params import REG
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage.memory import MemoryStore

NETWORK = msgspec.structs.replace(REG, max_reorg=4, window=3, tau_ms=20_000, max_target=2**255)
UNKNOWN = CoinId(b"u" * 32)


class Forked(Chain):
    """A main chain of nine anchors of which five are in the tree, and a side branch of two."""

    def __init__(self) -> None:
        super().__init__(NETWORK)
        step = self.genesis
        self.listed: dict[int, Coin] = {}
        """A fresh coin of each height at which one is listed."""
        for height in range(1, 9):
            fresh = [self.forge.coin(step) for _ in range(1 + height % 3)]
            late = [self.forge.coin(step.chain()[-2])] if height in (3, 4) else []
            anchor = self.forge.anchor(step, fresh, late, time=step.time + 700 * height)
            self.listed[height] = fresh[0]
            step = self.take(anchor)
        self.fork = step
        fresh = [self.forge.coin(step)]
        self.listed[9] = fresh[0]
        self.main = self.take(self.forge.anchor(step, fresh))
        self.vote(self.main, 9)
        self.side_listed = self.forge.coin(step)
        self.side = self.take(
            self.forge.anchor(step, [self.side_listed], time=self.fork.time + 5_000)
        )
        self.upper = self.take(self.forge.anchor(self.side))
        assert self.core.tip.id == self.main.id
        assert self.core.tree.root.height == 5

    def branch(self, tip: Forged) -> Branch:
        return Branch(self.core.tree, self.core.tree.nodes[tip.id], self.core.archive)


@pytest.fixture(scope="module")
def forked() -> Forked:
    return Forked()


def without_history(anchor: Forged) -> object:
    return msgspec.structs.replace(context_of(anchor), history=None)


# A branch


def test_each_anchor_of_a_branch_is_found_by_its_height(forked: Forked) -> None:
    for tip in (forked.main, forked.upper, forked.side, forked.fork):
        branch = forked.branch(tip)
        for anchor in tip.chain():
            wanted = context_of(anchor) if anchor.height >= 5 else without_history(anchor)
            assert branch.anchor_at(anchor.height) == wanted
            assert branch.target_at(anchor.height) == anchor.coin.header.target
        for height in (-1, tip.height + 1, 2**40):
            assert branch.anchor_at(height) is None
            assert branch.target_at(height) is None
    assert len({step.coin.header.target for step in forked.upper.chain()}) > 5


def test_what_a_branch_includes(forked: Forked) -> None:
    main, upper = forked.branch(forked.main), forked.branch(forked.upper)
    for height in range(1, 9):
        coin = forked.listed[height]
        for branch in (main, upper):
            assert branch.included(coin.id) == coin
            assert branch.included(coin.id, height) == coin
    for anchor in forked.fork.chain():
        assert main.included(anchor.id) == upper.included(anchor.id) == anchor.coin
    assert main.included(UNKNOWN) is None


def test_a_branch_includes_nothing_of_another(forked: Forked) -> None:
    main, upper = forked.branch(forked.main), forked.branch(forked.upper)
    for coin in (forked.listed[9], forked.main.coin):
        assert main.included(coin.id) == coin
        assert upper.included(coin.id) is None
        assert upper.included(coin.id, coin.height) is None
    for coin in (forked.side_listed, forked.side.coin, forked.upper.coin):
        assert upper.included(coin.id) == coin
        assert main.included(coin.id) is None


def test_since_says_below_which_height_need_not_be_looked(forked: Forked) -> None:
    branch = forked.branch(forked.upper)
    low = forked.listed[3]
    assert branch.included(low.id, 4) == low
    assert branch.included(low.id, 5) is None
    in_tree = forked.listed[6]
    assert branch.included(in_tree.id, 8) == in_tree, "in the tree it costs nothing"


def test_below_a_root_of_height_one_there_is_genesis() -> None:
    chain = Chain(NETWORK)
    tip = chain.grow(chain.genesis, NETWORK.max_reorg + 1)
    assert chain.core.tree.root.height == 1
    branch = Branch(chain.core.tree, chain.core.tree.nodes[tip.id], chain.core.archive)
    assert branch.included(chain.genesis.id) == chain.genesis.coin
    assert branch.included(chain.genesis.id, 1) is None
    assert branch.anchor_at(0) == without_history(chain.genesis)


# What is known of parents


def test_only_what_counts_in_the_tree_has_a_context(forked: Forked) -> None:
    known = KnownParents(forked.core.tree, forked.core.archive)
    assert known.context_of(forked.side.id) == context_of(forked.side)
    low = forked.main.chain()[3]
    assert known.context_of(low.id) is None
    assert known.context_of(UNKNOWN) is None
    assert known.coin(low.id) == low.coin
    assert known.coin(forked.side.id) == forked.side.coin
    assert known.coin(forked.listed[2].id) == forked.listed[2]
    assert known.coin(UNKNOWN) is None
    assert known.is_settled(low.coin)
    assert not known.is_settled(forked.side.coin)
    assert not known.is_invalid(forked.side.id)
    assert not known.is_invalid(UNKNOWN)


def test_an_anchor_without_a_body_or_with_a_bad_one_has_no_context() -> None:
    chain = Chain()
    bare = chain.forge.anchor(chain.genesis)
    bad = chain.forge.anchor(chain.genesis, body_fields={"history_root": bytes(32)})
    for anchor in (bare, bad):
        chain.coin(anchor.coin)
    assert rule_broken(lambda: submit_body(chain.core, bad)) == "BAD_HISTORY_ROOT"
    known = KnownParents(chain.core.tree, chain.core.archive)
    assert known.context_of(bare.id) is None
    assert known.context_of(bad.id) is None
    assert known.is_invalid(bad.id)
    assert not known.is_invalid(bare.id)


# The archive


def test_the_main_chain_is_found_by_height(forked: Forked) -> None:
    archive = forked.core.archive
    for anchor in forked.main.chain():
        assert archive.main_id(anchor.height) == anchor.id
        assert archive.main_anchor(anchor.height) == anchor.coin
        later = context_of(forked.main)
        assert archive.main_context(anchor.height, later) == without_history(anchor)
    above = forked.main.height + 1
    assert archive.main_id(above) is None
    assert archive.main_anchor(above) is None
    assert archive.main_context(above, context_of(forked.main)) is None


def test_bodies_and_heights_of_inclusion(forked: Forked) -> None:
    archive = forked.core.archive
    assert archive.body(forked.side.id) == forked.side.body
    assert archive.body(forked.main.id) == forked.main.body
    assert archive.body(UNKNOWN) is None
    for height, coin in forked.listed.items():
        assert archive.inclusion_height(coin.id) == height
    assert archive.inclusion_height(forked.main.id) == forked.main.height
    assert archive.inclusion_height(forked.side_listed.id) is None


def test_an_anchor_whose_body_has_not_come_has_none() -> None:
    chain = Chain()
    bad = chain.forge.anchor(chain.genesis, body_fields={"history_root": bytes(32)})
    chain.coin(bad.coin)
    assert chain.core.archive.body(bad.id) is None
    assert rule_broken(lambda: submit_body(chain.core, bad)) == "BAD_HISTORY_ROOT"
    assert chain.core.archive.body(bad.id) is None, "what was ruled out is not kept"


def test_coins_at_hand_are_a_few_and_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CACHED_COINS == 4_096
    monkeypatch.setattr(branch_module, "CACHED_COINS", 3)
    forge = Forge()
    coins = [forge.coin(forge.genesis) for _ in range(5)]
    archive = Archive(MemoryStore(), REG)
    for coin in coins[:3]:
        archive.keep(coin)
    assert all(archive.knows(coin.id) for coin in coins[:3])
    archive.keep(coins[3])
    assert [archive.knows(coin.id) for coin in coins] == [False, True, True, True, False]
    assert archive.coin(coins[3].id) is coins[3]
    assert archive.coin(coins[0].id) is None
    archive.forget(coins[1].id)
    assert not archive.knows(coins[1].id)
    archive.forget(coins[4].id)
    archive.keep(coins[4])
    assert [archive.knows(coin.id) for coin in coins] == [False, False, True, True, True]


def test_a_coin_that_is_read_is_at_hand_from_then_on(forked: Forked) -> None:
    archive = Archive(forked.core.ledger.view, NETWORK)
    coin = forked.listed[2]
    assert archive.knows(coin.id)
    found = archive.coin(coin.id)
    assert found == coin
    assert archive.coin(coin.id) is found
