"""Who is being let in, and how many of them at a time."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from unchained.node.transport.address_groups import ONION_VISITOR
from unchained.node.transport.libp2p.handshakes import (
    HANDSHAKE_S,
    HANDSHAKES_BURST,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_IP_BURST,
    HANDSHAKES_PER_IP_MAX,
    HANDSHAKES_PER_IP_PER_S,
    HANDSHAKES_PER_S,
    SILENT_S,
    Handshake,
    Handshakes,
)

ROUND_TRIP_S = 0.3
ROUND_TRIPS = 5
"""Of a handshake, with the choice of its protocols."""


def enter(handshakes: Handshakes, ip: str) -> Handshake | None:
    return handshakes.enter(ip)


async def test_an_address_has_few_places() -> None:
    handshakes = Handshakes()
    places = [enter(handshakes, "10.0.0.1") for _ in range(HANDSHAKES_PER_IP_MAX)]
    assert None not in places
    assert enter(handshakes, "10.0.0.1") is None
    assert enter(handshakes, "10.0.0.2") is not None
    assert places[0] is not None
    handshakes.leave(places[0])
    handshakes.leave(places[0])
    assert enter(handshakes, "10.0.0.1") is not None
    assert enter(handshakes, "10.0.0.1") is None


async def test_a_full_house_shows_somebody_out_of_the_network_that_has_most() -> None:
    handshakes = Handshakes()
    honest = enter(handshakes, "192.0.2.1")
    neighbour = enter(handshakes, "10.0.255.1")
    flood = [enter(handshakes, f"10.0.0.{number // 8}") for number in range(HANDSHAKES_MAX)]
    assert len(handshakes) == HANDSHAKES_MAX
    shown_out = [place is not None and place.scope.cancel_called for place in flood]
    assert shown_out[0]
    assert sum(shown_out) == 2
    for place in (honest, neighbour):
        assert place is not None
        assert not place.scope.cancel_called


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", ONION_VISITOR])
async def test_visitors_of_an_onion_service_do_not_shut_each_other_out(ip: str) -> None:
    handshakes = Handshakes()
    places = [enter(handshakes, ip) for _ in range(HANDSHAKES_MAX)]
    assert None not in places
    for place in places[::2]:
        assert place is not None
        place.has_spoken = True
    await trio.sleep(SILENT_S)
    for _ in range(HANDSHAKES_MAX // 2):
        assert handshakes.has_room(ip)
        place = enter(handshakes, ip)
        assert place is not None
        assert not place.scope.cancel_called
        place.has_spoken = True
    shown_out = [place.scope.cancel_called for place in places if place is not None]
    assert shown_out == [False, True] * (HANDSHAKES_MAX // 2)
    # Where all have spoken, the oldest goes, never who has just come.
    last = enter(handshakes, ip)
    assert last is not None
    assert not last.scope.cancel_called
    assert places[0] is not None
    assert places[0].scope.cancel_called


async def test_this_machines_own_address_waits_for_no_rate_of_its_own() -> None:
    handshakes = Handshakes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handshakes.run)
        begun = trio.current_time()
        for _ in range(HANDSHAKES_BURST):
            await handshakes.turn(Handshake("127.0.0.1"))
        assert trio.current_time() == begun
        nursery.cancel_scope.cancel()


async def test_nobody_stays_for_ever() -> None:
    handshakes = Handshakes()
    start = trio.current_time()
    place = enter(handshakes, "10.0.0.1")
    assert place is not None
    with place.scope:
        await trio.sleep_forever()
    assert trio.current_time() - start == pytest.approx(HANDSHAKE_S)


async def test_who_asks_for_many_waits_and_nobody_else_does() -> None:
    handshakes = Handshakes()
    start = trio.current_time()

    async def turns(ip: str, count: int) -> float:
        for _ in range(count):
            await handshakes.turn(Handshake(ip))
        return trio.current_time() - start

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handshakes.run)
        assert await turns("10.0.0.1", HANDSHAKES_PER_IP_BURST) == 0
        assert await turns("10.0.0.1", 8) == pytest.approx(8 / HANDSHAKES_PER_IP_PER_S)
        before = trio.current_time() - start
        assert await turns("10.0.0.2", HANDSHAKES_PER_IP_BURST) == before
        nursery.cancel_scope.cancel()


async def dial(handshakes: Handshakes, ip: str, *, is_silent: bool = False) -> bool:
    """Shake hands over a slow line, or say nothing; return whether it came to an end."""
    place = enter(handshakes, ip)
    if place is None:
        return False
    try:
        with place.scope:
            await handshakes.turn(place)
            await trio.sleep(2 * HANDSHAKE_S if is_silent else ROUND_TRIPS * ROUND_TRIP_S)
            return True
    finally:
        handshakes.leave(place)
    return False


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param([f"10.0.0.{number}" for number in range(24)], id="24 addresses of one /16"),
        pytest.param([f"10.{number}.0.1" for number in range(24)], id="24 addresses, a /16 each"),
        pytest.param([f"10.{number}.0.1" for number in range(70)], id="70 addresses, a /16 each"),
        pytest.param([f"2001:db8:1:{number:x}::1" for number in range(1000)], id="one IPv6 /48"),
    ],
)
async def test_no_flood_keeps_an_honest_peer_out(addresses: list[str]) -> None:
    handshakes = Handshakes()

    async def flood(nursery: trio.Nursery) -> None:
        number = 0
        while True:
            ip = addresses[number % len(addresses)]
            nursery.start_soon(partial(dial, handshakes, ip, is_silent=True))
            number += 1
            await trio.sleep(1 / 475)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handshakes.run)
        nursery.start_soon(flood, nursery)
        await trio.sleep(5)
        for number in range(10):
            began = trio.current_time()
            assert await dial(handshakes, f"192.0.{number}.1")
            assert trio.current_time() - began < HANDSHAKE_S / 2
        nursery.cancel_scope.cancel()


async def test_so_many_handshakes_begin_per_second_in_all() -> None:
    handshakes = Handshakes()
    begun = 0

    async def one(ip: str) -> None:
        nonlocal begun
        await handshakes.turn(Handshake(ip))
        begun += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handshakes.run)
        for number in range(2000):
            nursery.start_soon(one, f"10.{number % 100}.0.{number // 100}")
        await trio.sleep(10)
        assert begun == pytest.approx(HANDSHAKES_BURST + 10 * HANDSHAKES_PER_S, abs=1)
        nursery.cancel_scope.cancel()


async def test_who_is_shown_out_while_it_waits_leaves_nothing_behind() -> None:
    handshakes = Handshakes()
    for number in range(50):
        place = enter(handshakes, f"10.{number}.0.1")
        assert place is not None
        with place.scope:
            # Nobody gives turns here.
            await handshakes.turn(place)
        handshakes.leave(place)
    assert not handshakes._lines
    assert not len(handshakes)
