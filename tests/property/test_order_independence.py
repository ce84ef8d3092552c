"""The same coins, bodies and transfers give the same tip in whatever order they come (§6)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
import structlog
import trio
from structlog.testing import CapturingLogger

from tests.framework.chains import Feeder, Item, accept, open_core, shuffled, submit_coin
from tests.framework.forge import BACKEND, Forge
from tests.framework.model import Model
from tests.framework.trees import RandomTree
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.params import REG, Network
from unchained.node.primitives.coin import Coin
from unchained.storage.memory import MemoryStore

RETARGETING = msgspec.structs.replace(REG, tau_ms=200_000)
SHALLOW = msgspec.structs.replace(REG, max_reorg=6)


def make_tree(network: Network, seed: int, steps: int) -> RandomTree:
    """Return a tree with invalid anchors in it that nobody mines on, as nobody honest does.

    (A vote for an anchor that fails §5.3 counts for its ancestors until somebody has tried to
    connect that anchor.)
    """
    tree = RandomTree(Forge(network), random.Random(seed), broken=0.12, depth=5, on_unsound=False)
    tree.grow(steps)
    return tree


def items_of(tree: RandomTree) -> list[Item]:
    return [*tree.coins.values(), *tree.anchors[1:]]


@pytest.mark.parametrize("network", [REG, RETARGETING], ids=["steady", "retargeting"])
@pytest.mark.parametrize("seed", range(6))
def test_cores_agree(network: Network, seed: int) -> None:
    rng = random.Random(seed)
    tree = make_tree(network, seed, 30)
    tip = Model(network, tree.known()).tip
    states = set()
    for _ in range(4):
        feeder = Feeder(open_core(MemoryStore(), network), tree.forge.now_ms)
        feeder.submit_all(shuffled(rng, items_of(tree)))
        core = feeder.core
        states.add((core.tip.id, core.ledger.state_root(), core.ledger.supply))
        assert core.tip.id == tip.id
    assert len(states) == 1


@pytest.mark.parametrize("age", range(SHALLOW.max_reorg))
def test_votes_for_a_losing_branch_count_at_every_age(age: int) -> None:
    forge = Forge(SHALLOW)
    base = forge.grow(forge.genesis, 3)
    main = [forge.anchor(base)]
    for _ in range(age):
        main.append(forge.anchor(main[-1]))
    losing = forge.anchor(base)
    votes = [forge.coin(losing) for _ in range(age + 4)]
    tips = set()
    for first in (main, [losing]):
        core = open_core(MemoryStore(), SHALLOW)
        for anchor in base.chain()[1:]:
            accept(core, anchor, forge.now_ms)
        second = [losing] if first is main else main
        for anchor in first:
            accept(core, anchor, forge.now_ms)
        if first is not main:
            for vote in votes:
                submit_coin(core, vote, forge.now_ms)
        for anchor in second:
            accept(core, anchor, forge.now_ms)
        if first is main:
            assert core.tip.id == main[-1].id or age == 0
            for vote in votes:
                submit_coin(core, vote, forge.now_ms)
        tips.add(core.tip.id)
    assert tips == {losing.id}


async def feed(manager: ChainService, items: Sequence[Item]) -> None:
    """Submit from several tasks at once; bodies again and again until they are validated."""

    async def submit(item: Item) -> None:
        for _ in range(200):
            try:
                if isinstance(item, Coin):
                    await manager.submit_coin(item)
                else:
                    await manager.submit_package(item.package())
            except ProtocolError as error:
                if error.name not in {"UNKNOWN_PARENT", "BODY_MISSING"}:
                    return
            else:
                return
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(submit, item)


@pytest.mark.parametrize("seed", range(3))
async def test_services_agree(seed: int) -> None:
    rng = random.Random(seed)
    tree = make_tree(REG, seed + 50, 20)

    async with trio.open_nursery() as nursery:
        managers = []
        for _ in range(2):
            manager = await ChainService.open(
                MemoryStore(),
                REG,
                clock=TrioClock(tree.forge.now_ms),
                writer=InlineRunner(),
                verifier=InlineRunner(),
                verifiers=2,
                backend=BACKEND,
                log=structlog.wrap_logger(
                    CapturingLogger(), wrapper_class=structlog.make_filtering_bound_logger(0)
                ),
            )
            await nursery.start(manager.run)
            managers.append(manager)
        async with trio.open_nursery() as feeding:
            for manager in managers:
                feeding.start_soon(feed, manager, shuffled(rng, items_of(tree)))
        await trio.sleep(10)
        tips = {manager.status.value.tip for manager in managers}
        assert tips == {Model(REG, tree.known()).tip.id}
        nursery.cancel_scope.cancel()
