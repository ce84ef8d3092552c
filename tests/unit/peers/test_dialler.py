"""What a dial leaves behind that reaches nobody."""

from __future__ import annotations

from tests.unit.peers.test_manager import NOW_MS, PEER, Peer, a_world
from unchained.node.peers.reputation import PeerLimits
from unchained.node.transport.contract import PeerId


async def test_who_was_probed_in_vain_counts_when_it_is_there() -> None:
    async with a_world() as world:
        node = Peer(world, "30.1.0.1", limits=PeerLimits(outbound=0))
        assert node.manager.book.add(f"/ip4/25.5.0.1/tcp/9000/p2p/{PEER}", "44.4.0.0/16", NOW_MS)
        await node.start()
        dialler = node.manager._dialler
        await world.until(lambda: dialler.is_passing(PeerId(PEER)), 300)
        await world.until(lambda: not dialler._under_way, 60)
        assert not dialler.is_passing(PeerId(PEER))
