from __future__ import annotations

from typing import Any

import structlog
import trio

from tests.framework.p2p_memory import run_virtual
from unchained.node.base.clock import TrioClock
from unchained.node.base.token_bucket import BUDGET_MS, MAX_KEYS, REFILL_MS_PER_S, Debts, RateLimit
from unchained.node.peers.ban_list import (
    FIRST_BAN_MS,
    FORGIVEN_AFTER_MS,
    GROWTH,
    LONGEST_BAN_MS,
    MAX_BANS,
    BanList,
)
from unchained.node.peers.penalty import FAULT_MS, Penalty
from unchained.node.peers.reputation import VISITORS, PeerLimits, Reputation
from unchained.node.transport.address_groups import host_group, is_public, network_group
from unchained.node.transport.contract import (
    Direction,
    Misbehaved,
    Misbehaviour,
    PeerConnected,
    PeerId,
    PeerInfo,
)
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryStore

A, B = PeerId("a"), PeerId("b")


def test_groups_are_what_one_hand_holds() -> None:
    assert host_group("1.2.3.4") == "1.2.3.4"
    assert host_group("::ffff:1.2.3.4") == "1.2.3.4"
    assert host_group("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert host_group("127.0.0.1") == ""
    assert host_group("127.0.0.1", A) != host_group("127.0.0.1", B)
    assert network_group("1.2.3.4") == "1.2.0.0/16"
    assert network_group("2001:db8:1:2::4") == "2001:db8::/32"
    assert is_public("1.2.3.4")
    assert not is_public("192.168.1.2")


def test_bans_grow_are_kept_and_are_forgiven() -> None:
    store = MemoryStore()
    bans = BanList(store)
    now = 10**12
    for count in range(8):
        ban = bans.add("1.2.3.4", "forged", now)
        assert ban.count == count + 1
        assert ban.until - now == min(FIRST_BAN_MS * GROWTH**count, LONGEST_BAN_MS)
        assert bans.is_banned("1.2.3.4", ban.until - 1)
        assert not bans.is_banned("1.2.3.4", ban.until)
        now = ban.until
    batch = Batch()
    bans.pending(batch)
    store.write(batch, sync=False)
    again = BanList(store)
    assert again.add("1.2.3.4", "forged", now).count == 9
    assert [ban.reason for ban in again.active(now)] == ["forged"]
    assert again.lift("1.2.3.4")
    assert not again.lift("1.2.3.4")
    batch = Batch()
    again.pending(batch)
    store.write(batch, sync=False)
    assert BanList(store).active(now) == []
    ban = bans.add("5.6.7.8", "first", now)
    assert bans.add("5.6.7.8", "later", ban.until + FORGIVEN_AFTER_MS).count == 1


def test_bans_are_bounded_and_the_one_that_ends_first_goes() -> None:
    bans = BanList(MemoryStore())
    for number in range(MAX_BANS + 5):
        bans.add(f"group {number}", "", number)
    assert len(bans.active(0)) == MAX_BANS
    assert not bans.is_banned("group 4", 0)


def test_debts_refill_and_overflow_once() -> None:
    debts = Debts()
    assert not debts.charge("a", BUDGET_MS, 0.0)
    assert debts.owed("a", 10.0) == BUDGET_MS - 10 * REFILL_MS_PER_S
    assert not debts.charge("a", 10 * REFILL_MS_PER_S, 10.0)
    assert debts.charge("a", 1.0, 10.0)
    assert debts.owed("a", 10.0) == 0
    for number in range(MAX_KEYS + 10):
        debts.charge(str(number), 1.0, 20.0)
    assert len(debts) == MAX_KEYS


def test_rates_are_a_bucket() -> None:
    rate = RateLimit(per_second=2, burst=3)
    assert [rate.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert rate.take("b", 0.0)
    assert [rate.take("a", 1.0) for _ in range(3)] == [True, True, False]


def test_a_reserved_place_says_how_long_to_wait() -> None:
    rate = RateLimit(per_second=2, burst=3)
    assert [rate.reserve("a", 0.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert rate.reserve("b", 0.0) == 0
    assert rate.reserve("a", 2.0) == 0
    assert rate.reserve("a", 2.0) == 0
    assert rate.reserve("a", 2.0) == 0.5


class Room:
    """A standing with peers that are given."""

    def __init__(self, limits: PeerLimits | None = None) -> None:
        self.infos: dict[PeerId, PeerInfo] = {}
        self.dropped: list[PeerId] = []
        self.standing = Reputation(
            BanList(MemoryStore()),
            limits or PeerLimits(),
            clock=TrioClock(10**12),
            peers=self.infos.values,
            drop=self.dropped.append,
            log=structlog.get_logger(),
        )

    def join(self, name: str, ip: str, direction: Direction = Direction.INBOUND) -> bool:
        peer = PeerId(name)
        gate = self.standing.gate
        if not (gate(ip, None, direction) and gate(ip, peer, direction)):
            return False
        info = PeerInfo(peer, ip, "", direction, 0.0)
        self.infos[peer] = info
        self.standing.note(PeerConnected(info))
        return True


def virtually(body: Any) -> None:
    async def main() -> None:
        body()
        await trio.lowlevel.checkpoint()

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        run_virtual(1, main)
    finally:
        structlog.reset_defaults()


def test_the_gate_limits_hosts_networks_and_all() -> None:
    def body() -> None:
        room = Room(PeerLimits(inbound=9, inbound_per_host=2, inbound_per_network=3))
        assert [room.join(f"h{n}", "1.2.3.4") for n in range(3)] == [True, True, False]
        assert [room.join(f"n{n}", f"1.2.9.{n}") for n in range(2)] == [True, False]
        assert all(room.join(f"p{n}", f"10.0.0.{n}") for n in range(4))
        # Nine places are taken by now; a few more may look in.
        last = [room.join(f"l{n}", "127.0.0.1") for n in range(3 + VISITORS)]
        assert last == [True] * (2 + VISITORS) + [False]
        assert not Room(PeerLimits(inbound=0)).join("a", "1.2.3.4")
        assert room.join("out", "1.2.3.4", Direction.OUTBOUND)
        assert not room.standing.may_dial("1.2.77.1", A)
        assert room.standing.may_dial("1.3.0.1", A)

    virtually(body)


def test_penalties_add_up_to_a_ban_of_the_whole_group() -> None:
    def body() -> None:
        room = Room()
        assert room.join("a", "2001:db8::1")
        assert room.join("b", "2001:db8::2")
        assert room.join("c", "2001:db8:0:1::1")
        standing = room.standing
        standing.penalize(A, Penalty.NONE, "nothing")
        for _ in range(int(BUDGET_MS // FAULT_MS)):
            standing.penalize(A, Penalty.FAULT, "wrong")
        assert room.dropped == []
        standing.penalize(A, Penalty.COST, "dear", ms=0.5)
        assert sorted(room.dropped) == ["a", "b"]
        assert not room.join("d", "2001:db8::3")
        (ban,) = standing.active_bans()
        assert ban.group == "2001:db8::/64"
        assert ban.reason == "too much useless work, last: dear"
        assert standing.lift(ban.group)
        assert room.join("d", "2001:db8::3")
        assert dict(standing.penalties) == {"fault": 8, "cost": 1}

    virtually(body)


def test_what_the_transport_saw_is_punished_even_without_an_id() -> None:
    def body() -> None:
        room = Room()
        room.standing.note(Misbehaved("1.2.3.4", None, Misbehaviour.HANDSHAKE_FAILED, "slow"))
        assert room.standing.active_bans() == []
        room.standing.note(Misbehaved("1.2.3.4", None, Misbehaviour.OVERSIZED_FRAME, "big"))
        assert not room.join("a", "1.2.3.4")
        # On loopback it is the id that counts, and nothing without one.
        room.standing.note(Misbehaved("127.0.0.1", None, Misbehaviour.OVERSIZED_FRAME, "big"))
        assert room.join("b", "127.0.0.1")
        room.standing.note(Misbehaved("127.0.0.1", B, Misbehaviour.OVERSIZED_FRAME, "big"))
        assert room.dropped == ["b"]
        assert room.join("c", "127.0.0.1")

    virtually(body)
