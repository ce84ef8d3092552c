"""Votes in branches beside the two tips that nodes compare: three nodes' branches, two nodes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.framework.simulation.simnet import (
    EPOCH_S,
    SIM,
    SimNet,
    SimNode,
    lengthen,
    simulate,
    solve,
)
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Package, ProvenAnchor, ProvenCoin
from unchained.node.chain.template import build_template
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import Lock
from unchained.storage.memory import MemoryStore

NOW_MS = 2**62
LOCK = Lock(b"side branch".ljust(32, b"."))

Step = tuple[Coin, Package | None]
"""A coin, and its body where it is an anchor of a branch."""


def grow(below: Sequence[Step], name: bytes, anchors: int, votes: int) -> list[Step]:
    """Return what lengthens a chain by some anchors, and the last of them by some votes."""
    core = ChainCore(MemoryStore(), SIM, lambda: 0, 2**62)
    take_in(core, below)
    steps: list[Step] = []
    for _ in range(anchors):
        body = build_template(core, core.tip.context.time).body
        (anchor,) = lengthen(core, 1, plain=0, lock=name)
        steps.append((anchor, Package(anchor, body, {}, {})))
    template = build_template(core, core.tip.context.time)
    for number in range(votes):
        header = template.header(lock=LOCK, time=template.parent_time + 1 + number)
        steps.append((solve(header, SIM, False), None))
    return steps


def take_in(core: ChainCore, steps: Sequence[Step]) -> None:
    """Submit coins and bodies in order."""
    for coin, package in steps:
        core.submit_proven_coin(ProvenCoin(coin), NOW_MS)
        if package is not None:
            core.submit_proven_anchor(ProvenAnchor(package))


async def meet(net: SimNet, one: Sequence[Step], other: Sequence[Step]) -> tuple[SimNode, SimNode]:
    """Return two nodes that know so much, and of each other."""
    nodes = net.node(), net.node()
    for node, steps in zip(nodes, (one, other), strict=True):
        if node is nodes[1]:
            node.bootstrap = (nodes[0].transport.address,)
        await node.start()
        await node.core(lambda core, steps=steps: take_in(core, steps))
    assert nodes[0].tip != nodes[1].tip
    return nodes


@pytest.mark.parametrize("knows_the_branch", [False, True])
async def test_votes_on_a_side_branch_are_found(knows_the_branch: bool) -> None:
    async with simulate(21) as net:
        base = grow([], b"base", 2, 0)
        root = grow(base, b"left", 1, 0)
        left = grow([*base, *root], b"left", 1, 3)
        side = grow([*base, *root], b"side", 1, 2)
        right = grow(base, b"right", 2, 5)
        # With the votes on the side branch the left subtree has seven, without them five; the
        # right one has six. The tip of neither node is on the side branch.
        known = side[:1] if knows_the_branch else []
        one, other = await meet(
            net, [*base, *root, *left, *side, *right], [*base, *root, *left, *known, *right]
        )
        await net.until(lambda: one.tip == other.tip, "of one mind", 4 * EPOCH_S)
        assert one.tip == left[0][0].id
        for node in (one, other):
            assert node.network.peers.statistics().penalties == {}
