"""The peer manager on the in-memory network, in virtual time: whom it finds, keeps and lets go."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import structlog
import trio

from tests.framework.simulation.link_model import LinkModel
from tests.framework.simulation.memory_network import MemoryNetwork, MemoryTransport
from tests.simulation.test_network_idle import StepCounter
from tests.unit.peers.test_address_book import onion
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.peers import address_exchange, link_exchange, manager
from unchained.node.peers.address_exchange import fit_to_send
from unchained.node.peers.address_table import OWN
from unchained.node.peers.ban_list import BanList
from unchained.node.peers.dialler import PeerSettings
from unchained.node.peers.eviction import News
from unchained.node.peers.lost_peers import LASTED_S, LATE_REDIAL_S
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.penalty import Penalty
from unchained.node.peers.reputation import VISITORS_MAX, PeerLimits
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import ONION_VISITOR, network_group
from unchained.node.transport.contract import BadAddressError, PeerConnected, PeerInfo
from unchained.node.transport.libp2p.handshakes import HANDSHAKES_PER_S
from unchained.node.wire.messages import AddressesRequest, Status
from unchained.storage import schema
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryDisk, MemoryStore

GENESIS = b"g" * 32
NOW_MS = 10**12
PEER = "1" * 44


class Peer:
    """A transport with a manager, and nothing above them. `disk` outlives a restart."""

    def __init__(self, world: World, ip: str, **settings: Any) -> None:
        self.world = world
        self.ip = ip
        self.settings = settings
        self.disk = MemoryDisk()
        self.clock_offset_ms = 0
        self.tip = GENESIS
        self.scope = trio.CancelScope()
        self.make()

    def make(self) -> None:
        self.clock = clock = TrioClock(NOW_MS + int(trio.current_time() * 1000))
        self.store = MemoryStore(self.disk)
        self.transport = MemoryTransport(
            self.world.weather, self.ip, self.ip, structlog.get_logger()
        )
        self.manager = PeerManager(
            self.transport,
            self.store,
            PeerSettings(**self.settings),
            genesis_id=GENESIS,
            own_status=self,
            clock=clock,
            rng=random.Random(self.ip),
            writer=InlineRunner(),
            resolver=self.world,
            log=structlog.get_logger().bind(node=self.ip),
        )

    def current(self) -> Status:
        """Return what it says of itself."""
        now_ms = self.clock.now_ms() + self.clock_offset_ms
        return Status(GENESIS, self.tip, 0, bytes(32), 1, now_ms)

    async def start(self) -> Peer:
        self.scope = trio.CancelScope()
        await self.world.nursery.start(self._run)
        return self

    async def stop(self) -> None:
        self.scope.cancel()
        await trio.sleep(1)

    async def start_anew(self) -> None:
        self.make()
        await self.start()

    async def restart(self) -> None:
        await self.stop()
        await self.start_anew()

    async def _run(self, task_status: Any) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.transport.run)
                await nursery.start(lambda task_status: self.manager.run(task_status=task_status))
                task_status.started()

    def dialled(self) -> set[str]:
        """Return the addresses of the peers that it chose."""
        return {view.ip for view in self.manager.peers() if view.outbound}


class World:
    def __init__(self, nursery: trio.Nursery, log: list[dict[str, Any]]) -> None:
        self.nursery = nursery
        self.log = log
        self.weather = MemoryNetwork(1)
        self.names: dict[str, Sequence[str]] = {}
        self.looked_up: list[str] = []

    async def resolve(self, address: Address) -> Sequence[str]:
        self.looked_up.append(address.host)
        await trio.sleep(0.1)
        if address.host not in self.names:
            raise OSError(f"{address.host} is unknown")
        return self.names[address.host]

    async def peers(self, *ips: str) -> list[Peer]:
        """Start peers that dial nobody by themselves."""
        limits = PeerLimits(outbound=0)
        return [await Peer(self, ip, limits=limits).start() for ip in ips]

    def logged(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.log if event["event"] == name]

    async def until(self, wanted: Callable[[], Any], within_s: float) -> None:
        with trio.fail_after(within_s):
            while not wanted():  # noqa: ASYNC110 - in virtual time nothing waits
                await trio.sleep(0.5)


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    log: list[dict[str, Any]] = []

    def note(_logger: Any, level: str, event: Any) -> Any:
        log.append({**event, "level": level})
        raise structlog.DropEvent

    structlog.configure(processors=[note])
    try:
        async with trio.open_nursery() as nursery:
            world = World(nursery, log)
            await nursery.start(world.weather.run)
            yield world
            nursery.cancel_scope.cancel()
    finally:
        structlog.reset_defaults()
    assert not [event for event in log if event["level"] == "error"]


async def test_seeds_are_asked_until_they_answer_and_only_while_peers_are_missing() -> None:
    async with a_world() as world:
        others = await world.peers("20.1.0.1", "21.1.0.1", "22.1.0.1")
        newcomer = await Peer(world, "30.1.0.1", seeds=("/dns/seed.example/tcp/9000",)).start()
        await world.until(lambda: world.logged("peer.seed_failed"), 30)
        # One of the addresses is the newcomer's own, and one is nobody's.
        world.names["seed.example"] = ["30.1.0.1", "99.9.9.9", *(other.ip for other in others)]
        await world.until(lambda: len(newcomer.dialled()) == 3, 60)
        assert [event["nodes"] for event in world.logged("peer.seeded")] == [3]
        asked = len(world.looked_up)
        satisfied = Peer(
            world,
            "31.1.0.1",
            seeds=("/dns/seed.example/tcp/9000",),
            bootstrap=tuple(other.transport.address for other in others),
            limits=PeerLimits(outbound=3),
        )
        await satisfied.start()
        await trio.sleep(60)
        assert len(satisfied.dialled()) == 3
        assert len(world.looked_up) == asked


@pytest.mark.parametrize("where", ["bootstrap", "seeds"])
async def test_an_address_that_is_none_is_refused_at_once(where: str) -> None:
    async with a_world() as world:
        with pytest.raises(BadAddressError, match=r"/ip4/1\.2\.3/tcp/1"):
            Peer(world, "20.1.0.1", **{where: ("/ip4/1.2.3/tcp/1",)})
        with pytest.raises(BadAddressError, match="NAME"):
            Peer(world, "20.1.0.1", seeds=("/ip4/1.2.3.4/tcp/1",))


async def test_outbound_peers_are_of_different_networks() -> None:
    async with a_world() as world:
        same = [f"20.1.{number}.1" for number in range(6)]
        others = await world.peers(*same, "21.1.0.1", "22.1.0.1")
        chooser = Peer(world, "30.1.0.1", limits=PeerLimits(outbound=5))
        for other in others:
            chooser.manager.book.add(other.transport.address, "44.4.0.0/16", NOW_MS)
        await chooser.start()
        await trio.sleep(120)
        networks = [network_group(ip) for ip in chooser.dialled()]
        assert sorted(networks) == ["20.1.0.0/16", "21.1.0.0/16", "22.1.0.0/16"]


async def test_probes_try_what_was_only_heard_of_and_let_go() -> None:
    async with a_world() as world:
        first, other = await world.peers("20.1.0.1", "21.1.0.1")
        limits = PeerLimits(outbound=1)
        node = Peer(world, "30.1.0.1", bootstrap=(first.transport.address,), limits=limits)
        await node.start()
        await world.until(lambda: node.dialled() == {first.ip}, 30)
        tried = node.manager.book.statistics().tried
        node.manager.book.add(other.transport.address, "44.4.0.0/16", NOW_MS)
        await world.until(lambda: node.manager.book.statistics().tried > tried, 300)
        await trio.sleep(5)
        assert node.manager.statistics().probes >= 1
        assert node.dialled() == {first.ip}


async def test_the_last_outbound_peers_come_first_after_a_restart() -> None:
    async with a_world() as world:
        two = await world.peers("20.1.0.1", "21.1.0.1")
        node = Peer(world, "30.1.0.1", limits=PeerLimits(outbound=2))
        for peer in two:
            node.manager.book.add(peer.transport.address, "44.4.0.0/16", NOW_MS)
        await node.start()
        await world.until(lambda: len(node.dialled()) == 2, 60)
        others = await world.peers(*(f"{number}.1.0.1" for number in range(40, 70)))
        for other in others:
            node.manager.book.add(other.transport.address, "55.5.0.0/16", NOW_MS)
            node.manager.book.good(other.transport.address, NOW_MS)
        await node.restart()
        await world.until(lambda: len(node.dialled()) == 2, 60)
        assert node.dialled() == {peer.ip for peer in two}


async def test_what_strangers_say_of_private_networks_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_world() as world:
        (teller,) = await world.peers("20.1.0.1")
        book = teller.manager.book
        given = ("192.168.1.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "25.5.0.1")
        texts = [f"/ip4/{ip}/tcp/9000/p2p/{'1' * 44}" for ip in given]
        for text in texts:
            assert book.add(text, "44.4.0.0/16", NOW_MS)
        assert len(fit_to_send(texts, "10.0.0.1")) == len(texts)
        assert fit_to_send(texts[:3] + texts[-1:], "30.1.0.1") == texts[-1:]
        monkeypatch.setattr(address_exchange, "fit_to_send", lambda found, _ip: list(found))
        node = Peer(world, "30.1.0.1", bootstrap=(teller.transport.address,))
        await node.start()
        await world.until(lambda: texts[-1] in node.manager.book, 30)
        assert not any(text in node.manager.book for text in texts[:-1])


@pytest.mark.parametrize(
    ("ip", "loopback_is_home", "announced", "is_home"),
    [
        (ONION_VISITOR, True, "", False),
        ("127.0.0.1", True, "", True),
        ("127.0.0.1", False, "", False),
        ("::1", False, "", False),
        ("192.168.1.2", False, "", True),
        ("127.0.0.1", True, f"/onion3/{onion(1)}:9000", False),
        # Where Tor is in a container, or on another machine, its visitors are "from" there.
        ("172.18.0.2", True, f"/onion3/{onion(1)}:9000", False),
    ],
)
async def test_who_comes_through_an_onion_service_is_not_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, ip: str, loopback_is_home: bool, announced: str, is_home: bool
) -> None:
    async with a_world() as world:
        node = Peer(world, "30.1.0.1", loopback_is_home=loopback_is_home)
        await node.start()
        private = [f"/ip4/{at}/tcp/9001/p2p/{'1' * 44}" for at in ("192.168.1.9", "127.0.0.1")]
        public = f"/ip4/25.5.0.1/tcp/9000/p2p/{'1' * 44}"
        if announced:
            monkeypatch.setattr(node.transport, "addresses", lambda: (f"{announced}/p2p/{PEER}",))
        visitor = await Peer(world, ip, limits=PeerLimits(outbound=0)).start()
        for text in (*private, public):
            visitor.manager.book.add(text, "44.4.0.0/16", NOW_MS)
        monkeypatch.setattr(
            visitor.manager._address_exchange, "_known_place", lambda _ip: "192.168.1.1"
        )
        await visitor.transport.connect(node.transport.address)
        await world.until(lambda: public in node.manager.book, 60)
        held = [text for text in private if text in node.manager.book]
        assert held == (private if is_home else [])
        for text in private:
            node.manager.book.add(text, "44.4.0.0/16", NOW_MS)
        exchange = node.manager._address_exchange
        sent = await exchange._serve(visitor.transport.id, AddressesRequest(100))
        assert (private[0].encode() in sent) is is_home
        assert public.encode() in sent


async def test_beside_a_service_whose_visitors_show_this_machine_is_home() -> None:
    async with a_world() as world:
        node = Peer(world, "30.1.0.1", onion_is_apart=True)
        node.transport.addresses = lambda: (f"/onion3/{onion(1)}:9000/p2p/{PEER}",)  # type: ignore[method-assign]
        exchange = node.manager._address_exchange
        assert exchange._known_place("127.0.0.1") == "127.0.0.1"
        assert exchange._known_place("192.168.1.2") == "192.168.1.2"


async def test_rows_that_cannot_be_read_do_not_keep_a_node_from_starting() -> None:
    async with a_world() as world:
        (node,) = await world.peers("30.1.0.1")
        await node.stop()
        text = f"/ip4/25.5.0.1/tcp/9000/p2p/{'1' * 44}".encode()
        batch = Batch()
        batch.put(schema.ADDRESS.key(b"a:" + text), b"torn")
        batch.put(schema.BAN.key(b"\xff"), b"torn")
        node.store.write(batch, sync=False)
        await node.start_anew()
        (event,) = world.logged("peer.rows_unreadable")
        assert (event["addresses"], event["bans"]) == (1, 1)
        await node.restart()
        assert len(world.logged("peer.rows_unreadable")) == 1


async def test_outbound_clocks_are_compared_and_a_difference_is_reported_loudly() -> None:
    async with a_world() as world:
        others = await world.peers("20.1.0.1", "21.1.0.1", "22.1.0.1")
        for other in others:
            other.clock_offset_ms = 60_000
        node = Peer(
            world,
            "30.1.0.1",
            bootstrap=tuple(other.transport.address for other in others),
            limits=PeerLimits(outbound=3),
        )
        await node.start()
        await world.until(lambda: world.logged("net.clock_off"), 60)
        (event,) = world.logged("net.clock_off")
        assert (event["level"], event["node"]) == ("warning", node.ip)
        assert 59_000 < event["peers_ahead_ms"] < 61_000
        # The others were chosen by it, so it counts for none of them; and it goes on.
        assert all(other.manager.clock_offset_ms() is None for other in others)
        await trio.sleep(300)
        assert len(world.logged("net.clock_off")) == 1
        assert len(node.dialled()) == 3


async def test_how_long_a_peer_takes_to_answer_is_known_once_it_has() -> None:
    async with a_world() as world:
        (other,) = await world.peers("20.1.0.1")
        node = Peer(world, "30.1.0.1", bootstrap=(other.transport.address,))
        far = LinkModel(latency=0.4, jitter=0.0)
        world.weather.set_link(node.transport.id, other.transport.id, far)
        await node.start()
        await world.until(node.manager.peers, 60)
        assert node.manager.peers()[0].latency_s is None
        await world.until(lambda: node.manager.peers()[0].latency_s, 60)
        assert 0.8 <= (node.manager.peers()[0].latency_s or 0) < 2.0
        world.weather.set_link(node.transport.id, other.transport.id, LinkModel(0.01, jitter=0.0))
        # What is asked every quarter of a minute anyway says it: nothing is asked for its sake.
        await world.until(lambda: (node.manager.peers()[0].latency_s or 1.0) < 0.8, 60)
        noted = node.manager.statistics().latency
        assert noted.count >= 2
        assert noted.seconds >= 0.8
        # Of who asks us we know it from the greeting.
        (view,) = other.manager.peers()
        assert view.latency_s is not None


async def test_bans_are_on_disk_at_once() -> None:
    async with a_world() as world:
        node = (await world.peers("20.1.0.1"))[0]
        other = await Peer(world, "21.1.0.1", bootstrap=(node.transport.address,)).start()
        await world.until(node.manager.peers, 30)
        node.manager.reputation.penalize(other.transport.id, Penalty.BAN, "forged")
        await trio.sleep(1)
        assert node.manager.peers() == []
        (ban,) = BanList(node.store).active(NOW_MS)
        assert (ban.group, ban.reason) == (other.ip, "forged")
        assert node.manager.reputation.lift(ban.group)
        await trio.sleep(1)
        assert BanList(node.store).active(NOW_MS) == []


async def test_a_peer_that_answers_nothing_is_let_go() -> None:
    async with a_world() as world:
        mute = MemoryTransport(world.weather, "mute", "20.1.0.1", structlog.get_logger())
        await world.nursery.start(mute.run)
        node = await Peer(world, "30.1.0.1", bootstrap=(mute.address,)).start()
        await world.until(node.manager.peers, 30)
        await world.until(lambda: world.logged("peer.silent"), 120)
        await trio.sleep(1)
        assert node.manager.statistics().greeted == 0


async def test_peers_that_a_cut_line_took_are_back_soon_after_hours() -> None:
    async with a_world() as world:
        others = await world.peers(*(f"{number}.1.0.1" for number in range(20, 24)))
        through = tuple(other.transport.address for other in others)
        node = await Peer(world, "30.1.0.1", bootstrap=through[:1]).start()
        for address in through[1:]:
            node.manager.book.add(address, "44.4.0.0/16", NOW_MS)
        await world.until(lambda: len(node.dialled()) == 4, 60)
        await trio.sleep(120)
        world.weather.partition([[node.transport.id]])
        await world.until(lambda: not node.manager.peers(), 60)
        await trio.sleep(2 * 3600)
        # Nobody answered, so it was not the fault of any address.
        entries = [node.manager.book.get(address) for address in through]
        assert all(entry is not None and entry.failures <= 1 for entry in entries)
        world.weather.heal()
        await world.until(lambda: len(node.dialled()) == 4, 60)


async def test_a_lost_peer_is_visited_though_others_have_its_place() -> None:
    async with a_world() as world:
        lost, kept = await world.peers("20.1.0.1", "21.1.0.1")
        node = Peer(world, "30.1.0.1", limits=PeerLimits(outbound=1))
        node.manager.book.add(lost.transport.address, "44.4.0.0/16", NOW_MS)
        await node.start()
        await world.until(lambda: node.dialled() == {lost.ip}, 60)
        await trio.sleep(60)
        world.weather.partition([[node.transport.id, kept.transport.id]])
        await world.until(lambda: not node.dialled(), 60)
        node.manager.book.add(kept.transport.address, "44.4.0.0/16", NOW_MS)
        await world.until(lambda: node.dialled() == {kept.ip}, 60)
        await trio.sleep(600)
        world.weather.heal()
        await world.until(lambda: node.dialled() == {kept.ip, lost.ip}, 60)
        await trio.sleep(link_exchange.EXTRA_STAY_S / 2)
        assert node.dialled() == {kept.ip, lost.ip}
        # Its news are no reason that another should go for it.
        node.manager.note_news(lost.transport.id, News.ANCHOR)
        await world.until(lambda: node.dialled() == {kept.ip}, link_exchange.EXTRA_STAY_S)
        # It may be the only way to its part of the network: it is visited again.
        await world.until(lambda: lost.ip in node.dialled(), LATE_REDIAL_S + 5)
        # Once there is a place, it is its own.
        await kept.stop()
        await world.until(lambda: node.dialled() == {lost.ip}, 60)
        await trio.sleep(600)
        assert node.dialled() == {lost.ip}


@pytest.mark.parametrize("silently", [False, True])
async def test_who_hangs_up_again_and_again_costs_no_other_its_link(silently: bool) -> None:
    async with a_world() as world:
        evil, honest = await world.peers("20.1.0.1", "21.1.0.1")
        node = Peer(world, "30.1.0.1", limits=PeerLimits(outbound=1))
        node.manager.book.add(evil.transport.address, "44.4.0.0/16", NOW_MS)
        await node.start()
        await world.until(lambda: node.dialled() == {evil.ip}, 60)
        await trio.sleep(LASTED_S + 1)
        if silently:
            world.weather.partition([[node.transport.id, honest.transport.id]])
        else:
            await evil.stop()
        await world.until(lambda: not node.dialled(), 60)
        node.manager.book.add(honest.transport.address, "44.4.0.0/16", NOW_MS)
        await world.until(lambda: node.dialled() == {honest.ip}, 60)
        if silently:
            world.weather.heal()
            await world.until(lambda: node.dialled() == {honest.ip, evil.ip}, 60)
        else:
            await evil.start_anew()
        for _ in range(1200):
            # The attacker is quick: who is honest never brings anything first.
            node.manager.note_news(evil.transport.id, News.COIN)
            await trio.sleep(1)
            assert honest.ip in node.dialled()
            assert silently or evil.ip not in node.dialled()


async def test_a_peer_of_the_operators_that_closed_is_looked_for() -> None:
    async with a_world() as world:
        own, other = await world.peers("20.1.0.1", "21.1.0.1")
        limits = PeerLimits(outbound=1)
        node = Peer(world, "30.1.0.1", bootstrap=(own.transport.address,), limits=limits)
        await node.start()
        await world.until(lambda: node.dialled() == {own.ip}, 60)
        await trio.sleep(LASTED_S + 1)
        await own.stop()
        node.manager.book.add(other.transport.address, "44.4.0.0/16", NOW_MS)
        await world.until(lambda: node.dialled() == {other.ip}, 60)
        await own.start_anew()
        await world.until(lambda: node.dialled() == {own.ip, other.ip}, 60)


async def full_hub(world: World) -> tuple[Peer, dict[str, Any], list[Peer]]:
    """Return a node whose two inbound places are taken, with what others are made of that come to
    it, and the two that are there."""
    hub = await Peer(world, "20.1.0.1", limits=PeerLimits(outbound=0, inbound=2)).start()
    through = {"bootstrap": (hub.transport.address,), "limits": PeerLimits(outbound=1)}
    first = [await Peer(world, ip, **through).start() for ip in ("30.1.0.1", "31.1.0.1")]
    await world.until(lambda: len(hub.manager.greeted()) == 2, 30)
    return hub, through, first


async def test_who_joins_through_a_full_node_learns_of_others_there_and_goes_on() -> None:
    async with a_world() as world:
        hub, through, first = await full_hub(world)
        late = await Peer(world, "32.1.0.1", **through).start()
        await world.until(late.manager.greeted, 30)
        others = {peer.ip for peer in first}
        # Each visit lasts 20 s, and every other dial is one more.
        await world.until(lambda: late.dialled() and late.dialled() <= others, 400)
        inbound = {view.ip for view in hub.manager.peers()}
        assert inbound == others


async def test_who_says_nothing_in_the_places_of_visitors_keeps_nobody_out() -> None:
    async with a_world() as world:
        hub, through, _ = await full_hub(world)
        # As many as an IPv6 /64, which is one host, and a /32 may have.
        for number in range(VISITORS_MAX):
            ip = f"2a0{number // 16}:1:1:{number // 4}::{number % 4 + 1}"
            mute = MemoryTransport(world.weather, ip, ip, structlog.get_logger())
            await world.nursery.start(mute.run)
            await mute.connect(hub.transport.address)
        late = await Peer(world, "32.1.0.1", **through).start()
        await world.until(late.manager.greeted, 5)


async def test_a_visitor_by_a_slow_line_is_served_however_many_come_after_it() -> None:
    """As many as handshakes may begin, each from a network of its own."""
    async with a_world() as world:
        hub, through, _ = await full_hub(world)
        late = Peer(world, "32.1.0.1", **through)
        world.weather.set_link(
            late.transport.id, hub.transport.id, LinkModel(latency=0.15, jitter=0.0)
        )

        async def arrive() -> None:
            for number in range(200):
                ip = f"{40 + number // 100}.{number % 100}.0.1"
                mute = MemoryTransport(world.weather, ip, ip, structlog.get_logger())
                await world.nursery.start(mute.run)
                world.nursery.start_soon(mute.connect, hub.transport.address)
                await trio.sleep(1 / HANDSHAKES_PER_S)

        world.nursery.start_soon(arrive)
        await trio.sleep(3)
        await late.start()
        await world.until(late.manager.greeted, 3)
        await world.until(lambda: len(hub.manager.greeted()) == 3, 1)


async def test_a_visitor_that_has_not_been_told_of_others_yet_does_not_go_first() -> None:
    async with a_world() as world:
        hub, through, _ = await full_hub(world)

        async def arrive(ip: str) -> None:
            mute = MemoryTransport(world.weather, ip, ip, structlog.get_logger())
            await world.nursery.start(mute.run)
            await mute.connect(hub.transport.address)

        for number in range(VISITORS_MAX - 2):
            await arrive(f"40.{number}.0.1")
        late = Peer(world, "32.1.0.1", **through)
        exchange = late.manager._address_exchange
        ask, may_ask = exchange.ask, trio.Event()

        async def ask_late(info: PeerInfo) -> None:
            await may_ask.wait()
            await ask(info)

        exchange.ask = ask_late  # type: ignore[method-assign]
        await late.start()
        await world.until(lambda: late.transport.id in hub.manager.greeted(), 3)
        await trio.sleep(1)  # it is welcomed
        await arrive("41.1.0.1")
        await trio.sleep(1)
        assert late.transport.id in hub.manager.greeted()
        may_ask.set()
        await world.until(lambda: len(late.manager.book) > 1, 3)
        # Now it has what it came for.
        await arrive("42.1.0.1")
        await world.until(lambda: late.transport.id not in hub.manager.greeted(), 1)


@pytest.mark.parametrize("is_named", [True, False])
async def test_who_is_shown_out_of_a_full_node_leaves_it_alone_for_longer_each_time(
    is_named: bool,
) -> None:
    async with a_world() as world:
        hub, through, _ = await full_hub(world)
        if not is_named:
            through["bootstrap"] = (hub.transport.address.partition("/p2p/")[0],)
        late = Peer(world, "32.1.0.1", **through)
        add = late.manager.book.add

        def add_own(text: str, source: str, now_ms: int) -> bool:
            # None of the others is an address for it: it finds nobody but the hub.
            return source == OWN and add(text, source, now_ms)

        late.manager.book.add = add_own  # type: ignore[method-assign]
        connected = []
        late.transport.observe(
            lambda event: connected.append(event) if isinstance(event, PeerConnected) else None
        )
        await late.start()
        await trio.sleep(600)
        assert late.dialled() in (set(), {"20.1.0.1"})
        # It is a visitor for 20 s, and waits up to a minute for the operator's only address.
        assert 600 / 80 < len(connected) < 20
        # Whose peer nobody named is asked before who it is.
        assert late.manager.statistics().dials < 20 * (1 if is_named else 2)


async def test_newcomers_do_not_storm_full_nodes() -> None:
    async with a_world() as world:
        only_inbound = PeerLimits(outbound=0, inbound=4)
        hubs = [await Peer(world, f"2{n}.1.0.1", limits=only_inbound).start() for n in range(3)]
        through = tuple(hub.transport.address for hub in hubs)
        crowd = [
            await Peer(
                world, f"{30 + n}.1.0.1", bootstrap=through, limits=PeerLimits(outbound=3)
            ).start()
            for n in range(40)
        ]
        await trio.sleep(30)
        dials = sum(peer.manager.statistics().dials for peer in crowd)
        assert dials < 40 * 3 * 4


async def test_two_that_join_at_the_same_moment_find_each_other_soon() -> None:
    async with a_world() as world:
        (hub,) = await world.peers("20.1.0.1")
        through = {"bootstrap": (hub.transport.address,)}
        pair = [Peer(world, ip, **through) for ip in ("30.1.0.1", "31.1.0.1")]
        for peer in pair:
            await peer.start()
        await world.until(lambda: all(len(peer.manager.greeted()) == 2 for peer in pair), 30)


async def test_a_house_full_of_one_hands_peers_has_room_for_others_and_keeps_its_friends() -> None:
    async with a_world() as world:
        hub = await Peer(world, "20.1.0.1", limits=PeerLimits(outbound=0, inbound=40)).start()
        through = {"bootstrap": (hub.transport.address,), "limits": PeerLimits(outbound=1)}
        # One that has served for an hour and one that brings coins, before and amid the flood.
        old = await Peer(world, "30.1.0.1", **through).start()
        await trio.sleep(3600)
        flood = [
            await Peer(world, f"{50 + number // 16}.1.{number % 16}.1", **through).start()
            for number in range(30)
        ]
        useful = await Peer(world, "31.1.0.1", **through).start()
        await world.until(lambda: useful.transport.id in hub.manager.greeted(), 30)
        hub.manager.note_news(useful.transport.id, News.COIN)
        flood += [
            await Peer(world, f"{60 + number // 16}.1.{number % 16}.1", **through).start()
            for number in range(40)
        ]
        await world.until(lambda: len(hub.manager.greeted()) >= 40, 60)
        late = await Peer(world, "32.1.0.1", **through).start()

        def kept() -> set[str]:
            return {view.ip for view in hub.manager.peers()}

        # Its first dial may find the visitors' places taken, for a moment: it tries again.
        await world.until(lambda: late.ip in kept(), 300)
        await trio.sleep(manager.VISIT_S * 2)
        assert {old.ip, useful.ip, late.ip} <= kept()
        assert len(kept()) <= 40 + VISITORS_MAX
        evicted = {event["peer"] for event in world.logged("peer.evicted")}
        assert evicted
        assert evicted <= {peer.transport.id for peer in flood}


async def test_who_comes_and_goes_is_asked_how_it_stands_all_the_same() -> None:
    async with a_world() as world:
        one, other = await world.peers("20.1.0.1", "20.2.0.1")
        for _ in range(6):
            await one.transport.connect(other.transport.address)
            await world.until(one.manager.greeted, 5)
            await one.transport.disconnect(other.transport.id)
        await one.transport.connect(other.transport.address)
        sent = one.transport.statistics().requests_sent
        # At once, and every 15 s: questions for addresses that have to wait do not delay it.
        await trio.sleep(50)
        assert one.transport.statistics().requests_sent >= sent + 3


async def test_of_two_peers_one_asks_the_other_how_it_stands_until_it_falls_silent() -> None:
    async with a_world() as world:
        (other,) = await world.peers("20.2.0.1")
        one = await Peer(world, "20.1.0.1", limits=PeerLimits(outbound=1)).start()
        know(one, [other])
        await world.until(lambda: one.manager.status_of(other.transport.id), 60)
        await trio.sleep(30)
        asking, asked = (it.transport.statistics().requests_sent for it in (one, other))
        await trio.sleep(600)
        # Every 15 s and as long as the way there and back takes.
        assert 35 <= one.transport.statistics().requests_sent - asking <= 40 + 1
        # Of addresses it asks by itself, now and then.
        assert other.transport.statistics().requests_sent - asked <= 2
        assert other.manager.status_of(one.transport.id) is not None
        asked = other.transport.statistics().requests_sent
        one.manager.settings = msgspec.structs.replace(one.manager.settings, status_s=1e9)
        await trio.sleep(60)
        assert other.transport.statistics().requests_sent - asked >= 2


async def test_a_node_that_misses_no_peer_does_not_look_for_one_every_five_seconds() -> None:
    async with a_world() as world:
        friend, other = await world.peers("20.1.0.1", "21.1.0.1")
        limits = PeerLimits(outbound=1)
        node = await Peer(world, "40.1.0.1", limits=limits, exchange_every_s=1e9).start()
        know(node, [friend, other])
        await world.until(node.dialled, 60)
        await trio.sleep(60)
        counter = StepCounter()
        trio.lowlevel.add_instrument(counter)
        await trio.sleep(3_600)
        trio.lowlevel.remove_instrument(counter)
        # All three wake for what is asked of peers.
        assert counter.steps["peers.dial"] <= 3 * 60
        await (friend if friend.ip in node.dialled() else other).stop()
        await world.until(lambda: len(node.dialled()) == 1, 60)


def know(node: Peer, others: Sequence[Peer], *, tried: bool = True) -> None:
    for other in others:
        node.manager.book.add(other.transport.address, "44.4.0.0/16", NOW_MS)
        if tried:
            node.manager.book.good(other.transport.address, NOW_MS)


@pytest.fixture
def quick_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the time for what takes hours: a node's heart beats every second."""
    monkeypatch.setattr(link_exchange, "STAY_S", link_exchange.STAY_S / 10)


@pytest.mark.usefixtures("quick_exchanges")
async def test_an_outbound_link_is_exchanged_from_time_to_time_for_a_tried_one_elsewhere() -> None:
    async with a_world() as world:
        others = await world.peers(*(f"{number}.1.0.1" for number in range(20, 28)))
        limits = PeerLimits(outbound=3)
        node = await Peer(world, "40.1.0.1", limits=limits, exchange_every_s=300.0).start()
        know(node, others)
        await world.until(lambda: len(node.dialled()) == 3, 60)
        seen = set(node.dialled())
        for _ in range(60):
            await trio.sleep(60)
            seen |= node.dialled()
            assert len(node.dialled()) in (3, 4)
        exchanged = world.logged("peer.exchanged")
        assert 6 <= len(exchanged) <= 24
        assert len(seen) > 5


@pytest.mark.usefixtures("quick_exchanges")
async def test_who_never_hangs_up_and_is_always_first_does_not_keep_all_links() -> None:
    async with a_world() as world:
        settings: dict[str, Any] = {"limits": PeerLimits(outbound=3), "exchange_every_s": 240.0}
        node = await Peer(world, "40.1.0.1", **settings).start()
        hostile = await world.peers(*(f"{number}.1.0.1" for number in range(20, 23)))
        know(node, hostile)
        await world.until(lambda: len(node.dialled()) == 3, 60)
        honest = await world.peers(*(f"{number}.1.0.1" for number in range(50, 60)))
        know(node, honest)
        ids = {peer.transport.id for peer in hostile}
        for _ in range(90):
            await trio.sleep(60)
            for peer in ids:
                node.manager.note_news(peer, News.COIN)
        assert not node.dialled() <= {peer.ip for peer in hostile}


@pytest.mark.usefixtures("quick_exchanges")
async def test_the_operators_peers_are_not_exchanged() -> None:
    async with a_world() as world:
        own = await world.peers("20.1.0.1", "21.1.0.1")
        node = Peer(
            world,
            "40.1.0.1",
            bootstrap=tuple(peer.transport.address for peer in own),
            limits=PeerLimits(outbound=2),
            exchange_every_s=240.0,
        )
        await node.start()
        await world.until(lambda: len(node.dialled()) == 2, 60)
        know(node, await world.peers(*(f"{number}.1.0.1" for number in range(50, 54))))
        await trio.sleep(3600)
        assert {peer.ip for peer in own} <= node.dialled()
        assert world.logged("peer.exchanged") == []


async def test_while_the_tip_is_stale_there_is_one_link_more() -> None:
    async with a_world() as world:
        others = await world.peers(*(f"{number}.1.0.1" for number in range(20, 30)))
        limits = PeerLimits(outbound=3)
        node = await Peer(world, "40.1.0.1", limits=limits, stale_tip_s=1200.0).start()
        know(node, others)
        await world.until(lambda: len(node.dialled()) == 3, 60)
        for number in range(6):
            node.tip = bytes([number]) * 32
            await trio.sleep(600)
        assert world.logged("peer.stale_tip") == []
        await world.until(lambda: len(node.dialled()) == 4, 1300)
        newest = max(node.manager.peers(), key=lambda view: view.since)
        node.manager.note_news(newest.peer, News.ANCHOR)
        before = node.dialled()
        await world.until(lambda: len(node.dialled()) == 3, 300)
        assert newest.ip in node.dialled()
        assert node.dialled() < before
        # Until it changes, others are tried in turn.
        await trio.sleep(1800)
        assert len(world.logged("peer.stale_tip")) >= 3
        node.tip = b"t" * 32
        await trio.sleep(600)
        count = len(world.logged("peer.stale_tip"))
        await trio.sleep(500)
        assert len(world.logged("peer.stale_tip")) == count
        assert len(node.dialled()) == 3


async def test_all_that_ask_are_sent_the_same_addresses_for_a_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(address_exchange, "ANSWER_KEPT_S", 900.0)
    async with a_world() as world:
        (hub,) = await world.peers("20.1.0.1")
        exchange = hub.manager._address_exchange

        def learn(first: int) -> None:
            for number in range(first, first + 600):
                ip = f"{21 + number % 100}.{number // 100}.0.1"
                text = f"/ip4/{ip}/tcp/9000/p2p/{'1' * 44}"
                hub.manager.book.add(text, f"{number % 90}.1.0.0/16", NOW_MS)

        learn(0)
        first = exchange._others("30.1.0.1")
        assert len(first) >= address_exchange.MANY_ADDRESSES
        learn(600)
        assert exchange._others("99.1.0.1") == first
        assert exchange._others(None) == first
        # Who is in a network of its own kind hears of other addresses, so it is another answer.
        assert exchange._others("10.0.0.1") != first
        await trio.sleep(address_exchange.ANSWER_KEPT_S)
        assert exchange._others("30.1.0.1") != first


async def test_where_few_are_known_an_answer_lasts_until_a_quarter_more_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(address_exchange, "ANSWER_KEPT_S", 900.0)
    async with a_world() as world:
        (hub,) = await world.peers("20.1.0.1")
        book, exchange = hub.manager.book, hub.manager._address_exchange

        def learn(first: int, count: int) -> None:
            for number in range(first, first + count):
                text = f"/ip4/{21 + number}.1.0.1/tcp/9000/p2p/{'1' * 44}"
                assert book.add(text, f"{121 + number}.1.0.0/16", NOW_MS)

        assert exchange._others("30.1.0.1") == []
        learn(0, 1)
        assert len(exchange._others("30.1.0.1")) == 1
        learn(1, 39)
        # Of so many not all are told, and who asks again learns of no others.
        first = exchange._others("30.1.0.1")
        assert len(first) == 16
        assert all(exchange._others("99.1.0.1") == first for _ in range(20))
        learn(40, len(first) // 4 - 1)
        assert exchange._others("30.1.0.1") == first
        learn(50, 1)
        again = exchange._others("30.1.0.1")
        assert again != first
        await trio.sleep(address_exchange.ANSWER_KEPT_S)
        assert exchange._others("30.1.0.1") != again


async def test_an_anchor_that_the_book_does_not_hold_is_dialled_all_the_same() -> None:
    async with a_world() as world:
        (other,) = await world.peers("20.1.0.1")
        node = Peer(world, "30.1.0.1", limits=PeerLimits(outbound=2))
        node.manager.book.note_outbound([other.transport.address], 1)
        await node.start()
        await world.until(lambda: node.dialled() == {other.ip}, 60)
        assert other.transport.address in node.manager.book
