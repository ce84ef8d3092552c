"""A hostile peer against an `unchained-node` process that an honest one is connected to.

After each attack the node runs, mines and follows the honest peer, never had more than 64 MB above
its normal memory, has no error in its log, and has banned whom the table of penalties says. What
honest peers feel meanwhile is measured by ``scripts/bench hostile``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import TypeVar

import pytest
import trio

from tests.framework import siege as attacks
from tests.framework.network import network, until
from tests.framework.p2p_attacker import RefusedError, attacker
from tests.framework.p2p_peer import bare_peer
from tests.framework.siege import Siege
from unchained.node.base.line_limits import COUNTED_EVERY_S
from unchained.node.peers.address_table import BUCKET_SIZE
from unchained.node.transport.contract import PeerId
from unchained.node.transport.libp2p.arrivals import ARRIVALS_WAITING_MAX
from unchained.node.transport.libp2p.handshakes import HANDSHAKES_MAX
from unchained.node.wire import messages as wire

pytestmark = pytest.mark.real_time

T = TypeVar("T")

MORE_MB = 64.0
"""Memory that the node may take beyond its normal."""
FEW = 32
"""File descriptors that a node may have open beyond those that are counted."""


@pytest.fixture(scope="module")
def siege(request: pytest.FixtureRequest) -> Iterator[Siege]:
    with network(request=request) as net:
        made = Siege(net)
        yield made
        assert made.victim.process.stop() == 0
        assert made.victim.process.errors == []
        net.check(made.victim)


async def under(siege: Siege, attack: Callable[[Siege], Awaitable[T]]) -> T:
    """Let an attack run, and see that the node is none the worse for it."""
    began = len(siege.victim.process.events)
    siege.reset_peak()
    try:
        result = await attack(siege)
        siege.goes_on()
        assert siege.peak_mb() <= siege.normal_mb + MORE_MB
        events = siege.victim.process.events[began:]
        assert [event for event in events if event["level"] == "error"] == []
        assert siege.ban_of(PeerId(siege.honest.id)) is None
        assert siege.statistics()["network"]["transport"]["faults"] == 0
    except BaseException:
        print(siege.victim.process.tail())
        raise
    print(f"normal {siege.normal_mb:.0f} MB, peak {siege.peak_mb():.0f} MB")
    return result


@pytest.fixture
def debugging(siege: Siege) -> Iterator[None]:
    siege.victim.call("node.log_level", level="debug")
    yield
    siege.victim.call("node.log_level", level="info")


async def test_garbage_protobuf_bans(siege: Siege) -> None:
    banned = await under(siege, attacks.garbage_protobuf)
    assert "bad_gossip" in str(siege.ban_of(banned))


async def test_who_is_banned_is_not_let_in_again(siege: Siege) -> None:
    async def main(siege: Siege) -> None:
        seed = siege.seed()
        async with attacker(siege.victim.full_address, seed) as peer:
            await siege.gossip(peer, "coin", b"garbage")
            await siege.banned(peer.identity.peer)
        with pytest.raises(RefusedError):
            async with attacker(siege.victim.full_address, seed):
                pass

    await under(siege, main)


@pytest.mark.parametrize(
    ("attack", "kind"),
    [(attacks.garbage_streams, "bad_request"), (attacks.garbage_requests, "NON_CANONICAL")],
)
async def test_garbage_streams_run_into_debt(
    siege: Siege, attack: Callable[[Siege], Awaitable[PeerId]], kind: str
) -> None:
    why = str(siege.ban_of(await under(siege, attack)))
    assert "too much useless work" in why
    assert kind in why


async def test_garbage_objects_ban(siege: Siege) -> None:
    banned = await under(siege, attacks.garbage_objects)
    reasons = [str(siege.ban_of(peer)) for peer in banned]
    assert ["BAD_LENGTH" in reasons[0], *("NON_CANONICAL" in why for why in reasons[1:])] == [
        True
    ] * 3


async def test_forged_proofs_ban_before_many_are_verified(siege: Siege) -> None:
    before = siege.statistics()
    banned = await under(siege, attacks.forged_proofs)
    assert "BAD_MIX" in str(siege.ban_of(banned))
    after = siege.statistics()
    # Two at a time, and those that were begun before the line was cut.
    assert 1 <= _broken(after, "BAD_MIX") - _broken(before, "BAD_MIX") <= 4


def _broken(statistics: dict[str, dict[str, dict[str, dict[str, int]]]], rule: str) -> int:
    return statistics["network"]["relay"]["rules"].get(rule, 0)


async def test_duplicates_are_validated_once(siege: Siege) -> None:
    before = siege.statistics()
    assert siege.ban_of(await under(siege, attacks.duplicates)) is None
    accepted = siege.statistics()["network"]["relay"]["accepted"]
    # The coin, and the anchors of the honest nodes.
    assert 1 <= accepted - before["network"]["relay"]["accepted"] < 10


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        (attacks.oversized_frame, "oversized_frame"),
        (attacks.oversized_gossip, "oversized_gossip"),
        (attacks.oversized_request, "oversized_request"),
        (attacks.window_overrun, "window_overrun"),
    ],
)
async def test_what_is_too_large_bans(
    siege: Siege, attack: Callable[[Siege], Awaitable[PeerId]], kind: str
) -> None:
    assert kind in str(siege.ban_of(await under(siege, attack)))


async def test_a_thousand_silent_sockets_shut_nobody_out(siege: Siege) -> None:
    async def main(siege: Siege) -> None:
        before = siege.sockets()
        async with attacks.silent_sockets(siege):
            assert siege.sockets() <= before + HANDSHAKES_MAX + ARRIVALS_WAITING_MAX + FEW
            async with siege.peer() as newcomer:
                victim = PeerId(siege.victim.id)
                answer = await newcomer.ask(victim, wire.STATUS_EXCHANGE, newcomer.status())
                assert answer.genesis == newcomer.genesis
            await trio.to_thread.run_sync(siege.goes_on)
        await siege.until(lambda: siege.sockets() <= before + FEW, "all closed")

    await under(siege, main)


async def test_headers_that_never_get_bodies_are_not_waited_for(
    siege: Siege, debugging: None
) -> None:
    peer = await under(siege, attacks.headers_without_bodies)
    assert siege.ban_of(peer.transport.id) is None
    assert siege.statistics()["network"]["sync"]["synced"]


async def test_announcing_anchors_without_bodies_runs_into_debt(siege: Siege) -> None:
    banned = await under(siege, attacks.announced_without_bodies)
    assert "without its body" in str(siege.ban_of(banned))


async def test_a_stale_fork_whose_bodies_do_not_come_stops_nobody(siege: Siege) -> None:
    peer = await under(siege, attacks.stale_fork)
    assert peer.asked["headers"]
    assert siege.statistics()["network"]["sync"]["synced"]
    assert siege.ban_of(peer.transport.id) is None


async def test_a_heavier_chain_that_is_only_claimed_stops_nobody(
    siege: Siege, debugging: None
) -> None:
    async def main(siege: Siege) -> None:
        async with siege.peer(connect=False) as peer:
            await attacks.claim_a_chain(siege, peer)
            # While it claims, the node goes on, and is behind nobody.
            await trio.to_thread.run_sync(siege.goes_on)
            assert siege.statistics()["network"]["sync"]["synced"]
            assert 1 <= peer.asked["headers"] <= 3
            assert not peer.asked["bodies"]
            assert siege.ban_of(peer.transport.id) is None

    await under(siege, main)


async def test_coins_of_the_future_are_held(siege: Siege) -> None:
    many = 100

    async def main(siege: Siege) -> PeerId:
        return await attacks.future_coins(siege, many)

    assert siege.ban_of(await under(siege, main)) is None


async def test_coins_of_the_past_run_into_debt(siege: Siege) -> None:
    banned = await under(siege, attacks.past_coins)
    assert "TIME_NOT_AFTER_PARENT" in str(siege.ban_of(banned))


async def test_a_hundred_thousand_addresses_in_one_answer_are_not_read(siege: Siege) -> None:
    # It costs a fault of `FAULT_MS`; nobody is asked so often that it comes to a ban.
    banned = await under(siege, attacks.addresses_without_end)
    assert siege.ban_of(banned) is None


async def test_addresses_of_one_network_get_into_few_places(siege: Siege) -> None:
    pages = 6

    async def main(siege: Siege) -> None:
        for page in range(pages):
            async with siege.peer(connect=False) as peer:
                answer = attacks.addresses(256 * page, 256)
                peer.answers["addresses"] = lambda _request, answer=answer: answer  # type: ignore[misc]
                await attacks.be_dialled(siege, peer)
                await siege.until(lambda peer=peer: peer.asked["addresses"], "asked")  # type: ignore[misc]

    await under(siege, main)
    book = siege.statistics()["network"]["peers"]["book"]
    # A bucket for theirs, and one for those of the peers that sent them.
    assert book["new"] <= 2 * BUCKET_SIZE


async def test_peers_that_fill_all_places_keep_nobody_out() -> None:
    places = 14
    with network() as net:
        victim = net.node("--no-mine", "--set", f"network.inbound={places}")
        victim.start()
        newcomer = net.node("--no-mine", bootstrap=victim)

        async with AsyncExitStack() as stack:
            for seed in range(places):
                peer = await stack.enter_async_context(bare_peer(seed))
                await peer.transport.connect(victim.full_address)
            await trio.to_thread.run_sync(net.mingle, [victim], places)
            await trio.to_thread.run_sync(newcomer.start)
            evicted = await trio.to_thread.run_sync(victim.process.wait_event, "peer.evicted")
            assert evicted["by"] == newcomer.id
            assert evicted["peer"] != newcomer.id
            await trio.to_thread.run_sync(net.mingle, [newcomer])
            await trio.to_thread.run_sync(until, lambda: victim.peers() == places, "one less again")
        assert victim.process.stop() == 0
        assert victim.process.errors == []


async def test_a_flood_of_evictions_takes_one_line_of_the_log_a_minute() -> None:
    places, more = 14, 10
    shown_out = trio.Semaphore(0)
    began = trio.current_time()
    with network() as net:
        victim = net.node("--no-mine", "--set", f"network.inbound={places}")
        victim.start()

        async def stay(seed: int, task_status: trio.TaskStatus[None]) -> None:
            async with bare_peer(seed) as peer:
                await peer.transport.connect(victim.full_address)
                task_status.started()
                await peer.parted.wait()
                shown_out.release()

        async with trio.open_nursery() as nursery:
            for seed in range(places + more):
                await nursery.start(stay, seed)
                if seed > places:
                    await shown_out.acquire()
            nursery.cancel_scope.cancel()
        assert victim.process.stop() == 0
        assert victim.process.errors == []
    lines = [event for event in victim.process.events if event["event"] == "peer.evicted"]
    assert 1 <= len(lines) <= 1 + (trio.current_time() - began) // COUNTED_EVERY_S
    # Those after the last line are told by none.
    assert len(lines) <= sum(1 + line.get("untold", 0) for line in lines) <= more
