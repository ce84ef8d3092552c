from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
import structlog
import trio

from unchained.node.base.clock import TrioClock
from unchained.node.peers.ban_list import (
    BAN_GROWTH,
    BANS_MAX,
    FIRST_BAN_MS,
    FORGIVEN_AFTER_MS,
    LONGEST_BAN_MS,
    BanList,
    BanRecord,
)
from unchained.node.peers.penalty import FAULT_MS, Penalty
from unchained.node.peers.reputation import (
    DEBT_FORGIVEN_MS_PER_S,
    DEBT_MS_MAX,
    FREE_MS_MAX,
    FREE_MS_PER_S,
    GONE_PEERS_MAX,
    VISITORS_MAX,
    PeerLimits,
    Reputation,
)
from unchained.node.primitives.codec import encode
from unchained.node.transport.address_groups import (
    ONION_VISITOR,
    host_group,
    is_public,
    network_group,
    stand_in,
)
from unchained.node.transport.contract import (
    Direction,
    DisconnectReason,
    Misbehaved,
    Misbehaviour,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    PeerInfo,
)
from unchained.storage import schema
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
        assert ban.until - now == min(FIRST_BAN_MS * BAN_GROWTH**count, LONGEST_BAN_MS)
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


def test_bans_that_cannot_be_read_are_dropped_and_counted() -> None:
    store = MemoryStore()
    bans = BanList(store)
    bans.add("1.2.3.4", "forged", 10**12)
    batch = Batch()
    bans.pending(batch)
    batch.put(schema.BAN.key(b"\xff"), encode(BanRecord(1, 2, 1, b"")))
    batch.put(schema.BAN.key(b"1.2.3.5"), encode(BanRecord(1, 2, 1, b"\xff")))
    batch.put(schema.BAN.key(b"1.2.3.6"), b"torn")
    store.write(batch, sync=False)
    again = BanList(store)
    assert again.unreadable == 3
    assert [ban.group for ban in again.active(10**12)] == ["1.2.3.4"]
    batch = Batch()
    again.pending(batch)
    store.write(batch, sync=False)
    assert BanList(store).unreadable == 0


def test_bans_are_bounded_and_the_one_that_ends_first_goes() -> None:
    bans = BanList(MemoryStore())
    for number in range(BANS_MAX + 5):
        bans.add(f"group {number}", "", number)
    assert len(bans.active(0)) == BANS_MAX
    assert not bans.is_banned("group 4", 0)


CROWDS: dict[str, Callable[[int], str]] = {
    "identities behind an onion service": lambda number: host_group(
        ONION_VISITOR, PeerId(f"visitor {number}")
    ),
    "onion addresses that are dialled": lambda number: host_group(stand_in(f"{number}.onion")),
    "programs of this machine": lambda number: host_group("127.0.0.1", PeerId(f"own {number}")),
    "peers that never were here": lambda number: f"unknown/{number}",
    "addresses of an IPv6 /32": lambda number: host_group(f"2001:db8:{number:x}::1"),
    "addresses of an IPv4 /16": lambda number: host_group(f"66.6.{number >> 8}.{number & 255}"),
}


@pytest.mark.parametrize("kind", CROWDS)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_who_gets_a_crowd_of_one_network_banned_frees_nobody_else(
    kind: str, is_restarted: bool
) -> None:
    store = MemoryStore()
    bans = BanList(store)
    others = [f"{20 + number}.1.0.1" for number in range(100)]
    others.append(host_group("2600:1::1"))
    for group in others:
        bans.add(group, "forged", 0)
    if is_restarted:
        batch = Batch()
        bans.pending(batch)
        store.write(batch, sync=False)
        bans = BanList(store)
    for number in range(BANS_MAX + 100):
        # Those of the crowd end later.
        bans.add(CROWDS[kind](number), "forged", 1 + number)
    assert all(bans.is_banned(group, 100) for group in others)
    assert len(bans.active(0)) == BANS_MAX
    assert bans.lift(others[0])
    assert not bans.lift(others[0])
    assert len(bans.active(0)) == BANS_MAX - 1


class Room:
    """A reputation with peers that are given."""

    def __init__(self, limits: PeerLimits | None = None) -> None:
        self.infos: dict[PeerId, PeerInfo] = {}
        self.dropped: list[PeerId] = []
        self.left: list[PeerId] = []
        self.changes_of_bans = 0
        self.reputation = Reputation(
            BanList(MemoryStore()),
            limits or PeerLimits(),
            connections=self,
            observer=self,
            clock=TrioClock(10**12),
            log=structlog.get_logger(),
        )

    def peers(self) -> Iterable[PeerInfo]:
        return self.infos.values()

    def drop(self, peer: PeerId) -> None:
        self.dropped.append(peer)

    def leave(self, peer: PeerId) -> None:
        self.left.append(peer)

    def bans_changed(self) -> None:
        self.changes_of_bans += 1

    def join(self, name: str, ip: str, direction: Direction = Direction.INBOUND) -> bool:
        peer = PeerId(name)
        gate = self.reputation.gate
        if not (gate(ip, None, direction) and gate(ip, peer, direction)):
            return False
        info = PeerInfo(peer, ip, "", direction, 0.0)
        self.infos[peer] = info
        self.reputation.note(PeerConnected(info))
        return True

    def part(self, name: str) -> None:
        info = self.infos.pop(PeerId(name))
        self.reputation.note(PeerDisconnected(info, DisconnectReason.REMOTE))


@pytest.fixture
def quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


async def test_the_gate_limits_hosts_networks_and_all(quiet: None) -> None:
    room = Room(PeerLimits(inbound=9, inbound_per_host=2, inbound_per_network=3))
    assert [room.join(f"h{n}", "1.2.3.4") for n in range(3)] == [True, True, False]
    assert [room.join(f"n{n}", f"1.2.9.{n}") for n in range(2)] == [True, False]
    assert all(room.join(f"p{n}", f"10.0.0.{n}") for n in range(4))
    # Nine places are taken by now; a few more may look in.
    last = [room.join(f"l{n}", "127.0.0.1") for n in range(3 + VISITORS_MAX)]
    assert last == [True] * (2 + VISITORS_MAX) + [False]
    assert not Room(PeerLimits(inbound=0)).join("a", "1.2.3.4")
    assert room.join("out", "1.2.3.4", Direction.OUTBOUND)
    assert not room.reputation.may_dial("1.2.77.1", A)
    assert room.reputation.may_dial("1.3.0.1", A)


async def test_who_comes_back_while_he_is_there_is_counted_once(quiet: None) -> None:
    room = Room(PeerLimits(inbound_per_host=2))
    assert room.join("a", "1.2.3.4")
    assert room.join("b", "1.2.3.4")
    assert room.reputation.gate("1.2.3.4", A, Direction.INBOUND)
    assert not room.reputation.gate("1.2.3.4", PeerId("c"), Direction.INBOUND)


async def test_penalties_add_up_to_a_ban_of_the_whole_group(quiet: None) -> None:
    room = Room()
    assert room.join("a", "2001:db8::1")
    assert room.join("b", "2001:db8::2")
    assert room.join("c", "2001:db8:0:1::1")
    reputation = room.reputation
    reputation.penalize(A, Penalty.NONE, "nothing")
    for _ in range(int(DEBT_MS_MAX // FAULT_MS)):
        reputation.penalize(A, Penalty.FAULT, "wrong")
    assert room.dropped == []
    reputation.penalize(A, Penalty.COST, "expensive", ms=0.5)
    assert sorted(room.dropped) == ["a", "b"]
    assert not room.join("d", "2001:db8::3")
    (ban,) = reputation.active_bans()
    assert ban.group == "2001:db8::/64"
    assert ban.reason == "too much useless work, last: expensive"
    assert reputation.lift(ban.group)
    assert room.join("d", "2001:db8::3")
    assert dict(reputation.penalties) == {"fault": 8, "cost": 1}


async def test_what_is_of_no_use_costs_beyond_what_honest_peers_send_of_it(quiet: None) -> None:
    room = Room()
    assert room.join("a", "1.2.3.4")
    assert room.join("b", "1.2.3.4")
    reputation = room.reputation
    for _ in range(int(FREE_MS_MAX)):
        reputation.charge_excess(A, "known", 1.0)
    assert reputation.penalties == {}
    # For ever, what is forgiven and what is free together.
    lasting = int(DEBT_FORGIVEN_MS_PER_S + FREE_MS_PER_S)
    for _ in range(300):
        for _ in range(lasting):
            reputation.charge_excess(A, "known", 1.0)
        await trio.sleep(1)
    assert room.dropped == []
    # Another name of the same address has no more. Nobody is banned for it: who comes after a cut
    # brings all that was undone.
    for _ in range(int(DEBT_MS_MAX) + lasting + 1):
        reputation.charge_excess(B, "known", 1.0)
    assert set(room.left) == {"b"}
    assert room.dropped == []
    assert reputation.active_bans() == []


async def test_what_the_transport_saw_is_punished_even_without_an_id(quiet: None) -> None:
    room = Room()
    room.reputation.note(Misbehaved("1.2.3.4", None, Misbehaviour.HANDSHAKE_FAILED, "slow"))
    assert room.reputation.active_bans() == []
    room.reputation.note(Misbehaved("1.2.3.4", None, Misbehaviour.OVERSIZED_FRAME, "big"))
    assert not room.join("a", "1.2.3.4")
    # On loopback it is the id that counts, and nothing without one.
    room.reputation.note(Misbehaved("127.0.0.1", None, Misbehaviour.OVERSIZED_FRAME, "big"))
    assert room.join("b", "127.0.0.1")
    room.reputation.note(Misbehaved("127.0.0.1", B, Misbehaviour.OVERSIZED_FRAME, "big"))
    assert room.dropped == ["b"]
    assert room.join("c", "127.0.0.1")


async def test_who_stays_is_known_however_many_come_and_go(quiet: None) -> None:
    room = Room()
    assert room.join("a", "1.2.3.4")
    for number in range(GONE_PEERS_MAX + 1):
        assert room.join(f"visitor {number}", "9.9.9.9")
        room.part(f"visitor {number}")
    reputation = room.reputation
    assert reputation.group_of(A) == "1.2.3.4"
    assert reputation.group_of(PeerId("visitor 0")) == "unknown/visitor 0"
    # What is found out late is for who has just left, too.
    assert reputation.group_of(PeerId("visitor 1")) == "9.9.9.9"
    reputation.penalize(A, Penalty.BAN, "forged")
    assert [ban.group for ban in reputation.active_bans()] == ["1.2.3.4"]
    assert room.dropped == ["a"]


@pytest.mark.parametrize("penalty", [Penalty.BAN, Penalty.COST])
async def test_a_ban_drops_the_peer_itself_whatever_is_banned(
    quiet: None, penalty: Penalty
) -> None:
    room = Room()
    # The gate was never told of it, and its group has been banned before.
    room.infos[A] = PeerInfo(A, "1.2.3.4", "", Direction.INBOUND, 0.0)
    assert room.join("b", "1.2.3.5")
    room.reputation.ban(room.reputation.group_of(A), "known")
    assert room.dropped == []
    room.reputation.penalize(A, penalty, "forged", ms=DEBT_MS_MAX + 1)
    assert room.dropped == ["a"]
    # So is one whom the transport saw misbehave from another address than it is shown with.
    room.reputation.note(Misbehaved("7.7.7.7", B, Misbehaviour.OVERSIZED_FRAME, "big"))
    assert room.dropped == ["a", "b"]
    assert room.reputation.bans.is_banned("7.7.7.7", 10**12)
