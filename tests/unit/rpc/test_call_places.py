"""Places for calls: who gives up waiting leaves his to another."""

from __future__ import annotations

from dataclasses import replace

import trio
from trio.testing import wait_all_tasks_blocked

from unchained.node.rpc.core.call_places import CallLimits, CallPlaces
from unchained.node.rpc.core.rights import NODE_OWNER


async def test_who_gives_up_waiting_leaves_his_place() -> None:
    places = CallPlaces(replace(CallLimits(), calls=1, queued=1))
    came: list[str] = []

    async def come(name: str) -> None:
        async with places.place(NODE_OWNER, is_long_poll=False):
            came.append(name)

    async with trio.open_nursery() as nursery:
        async with places.place(NODE_OWNER, is_long_poll=False):
            async with trio.open_nursery() as given_up:
                given_up.start_soon(come, "second")
                await wait_all_tasks_blocked()
                assert places.queue().used == 1
                given_up.cancel_scope.cancel()
            assert places.queue().used == 0
            nursery.start_soon(come, "third")
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
    assert came == ["third"]
