"""What a node says of its own chain follows that chain, without asking for anything."""

from __future__ import annotations

from collections.abc import Sequence

from tests.framework.forge import Forge, Forged
from tests.unit.chain.test_service import running
from unchained.node.base.clock import TrioClock
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.params import REG
from unchained.node.sync.own_status import OwnStatus
from unchained.node.wire.messages import VERSION


def work_of(anchors: Sequence[Forged]) -> int:
    return sum(anchor_work(anchor.coin.header.target, REG) for anchor in anchors)


def grown(forge: Forge, parent: Forged, count: int) -> list[Forged]:
    chain = [parent]
    for _ in range(count):
        chain.append(forge.anchor(chain[-1]))
    return chain[1:]


async def test_the_sum_of_work_is_that_of_the_main_chain_through_growth_and_reorganisation() -> (
    None
):
    forge = Forge()
    first = grown(forge, forge.genesis, 3)
    other = grown(forge, first[0], 4)
    async with running(forge) as service:
        own = OwnStatus(service.manager, forge.genesis.id, TrioClock(forge.now_ms))
        status = own.current()
        assert (status.genesis, status.tip) == (forge.genesis.id, forge.genesis.id)
        assert (status.height, status.version) == (0, VERSION)
        assert int.from_bytes(status.work, "big") == 0
        for chain in (first[:2], first, [first[0], *other]):
            await service.take(*chain)
            await service.settled()
            status = own.current()
            assert (status.tip, status.height) == (chain[-1].id, len(chain))
            assert int.from_bytes(status.work, "big") == work_of(chain)
