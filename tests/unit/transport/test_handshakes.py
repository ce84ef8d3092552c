from __future__ import annotations

import pytest
import trio
import trio.testing

from unchained.node.transport.libp2p.handshakes import (
    HANDSHAKE_S,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_IP_BURST,
    HANDSHAKES_PER_IP_MAX,
    HANDSHAKES_PER_IP_PER_S,
    Handshakes,
)


async def test_an_address_has_few_places() -> None:
    handshakes = Handshakes()
    scopes = [handshakes.enter("10.0.0.1") for _ in range(HANDSHAKES_PER_IP_MAX)]
    assert None not in scopes
    assert handshakes.enter("10.0.0.1") is None
    assert handshakes.enter("10.0.0.2") is not None
    assert scopes[0] is not None
    handshakes.leave(scopes[0])
    handshakes.leave(scopes[0])
    assert handshakes.enter("10.0.0.1") is not None
    assert handshakes.enter("10.0.0.1") is None


async def test_a_full_house_shows_the_oldest_out() -> None:
    handshakes = Handshakes()
    scopes = [handshakes.enter(f"10.0.0.{number}") for number in range(HANDSHAKES_MAX + 1)]
    assert len(handshakes) == HANDSHAKES_MAX
    assert [scope is not None and scope.cancel_called for scope in scopes[:2]] == [True, False]


async def test_nobody_stays_for_ever() -> None:
    handshakes = Handshakes()
    start = trio.current_time()
    scope = handshakes.enter("10.0.0.1")
    assert scope is not None
    with scope:
        await trio.sleep_forever()
    assert trio.current_time() - start == pytest.approx(HANDSHAKE_S)


async def test_who_asks_for_many_waits_and_nobody_else_does() -> None:
    handshakes = Handshakes()
    start = trio.current_time()

    async def turns(ip: str, count: int) -> float:
        for _ in range(count):
            await handshakes.turn(ip)
        return trio.current_time() - start

    assert await turns("10.0.0.1", HANDSHAKES_PER_IP_BURST) == 0
    assert await turns("10.0.0.1", 8) == pytest.approx(8 / HANDSHAKES_PER_IP_PER_S)
    before = trio.current_time() - start
    assert await turns("10.0.0.2", HANDSHAKES_PER_IP_BURST) == before
