"""What a node does that has nothing to do: counted, so that no machine is too slow for it."""

from __future__ import annotations

from collections import Counter

import trio

from tests.framework.simulation.simnet import EPOCH_S, simulate
from unchained.node.consensus.genesis import genesis_of
from unchained.node.wire.limits import name_of

NODES = 5
MINUTES = 5
STEPS_PER_MINUTE_MAX = {"peers.": 130, "sync.": 30, "Switchboard._beat": 60}
"""Steps of tasks, by what their names hold, of a node with four peers that asks for a status every
half epoch, here 15 times a minute."""


class StepCounter(trio.abc.Instrument):
    """Counts the steps of tasks by name."""

    def __init__(self) -> None:
        self.steps: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps[task.name] += 1


async def test_an_idle_node_with_four_peers_wakes_seldom() -> None:
    async with simulate(77) as net:
        nodes = await net.grow(NODES)
        await net.mingle(nodes, NODES - 1)
        net.pause_mining()
        await net.agree()
        await trio.sleep(10 * EPOCH_S)
        counter = StepCounter()
        trio.lowlevel.add_instrument(counter)
        await trio.sleep(60 * MINUTES)
        trio.lowlevel.remove_instrument(counter)
        for kind, most in STEPS_PER_MINUTE_MAX.items():
            steps = sum(count for name, count in counter.steps.items() if kind in name)
            assert 0 < steps / NODES / MINUTES <= most, kind


async def test_a_node_without_peers_does_not_wake_for_gossip() -> None:
    async with simulate(78) as net:
        (alone,) = await net.grow(1)
        await trio.sleep(EPOCH_S)
        counter = StepCounter()
        trio.lowlevel.add_instrument(counter)
        await trio.sleep(60)
        trio.lowlevel.remove_instrument(counter)
        assert not [name for name in counter.steps if "Switchboard._beat" in name]
        # Nor is who comes told of what was gossiped long before.
        cache = alone.transport.switchboard.router._cache
        topic = name_of(genesis_of(net.params).id, "transfer")
        for number in range(50):
            await alone.transport.publish(topic, b"%d" % number)
        assert sum(kept.topic == topic for kept in cache.values()) == 50
        await trio.sleep(60)
        (other,) = await net.grow(1)
        await net.mingle([alone, other], 1)
        assert not any(kept.topic == topic for kept in cache.values())
        await net.until(lambda: alone.height == other.height > 0, "a chain of both", 200)
