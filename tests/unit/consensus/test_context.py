"""An anchor as its children see it (§4, §6, §7), against what the forge has worked out."""

from __future__ import annotations

import msgspec

from tests.framework.forge import Forge, Forged
from tests.framework.rules import context_of
from tests.framework.slow_ranges import slow_anchor_node
from unchained.node.consensus.context import (
    AnchorContext,
    child_context,
    genesis_context,
    leaf_of,
)
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG

RETARGETING = msgspec.structs.replace(REG, tau_ms=20_000, max_target=2**255)


def listed(anchor: Forged) -> int:
    return len(anchor.body.fresh) + len(anchor.body.uncles)


def test_contexts_go_from_parent_to_child() -> None:
    forge = Forge(RETARGETING)
    step = forge.genesis
    for fresh, gap in ((2, 900), (0, 5_000), (3, 10), (1, 40_000), (0, 1)):
        coins = [forge.coin(step) for _ in range(fresh)]
        step = forge.anchor(step, coins, time=step.time + gap)
    late = forge.coin(step.chain()[2])
    step = forge.anchor(step, [forge.coin(step)], [late])
    targets = set()
    for anchor in step.chain()[1:]:
        parent = anchor.parent
        assert parent is not None
        found = child_context(anchor.coin, listed(anchor), context_of(parent), RETARGETING)
        assert found == context_of(anchor)
        targets.add(found.child_target)
    assert len(targets) > 3, "what follows from time and coins makes a difference"


def test_the_first_anchor_is_where_time_and_coins_are_counted_from() -> None:
    forge = Forge(RETARGETING)
    first = forge.anchor(forge.genesis, [forge.coin(forge.genesis)], time=forge.genesis.time + 77)
    found = child_context(first.coin, 1, context_of(forge.genesis), RETARGETING)
    assert (found.origin_time, found.origin_n_total) == (first.time, 2)
    assert (found.height, found.time, found.child_n_total) == (1, first.time, 2)
    assert found.child_target == RETARGETING.target0
    second = forge.anchor(first)
    after = child_context(second.coin, 0, found, RETARGETING)
    assert (after.origin_time, after.origin_n_total) == (first.time, 2)
    assert after.child_n_total == 3


def test_genesis_as_its_children_see_it() -> None:
    genesis = genesis_of(REG)
    found = genesis_context(genesis.coin, genesis.history, REG)
    assert found == AnchorContext(
        genesis.id, 0, REG.birth_ms, 0, REG.target0, 0, 0, genesis.history
    )
    assert found == context_of(Forge(REG).genesis)
    assert genesis_context(genesis.coin, None, REG).history is None


def test_without_a_history_there_is_none_after_it() -> None:
    forge = Forge(REG)
    anchor = forge.anchor(forge.genesis)
    parent = msgspec.structs.replace(context_of(forge.genesis), history=None)
    found = child_context(anchor.coin, 0, parent, REG)
    assert found.history is None
    assert found == msgspec.structs.replace(context_of(anchor), history=None)


def test_an_anchors_node_counts_its_own_coin_too() -> None:
    forge = Forge(REG)
    anchor = forge.anchor(forge.genesis, [forge.coin(forge.genesis) for _ in range(3)])
    header = anchor.coin.header
    assert leaf_of(anchor.coin, 3, REG) == slow_anchor_node(
        anchor.id, header.target, REG.coins_per_epoch, 3, header.time
    )
