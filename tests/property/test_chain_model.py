"""The chain's incremental state equals what the naive model works out from nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from tests.framework.chains import (
    Feeder,
    Item,
    as_made,
    assert_equal_to_model,
    nearly_as_made,
    open_core,
    replay_events,
    shuffled,
    tree_of,
)
from tests.framework.forge import Forge
from tests.framework.model import Model, ModelMemory
from tests.framework.trees import RandomTree
from unchained.node.consensus.params import REG, Network
from unchained.storage.memory import MemoryDisk, MemoryStore

RETARGETING = msgspec.structs.replace(REG, tau_ms=200_000)
SHALLOW = msgspec.structs.replace(REG, max_reorg=4, window=3)
SLOW_TO_MATURE = msgspec.structs.replace(REG, maturity=3, window=3)


class Running:
    """A node's running time that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self._ms = 0

    def more(self) -> int:
        self._ms += 1_000
        return self._ms


Order = Callable[[RandomTree, random.Random], list[Item]]


def in_any_order(tree: RandomTree, rng: random.Random) -> list[Item]:
    return shuffled(rng, as_made(tree, rng))


def run_case(
    network: Network,
    seed: int,
    *,
    steps: int = 25,
    broken: float,
    order_of: Order = in_any_order,
    on_unsound: bool = True,
    depth: int = 4,
) -> None:
    rng = random.Random(seed)
    forge = Forge(network)
    tree = RandomTree(forge, rng, broken=broken, on_unsound=on_unsound, depth=depth)
    tree.grow(steps)
    disk = MemoryDisk()
    running = Running()
    feeder = Feeder(open_core(MemoryStore(disk), network, running.more), forge.now_ms)
    order = order_of(tree, rng)
    memory = ModelMemory()

    def check() -> None:
        model = Model(
            network,
            feeder.known(tree.known()),
            root=feeder.core.tree.root.id,
            memory=memory,
        )
        assert_equal_to_model(feeder.core, model)

    def restart() -> None:
        before = tree_of(feeder.core), feeder.core.tree.root.id
        waiting = {entry.wid for entry in feeder.core.mempool}
        feeder.core = open_core(MemoryStore(disk), network, running.more)
        assert (tree_of(feeder.core), feeder.core.tree.root.id) == before
        assert {entry.wid for entry in feeder.core.mempool} == waiting

    def between() -> None:
        draw = rng.random()
        if draw < 0.04:
            restart()
        if draw < 0.01:
            check()

    left = feeder.submit_all(order, between)
    check()
    main, _, waiting = replay_events(feeder.core.store, forge.genesis.id)
    assert main[-1] == feeder.core.tip.id
    assert waiting == {entry.wid for entry in feeder.core.mempool}
    restart()
    check()
    if network.max_reorg < REG.max_reorg:
        return
    complete = Model(network, tree.known(), memory=memory)
    assert feeder.core.tip.id == complete.tip.id
    for anchor in tree.anchors[1:]:
        known = complete.invalid.get(anchor.id)
        if anchor.id in feeder.errors and known is not None and known != feeder.errors[anchor.id]:
            assert feeder.errors[anchor.id].startswith("PARENT"), (known, feeder.errors[anchor.id])
    for item in left:
        assert item.id not in complete.anchors


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_in_random_order(seed: int) -> None:
    run_case(REG, seed, broken=0.15, on_unsound=seed % 2 == 0)


@pytest.mark.parametrize("seed", range(100, 106))
def test_random_trees_in_order(seed: int) -> None:
    run_case(REG, seed, broken=0.15, order_of=as_made)


@pytest.mark.parametrize("seed", range(200, 206))
def test_valid_trees_that_retarget(seed: int) -> None:
    run_case(RETARGETING, seed, broken=0.05)


@pytest.mark.parametrize("seed", range(300, 306))
def test_trees_of_coins_that_mature_slowly(seed: int) -> None:
    run_case(SLOW_TO_MATURE, seed, broken=0.1)


@pytest.mark.parametrize("seed", range(400, 412))
def test_trees_that_outgrow_the_deepest_reorganisation(seed: int) -> None:
    run_case(SHALLOW, seed, steps=40, broken=0.1, order_of=nearly_as_made, depth=3 + seed % 3)
