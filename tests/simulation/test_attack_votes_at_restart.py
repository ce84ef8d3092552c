"""Votes that an anchor listed as strays, and that a restart must not lose (Protocol §6).

Z lists P, an anchor that lost its race and whose body nobody here has, and coins bound to P. Then
Z turns out not to be connectable. What a node knows of a coin and whether it counts is one fact on
disk: the coins count when P's body comes, before a restart and after.
"""

from __future__ import annotations

import pytest
import trio

from tests.framework.attacks import scores_of, take_in, votes_for
from tests.framework.chains import Item
from tests.framework.forge import Forge
from tests.framework.simulation.simnet import EPOCH_S, SIM, SimNet, SimNode, simulate
from unchained.node.primitives.coin import Coin


class Story:
    """With its strays P's branch wins over the right one, without them it does not."""

    def __init__(self) -> None:
        forge = Forge(SIM)
        self.p = forge.anchor(forge.genesis)
        self.right = forge.anchor(forge.genesis)
        self.strays: list[Coin] = [forge.coin(self.p) for _ in range(6)]
        self.votes: list[Coin] = [forge.coin(self.right) for _ in range(3)]
        # What lists the strays fails when it is connected.
        self.z = forge.anchor(
            self.right, uncles=[self.p.coin, *self.strays], body_fields={"state_root": bytes(32)}
        )

    def heard(self) -> list[Item]:
        """Return all but P's body."""
        return [self.right.coin, self.right, *self.votes, self.z.coin, self.z]


async def restarted(net: SimNet, story: Story) -> SimNode:
    """Return a node that has heard of Z, and was restarted then."""
    node = net.node()
    await node.start()
    assert await take_in(node, story.heard()) == {}
    assert node.tip == story.right.id
    await node.stop()
    await node.start()
    return node


async def assert_counted(node: SimNode, story: Story) -> None:
    """Check that the strays count, and make P the tip."""
    votes = await votes_for(node, story.p.id)
    assert {coin.id for coin in story.strays} <= votes, node.name
    assert node.tip == story.p.id, node.name


async def test_strays_of_a_dead_anchor_count_after_a_restart() -> None:
    async with simulate(71) as net:
        story = Story()
        node = await restarted(net, story)
        assert await take_in(node, [story.p.coin, story.p]) == {}
        await assert_counted(node, story)
        await node.stop()
        await node.start()
        await assert_counted(node, story)


@pytest.mark.parametrize("has_heard_of_z", [False, True])
async def test_two_nodes_of_which_one_was_restarted_agree(has_heard_of_z: bool) -> None:
    """The other has all of it, and is asked."""
    async with simulate(72) as net:
        story = Story()
        node = await restarted(net, story)
        other = net.node()
        await other.start()
        known = story.heard() if has_heard_of_z else [story.right.coin, story.right, *story.votes]
        assert await take_in(other, [*known, story.p.coin, story.p, *story.strays]) == {}
        assert other.tip == story.p.id
        await node.transport.connect(other.transport.address)
        await net.until(lambda: len(net.tips()) == 1, "of one mind", 4 * EPOCH_S)
        await trio.sleep(EPOCH_S)
        for one in (node, other):
            await assert_counted(one, story)
        if has_heard_of_z:
            assert await scores_of(node) == await scores_of(other)


async def test_strays_told_again_after_a_restart_count() -> None:
    async with simulate(73) as net:
        story = Story()
        node = await restarted(net, story)
        assert await take_in(node, [story.p.coin, story.p, *story.strays]) == {}
        await assert_counted(node, story)
