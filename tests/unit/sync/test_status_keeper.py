"""What a node says of its own chain follows that chain, without asking for each anchor."""

from __future__ import annotations

from collections.abc import Sequence

import trio
import trio.testing

from tests.framework.forge import Forge, Forged
from tests.unit.chain.test_service import Service, running
from unchained.node.base.clock import TrioClock
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.params import REG
from unchained.node.sync.status_keeper import StatusKeeper


def work_of(anchors: Sequence[Forged]) -> int:
    return sum(anchor_work(anchor.coin.header.target, REG) for anchor in anchors)


def grown(forge: Forge, parent: Forged, count: int) -> list[Forged]:
    chain = [parent]
    for _ in range(count):
        chain.append(forge.anchor(chain[-1]))
    return chain[1:]


def keeper_of(service: Service, forge: Forge) -> StatusKeeper:
    return StatusKeeper(service.manager, forge.genesis.id, TrioClock(forge.now_ms))


async def said(keeper: StatusKeeper) -> int:
    await trio.testing.wait_all_tasks_blocked()
    return int.from_bytes(keeper.current().work, "big")


async def test_the_sum_of_work_is_that_of_the_main_chain_through_growth_and_reorganisation() -> (
    None
):
    forge = Forge()
    first = grown(forge, forge.genesis, 3)
    other = grown(forge, first[0], 4)
    async with running(forge) as service, trio.open_nursery() as nursery:
        await service.take(*first[:2])
        keeper = keeper_of(service, forge)
        await nursery.start(lambda task_status: keeper.run(task_status=task_status))
        assert await said(keeper) == work_of(first[:2])
        await service.take(first[2])
        await service.settled()
        assert await said(keeper) == work_of(first)
        await service.take(*other)
        await service.settled()
        assert service.manager.status.value.tip == other[-1].id
        assert await said(keeper) == work_of([first[0], *other])
        nursery.cancel_scope.cancel()


async def test_an_anchor_on_top_of_the_last_takes_no_trip_to_the_writer() -> None:
    forge = Forge()
    anchors = grown(forge, forge.genesis, 3)
    async with running(forge) as service, trio.open_nursery() as nursery:
        keeper = keeper_of(service, forge)
        await nursery.start(lambda task_status: keeper.run(task_status=task_status))
        asked = service.manager.statistics().operations
        await service.take(*anchors)
        await service.settled()
        assert await said(keeper) == work_of(anchors)
        with_keeper = service.manager.statistics().operations - asked
        nursery.cancel_scope.cancel()
    async with running(forge) as service:
        asked = service.manager.statistics().operations
        await service.take(*anchors)
        await service.settled()
        assert service.manager.statistics().operations - asked == with_keeper
