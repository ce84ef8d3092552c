"""Connections that wait to be looked at: no flood fills the lines of other networks."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
import trio

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import ONION_VISITOR
from unchained.node.transport.libp2p.arrivals import (
    ARRIVALS_WAITING_MAX,
    ARRIVALS_WAITING_PER_IP_MAX,
    Arrivals,
)
from unchained.node.transport.libp2p.listener import (
    ACCEPTED_AT_ONCE,
    ACCEPTED_PER_S,
    ARRIVALS_BURST,
    ARRIVALS_PER_S,
    ListenPlace,
    ThrottledListener,
    listen,
)

FLOOD = 600
HONEST = "127.9.0.1"


@pytest.fixture(autouse=True)
def _many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4_096, 4_096))


def test_networks_take_turns() -> None:
    arrivals = Arrivals[str]()
    for ip in ("10.1.0.1", "10.1.0.2", "10.1.0.3", "10.2.0.1", "10.3.0.1"):
        assert arrivals.add(ip, ip) is None
    order = [arrivals.next() for _ in range(len(arrivals))]
    assert order == ["10.1.0.1", "10.2.0.1", "10.3.0.1", "10.1.0.2", "10.1.0.3"]
    assert not len(arrivals)
    assert not arrivals._of_host
    assert not arrivals._lines


def test_where_too_many_wait_the_network_that_has_most_gives_way() -> None:
    arrivals = Arrivals[str]()
    few = [f"10.{number}.0.1" for number in range(9)]
    for ip in few:
        assert arrivals.add(ip, ip) is None
    flood = [f"192.0.{number // 250}.{number % 250}" for number in range(5 * ARRIVALS_WAITING_MAX)]
    gone = [left for ip in flood if (left := arrivals.add(ip, ip)) is not None]
    assert len(arrivals) == ARRIVALS_WAITING_MAX
    # The oldest of its own, so that who stays has not waited for long.
    assert gone == flood[: len(gone)]
    assert [arrivals.next() for _ in range(10)] == [*few, flood[len(gone)]]


@pytest.mark.parametrize("ips", [["10.0.0.1"], [f"2001:db8::{n:x}" for n in range(1, 30)]])
def test_an_address_has_few_places(ips: list[str]) -> None:
    arrivals = Arrivals[int]()
    gone = [arrivals.add(ips[n % len(ips)], n) for n in range(30)]
    most = ARRIVALS_WAITING_PER_IP_MAX
    assert gone == [None] * most + list(range(most, 30))
    assert arrivals.next() == 0
    assert arrivals.add(ips[0], 30) is None


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", ONION_VISITOR])
def test_many_nodes_may_come_from_an_address_that_is_shared(ip: str) -> None:
    arrivals = Arrivals[int]()
    assert {arrivals.add(ip, n) for n in range(ARRIVALS_WAITING_MAX)} == {None}


class Door:
    """Lets in all but some, and notes who came, in order."""

    def __init__(self, *refused: str) -> None:
        self.came: list[str] = []
        self._refused = refused

    def may_connect(self, ip: str) -> bool:
        self.came.append(ip)
        return ip not in self._refused


@contextmanager
def called(port: int, *sources: str) -> Iterator[list[socket.socket]]:
    """Connect from some addresses, one after the other."""
    with ExitStack() as stack:
        made = []
        for source in sources:
            caller = stack.enter_context(closing(socket.socket()))
            caller.bind((source, 0))
            caller.connect(("127.0.0.1", port))
            made.append(caller)
        yield made


async def opened(door: Door, at_once: int = ACCEPTED_AT_ONCE) -> tuple[int, ThrottledListener]:
    """Listen; so many are taken from the kernel in the first step, however fast the machine is."""
    ((address, listening),) = await listen([ListenPlace(Address("ip4", "127.0.0.1", 0))])
    listener = ThrottledListener(listening, door)
    listener._accepted = TokenBucket(at_once, ACCEPTED_PER_S, trio.current_time())
    return address.port, listener


@pytest.mark.real_time
async def test_who_comes_from_elsewhere_is_not_kept_waiting_by_those_before() -> None:
    door = Door()
    port, listener = await opened(door, FLOOD + 1)
    flood = [f"127.3.{number // 200}.{1 + number % 200}" for number in range(FLOOD)]
    with called(port, *flood, HONEST):
        while HONEST not in door.came:
            await (await listener.accept()).aclose()
        # One of the flood's network in turn with it.
        assert len(door.came) == 2
    await listener.aclose()


@pytest.mark.real_time
async def test_who_finds_no_place_or_is_not_let_in_is_closed_at_once() -> None:
    door = Door("127.3.0.1")
    port, listener = await opened(door, FLOOD + 1)
    with called(port, "127.3.0.1", *["127.4.0.1"] * FLOOD) as (refused, *flood):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_take, listener, FLOOD)
            for caller in (refused, *flood):
                caller.settimeout(10)
                assert await trio.to_thread.run_sync(caller.recv, 1) == b""
            nursery.cancel_scope.cancel()
    assert len(door.came) < FLOOD
    await listener.aclose()


async def _take(listener: ThrottledListener, many: int) -> None:
    for _ in range(many):
        await (await listener.accept()).aclose()


@pytest.mark.parametrize(
    ("files", "most"),
    [(64, 8), (1_024, 64), (4_096, 256), (1 << 20, 256), (resource.RLIM_INFINITY, 256)],
)
@pytest.mark.real_time
async def test_those_who_wait_take_few_of_the_files_that_there_are(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    _, listener = await opened(Door())
    assert listener._arrivals.most == most
    await listener.aclose()


@pytest.mark.real_time
async def test_who_waits_at_the_end_is_closed() -> None:
    port, listener = await opened(Door())
    with called(port, "127.3.0.1", HONEST) as callers:
        async with await listener.accept():
            await listener.aclose()
            callers[1].settimeout(10)
            assert callers[1].recv(1) == b""


async def test_so_many_are_let_in_at_once_and_per_second() -> None:
    port, listener = await opened(Door())
    sources = [f"127.{number}.0.1" for number in range(1, 201)]
    with called(port, *sources):
        began = trio.current_time()
        await _take(listener, ARRIVALS_BURST)
        assert trio.current_time() == began
        more = len(sources) - ARRIVALS_BURST
        await _take(listener, more)
        assert trio.current_time() - began == pytest.approx(more / ARRIVALS_PER_S, rel=0.01)
    await listener.aclose()
