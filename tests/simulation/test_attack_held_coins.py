"""Coins that are held: for their time, or for their parent (Protocol §3.3, §11).

What is held for its time has been proven first and is at most two limits ahead; nobody fills the
places of others; what a peer has sent goes with it when it is banned, and costs no more proofs
than two at a time.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from tests.framework.attacks import (
    LOCK,
    Attacker,
    assert_nobody_honest_was_banned,
    now_ms,
    take_in,
    template_of,
    votes_for,
)
from tests.framework.forge import Forge, Forged
from tests.framework.simulation.simnet import EPOCH_S, SIM, SimNet, SimNode, simulate, solve
from unchained.node.chain.held_coins import MAX_EARLY, MAX_ORPHANS
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError

LIMIT_MS = SIM.future_limit_ms
MIDDLE_MS = LIMIT_MS + LIMIT_MS // 2
"""How far ahead a coin is that is held for its time."""
FLOOD = 1_000
PROVING = 2
"""Coins of one peer in verification at a time (Protocol §11)."""


async def two_nodes(net: SimNet) -> list[SimNode]:
    """Return two nodes that do not mine, the second a peer of the first."""
    first = net.node()
    await first.start()
    second = net.node()
    second.bootstrap = (first.transport.address,)
    await second.start()
    await net.mingle(net.nodes)
    return [first, second]


async def early(net: SimNet, node: SimNode, ahead_ms: int, number: int = 0) -> Coin:
    """Return a valid coin on a node's tip whose time is so far ahead."""
    template = await template_of(node)
    header = template.header(lock=LOCK, time=now_ms(net) + ahead_ms, nonce=number << 32)
    return solve(header, SIM, False)


def tip_of(node: SimNode, forge: Forge) -> Forged:
    """Return genesis, on which these nodes stand."""
    assert node.tip == forge.genesis.id
    return forge.genesis


def proofs(node: SimNode) -> int:
    """Return how many proofs a node has verified."""
    return node.chain.statistics().mixes_verified


async def test_a_forged_coin_is_proven_before_it_is_held() -> None:
    async with simulate(61) as net:
        nodes = await two_nodes(net)
        forge = Forge(SIM)
        attacker = Attacker(net)
        await attacker.join(nodes[:1])
        tip = tip_of(nodes[0], forge)
        time = now_ms(net) + MIDDLE_MS
        await attacker.gossip_coins(*(forge.forged_mix(tip, time=time + n) for n in range(20)))
        await net.until(lambda: attacker.is_banned_by(nodes[0]), "banned", 5)
        assert nodes[0].chain.statistics().early == 0
        assert proofs(nodes[0]) <= PROVING
        assert not attacker.is_banned_by(nodes[1])


async def test_an_early_coin_counts_and_travels_when_its_time_has_come() -> None:
    async with simulate(62) as net:
        nodes = await two_nodes(net)
        attacker = Attacker(net)
        await attacker.join(nodes[:1])
        coin = await early(net, nodes[0], MIDDLE_MS)
        await attacker.gossip_coins(coin)
        await trio.sleep(1)
        assert nodes[0].chain.statistics().early == 1
        assert proofs(nodes[0]) == 1
        while now_ms(net) < coin.header.time - LIMIT_MS - 500:
            for node in nodes:
                assert coin.id not in await votes_for(node, coin.parent)
            assert nodes[1].chain.statistics().early == 0, "forwarded too soon"
            await trio.sleep(0.25)
        await trio.sleep(2)
        for node in nodes:
            assert coin.id in await votes_for(node, coin.parent), node.name
            assert node.chain.statistics().early == 0
        # Proven once, as it came.
        assert proofs(nodes[0]) == 1
        assert not attacker.is_banned_by(nodes[0])


async def test_a_coin_that_is_told_too_early_may_be_told_again() -> None:
    """Protocol §11: the message id of a coin that is held, or too early for that, is forgotten."""
    async with simulate(63) as net:
        nodes = await two_nodes(net)
        attacker = Attacker(net)
        await attacker.join(nodes[:1])
        coin = await early(net, nodes[0], 4 * LIMIT_MS)
        await attacker.gossip_coins(coin)
        await trio.sleep(3 * LIMIT_MS / 1000 + 1)
        friend = Attacker(net, "77.7.0.7", "friend")
        await friend.join(nodes[:1])
        await friend.gossip_coins(coin)
        await trio.sleep(2)
        for node in nodes:
            assert coin.id in await votes_for(node, coin.parent), node.name


@pytest.mark.parametrize("excess_ms", [0, 1])
async def test_coins_are_held_that_are_two_limits_ahead_and_no_more(excess_ms: int) -> None:
    async with simulate(64) as net:
        node = (await two_nodes(net))[0]
        coin = await early(net, node, 2 * LIMIT_MS + excess_ms)
        with suppress(ProtocolError):
            await node.chain.submit_coin(coin)
        assert node.chain.statistics().early == 1 - excess_ms
        assert proofs(node) == 1 - excess_ms


async def test_coins_of_far_ahead_are_ignored_and_punish_nobody() -> None:
    async with simulate(65) as net:
        nodes = await two_nodes(net)
        attacker = Attacker(net)
        await attacker.join(nodes[:1])
        for number in range(40):
            await attacker.gossip_coins(await early(net, nodes[0], 10**9, number))
        await trio.sleep(1)
        assert nodes[0].chain.statistics().early == 0
        assert proofs(nodes[0]) == 0
        assert not attacker.is_banned_by(nodes[0])
        penalties = nodes[0].network.peers.statistics().penalties
        assert set(penalties) <= {"cost"}


async def test_nobody_fills_the_places_of_others_that_wait_for_their_time() -> None:
    async with simulate(66) as net:
        nodes = await two_nodes(net)
        friend, attacker = Attacker(net, "77.7.0.7", "friend"), Attacker(net)
        await friend.join(nodes[:1])
        await attacker.join(nodes[:1])
        # The friend's waits longest of all.
        waiting = await early(net, nodes[0], 2 * LIMIT_MS - 100)
        await friend.gossip_coins(waiting)
        await trio.sleep(0.5)
        template = await template_of(nodes[0])
        time = now_ms(net) + MIDDLE_MS
        for number in range(MAX_EARLY + 200):
            header = template.header(lock=LOCK, time=time, nonce=number << 32)
            await attacker.gossip_coins(solve(header, SIM, False))
        await trio.sleep(0.5)
        # A peer alone gets no more than a part of what there is.
        assert nodes[0].chain.statistics().early < MAX_EARLY
        await trio.sleep(2 * LIMIT_MS / 1000)
        assert waiting.id in await votes_for(nodes[0], waiting.parent)
        assert nodes[0].chain.statistics().early == 0


async def test_what_a_peer_has_sent_goes_with_it() -> None:
    async with simulate(67) as net:
        nodes = await two_nodes(net)
        forge = Forge(SIM)
        attacker, friend = Attacker(net), Attacker(net, "77.7.0.7", "friend")
        await attacker.join(nodes[:1])
        await friend.join(nodes[:1])
        hidden = forge.anchor(tip_of(nodes[0], forge))
        await attacker.gossip_coins(*[forge.coin(hidden) for _ in range(5)])
        await attacker.gossip_coins(*[await early(net, nodes[0], MIDDLE_MS, n) for n in range(5)])
        await friend.gossip_coins(forge.coin(hidden), await early(net, nodes[0], MIDDLE_MS, 9))
        await trio.sleep(1)
        statistics = nodes[0].chain.statistics()
        assert (statistics.orphans, statistics.early) == (6, 6)
        await attacker.gossip_coins(forge.forged_mix(forge.genesis))
        await net.until(lambda: attacker.is_banned_by(nodes[0]), "banned", 5)
        await trio.sleep(0.5)
        statistics = nodes[0].chain.statistics()
        assert (statistics.orphans, statistics.early) == (1, 1)


async def test_a_thousand_forged_coins_cost_no_more_proofs_than_two() -> None:
    """They wait for one parent; so do honest ones, which came last. Its body releases them all."""
    async with simulate(68) as net:
        nodes = await two_nodes(net)
        forge = Forge(SIM)
        attacker, friend = Attacker(net), Attacker(net, "77.7.0.7", "friend")
        await attacker.join(nodes[:1])
        await friend.join(nodes[:1])
        hidden = forge.anchor(tip_of(nodes[0], forge))
        await attacker.gossip_coins(*[forge.forged_mix(hidden) for _ in range(FLOOD)])
        await trio.sleep(1)
        assert not attacker.is_banned_by(nodes[0])
        honest = [forge.coin(hidden) for _ in range(5)]
        await friend.gossip_coins(*honest)
        await trio.sleep(1)
        before = proofs(nodes[0])
        assert await take_in(nodes[0], [hidden.coin, hidden]) == {}
        await net.until(lambda: attacker.is_banned_by(nodes[0]), "banned", 5)
        await trio.sleep(1)
        assert {coin.id for coin in honest} <= await votes_for(nodes[0], hidden.id)
        # The anchor's own, those of the honest coins, and at most two of the attacker's.
        assert proofs(nodes[0]) - before <= 1 + len(honest) + PROVING
        assert nodes[0].chain.statistics().orphans == 0
        assert_nobody_honest_was_banned(net)


async def test_nobody_fills_the_places_of_others_that_wait_for_a_parent() -> None:
    async with simulate(69) as net:
        nodes = await two_nodes(net)
        forge = Forge(SIM)
        attacker, friend = Attacker(net), Attacker(net, "77.7.0.7", "friend")
        await attacker.join(nodes[:1])
        await friend.join(nodes[:1])
        # Parents on parents: what each asks for never comes.
        hidden = forge.anchor(tip_of(nodes[0], forge))
        lost = [forge.anchor(hidden) for _ in range(3)]
        honest = [forge.coin(hidden) for _ in range(5)]
        await friend.gossip_coins(*honest)
        await trio.sleep(1)
        for number in range(MAX_ORPHANS + 200):
            if attacker.is_banned_by(nodes[0]):
                break
            await attacker.gossip_coins(forge.forged_mix(lost[number % 3]))
            if number % 50 == 0:
                # It pays for the places that it takes no faster than its debt is forgiven.
                await trio.sleep(EPOCH_S / 16)
        assert nodes[0].chain.statistics().orphans <= MAX_ORPHANS // 2
        assert await take_in(nodes[0], [hidden.coin, hidden]) == {}
        await trio.sleep(1)
        # They were held: nobody here serves them.
        assert {coin.id for coin in honest} <= await votes_for(nodes[0], hidden.id)
