"""More than a hundred whole nodes in one process."""

from __future__ import annotations

from tests.framework.simulation.simnet import EPOCH_S, simulate

NODES = 104


async def test_a_hundred_nodes_find_each_other_fork_and_heal() -> None:
    async with simulate(40) as net:
        nodes = [net.node(share=1 / 4 if number < 4 else 0.0) for number in range(NODES)]
        for number, node in enumerate(nodes):
            known = nodes[max(0, number - 12) : number : 4]
            node.bootstrap = tuple(other.transport.address for other in known)
            await node.start()
        await net.until(lambda: nodes[0].height >= 2, "under way", 40 * EPOCH_S)
        await net.agree(within_s=2 * EPOCH_S)
        assert min(len(node.transport.peers()) for node in nodes) >= 3
        sides = nodes[0::2], nodes[1::2]
        net.part(*sides)
        height = nodes[0].height
        await net.until(
            lambda: min(side[0].height for side in sides) > height, "forked", 40 * EPOCH_S
        )
        assert len(net.tips()) >= 2
        net.weather.heal()
        await net.agree(within_s=3 * EPOCH_S)
        for node in nodes:
            statistics = node.network.statistics()
            assert statistics.transport.faults == 0
            assert statistics.peers.bans == 0
            assert set(statistics.peers.penalties) <= {"cost"}
