"""What is remembered of one peer: tips that led nowhere, and votes that it still owes."""

from __future__ import annotations

import trio

from unchained.node.primitives.types import CoinId
from unchained.node.sync.peer_state import TIP_FIRST_RETRY_S, WANTED_ANCHORS_MAX, PeerState


def anchor_id(number: int) -> CoinId:
    return CoinId(bytes([number]) * 32)


async def test_tips_that_led_nowhere_are_bounded_and_the_last_is_remembered() -> None:
    state = PeerState()
    for number in range(2 * WANTED_ANCHORS_MAX):
        state.tried(anchor_id(number), "a branch of little work")
    assert len(state.retry) == WANTED_ANCHORS_MAX
    assert not state.may_try(anchor_id(2 * WANTED_ANCHORS_MAX - 1))
    await trio.sleep(TIP_FIRST_RETRY_S)
    assert state.may_try(anchor_id(2 * WANTED_ANCHORS_MAX - 1))


async def test_what_is_owed_from_before_stays_owed() -> None:
    state = PeerState()
    state.owe(anchor_id(1), anchor_id(2))
    state.owe(anchor_id(3), anchor_id(4))
    assert state.unasked == (anchor_id(1), anchor_id(4))
