"""A node that nobody has named another to says so, and where it listens unless it is told."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import structlog
import trio

from tests.framework.network import free_port
from tests.framework.processes import NodeHome, NodeProcess
from unchained.node.base.ports import DEFAULT_PORTS
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.peers.strangers import STRANGER_STAY_S
from unchained.node.transport.contract import (
    Event,
    PeerDisconnected,
    PeerId,
    PeerIdentified,
    ServeLimits,
)
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.connection import Connection
from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport
from unchained.node.transport.libp2p.identify import Identified
from unchained.node.wire.limits import name_of
from unchained.node.wire.messages import TRANSFERS_EXCHANGE

ALONE = "this chain is yours alone"


def ask(home: NodeHome, *arguments: str, name: str = "node") -> Any:
    done = home.run(*arguments, "--json", "--data-dir", str(home.data_dir(name)))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def port_of(node: NodeProcess) -> int:
    return int(node.wait_event("net.listening")["addresses"][0].split("/")[4])


def test_a_local_node_listens_on_loopback_and_says_that_it_is_alone(home: NodeHome) -> None:
    ports = DEFAULT_PORTS["local"]
    auto = ("--no-mine", "--listen", "auto", "--rpc-listen", "auto")
    first = home.start(*auto)
    second = home.start(*auto, name="second")
    assert first.wait_event("chain.alone")["why"].startswith(ALONE)
    # Both listen before one of them stops and gives back its port.
    assert port_of(first) != port_of(second)
    for node, name in ((first, "node"), (second, "second")):
        (address,) = node.wait_event("net.listening")["addresses"]
        assert address.startswith("/ip4/127.0.0.1/tcp/")
        assert port_of(node) >= ports.peers
        url = node.wait_event("rpc.listening")["url"]
        assert int(url.rpartition(":")[2]) >= ports.rpc
        node.wait_event("node.started")
        # Each says when it had to take another port than its network's.
        moved = {event["event"]: event for event in node.events if "port_in_use" in event["event"]}
        assert ("net.port_in_use" in moved) is (port_of(node) != ports.peers)
        if "net.port_in_use" in moved:
            assert moved["net.port_in_use"]["instead"] == port_of(node)
        assert ("rpc.port_in_use" in moved) is (not url.endswith(f":{ports.rpc}"))
        status = ask(home, "status", name=name)
        assert status["ready"]
        assert ALONE in status["checks"]["peers"]
        assert node.stop() == 0


@pytest.mark.parametrize("network", ["main", "test"])
def test_a_network_that_was_not_launched_is_mined_alone_only_if_asked(
    home: NodeHome, network: str
) -> None:
    node = home.start("--network", network, "--workers", "1")
    assert "not been launched" in node.wait_event("net.not_launched")["why"]
    refused = node.wait_event("mining.refused")["why"]
    assert refused.startswith(ALONE)
    assert "--alone" in refused
    node.wait_event("node.started")
    assert ask(home, "mine", "status")["status"] == "waiting"
    checks = ask(home, "status")["checks"]
    assert not checks["synced"].startswith("ok")
    assert "mine alone" not in refused
    assert node.stop() == 0
    alone = home.start("--network", network, "--workers", "1", "--alone")
    assert alone.wait_event("chain.alone")["why"].startswith(ALONE)
    alone.wait_event("node.started")
    assert ask(home, "status")["mining"]
    assert alone.stop() == 0


def test_a_node_without_a_network_says_so_when_it_is_asked_for_peers(home: NodeHome) -> None:
    node = home.start("--network", "reg")
    node.wait_event("node.started")
    where = ("--data-dir", str(home.data_dir()))
    for command in (
        ("peers",),
        ("net", "info"),
        ("net", "bans"),
        ("net", "add-peer", "/ip4/127.0.0.1/tcp/1/p2p/x"),
        ("net", "ban", "203.0.113.7"),
        ("net", "unban", "203.0.113.7"),
        ("net", "disconnect", "x"),
    ):
        done = home.run(*command, *where)
        assert done.returncode == 1
        assert "this node runs without a network: start it with --listen" in done.stderr
        assert done.stderr.count("\n") == 1
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--bootstrap", "/ip4/1.2.3/tcp/9", "network.bootstrap = .*(--bootstrap).*an ip4 literal"),
        ("--bootstrap", "/ip4/1.2.3.4/tcp/0", "expected a port from 1 to 65535"),
        ("--listen", "/dns4/a.example/tcp/9", "network.listen = .*(--listen).*not a name"),
        ("--listen", "/ip4/1.2.3.4/udp/9", "network.listen = .*(--listen).*HOST/tcp/PORT"),
        ("--listen", "4001", "network.listen = .*(--listen).*multiaddress or auto"),
        ("--announce", "/ip4/1.2.3.4", "network.announce = .*(--announce)"),
    ],
)
def test_an_address_that_is_none_names_key_and_source(
    home: NodeHome, option: str, value: str, says: str
) -> None:
    done = home.run("start", option, value, "--data-dir", str(home.data_dir()))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for part in says.split(".*"):
        assert part in done.stderr
    assert not home.data_dir().exists()


def test_why_nobody_is_reached_is_said_once(home: NodeHome) -> None:
    with socket.socket() as silent:
        # Bound and not listened on: nobody else gets the port meanwhile.
        silent.bind(("127.0.0.1", 0))
        address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"
        node = home.start(
            "--network", "reg", "--bootstrap", address, "--set", "node.log_level=debug"
        )
        node.wait_events(3, "peer.dial_failed")
        assert node.stop() == 0
    failures = [event for event in node.events if event["event"] == "peer.dial_failed"]
    assert [event["level"] for event in failures][:3] == ["warning", "debug", "debug"]
    assert failures[0]["why"] == f"cannot connect to {address}: Connection refused"


def test_two_nodes_of_different_networks_name_each_other(home: NodeHome) -> None:
    where = ("--listen", "/ip4/127.0.0.1/tcp/0")
    other = home.start("--network", "local", "--no-mine", *where, name="other")
    (address,) = other.wait_event("net.listening")["addresses"]
    node = home.start("--network", "reg", "--bootstrap", address, *where)
    names = [f"{network.name} {genesis_of(network).id.hex()}" for network in (REG, LOCAL)]
    # Whoever is told first leaves the other the time to ask.
    for process, named in ((node, names), (other, names[::-1])):
        event = process.wait_event("peer.other_network")
        assert [event["ours"], event["theirs"]] == named
    for process in (node, other):
        assert process.stop() == 0
        assert sum(event["event"] == "peer.other_network" for event in process.events) == 1


@pytest.mark.parametrize("asks_after_s", [0.3, 60.0], ids=["slowly", "never"])
@pytest.mark.parametrize("dials", ["node", "stranger"])
def test_a_peer_of_another_network_has_the_time_to_ask_who_we_are(
    home: NodeHome, asks_after_s: float, dials: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify = Connection._identify

    async def ask_late(link: Connection) -> Identified:
        await trio.sleep(asks_after_s)
        return await identify(link)

    monkeypatch.setattr(Connection, "_identify", ask_late)
    here = "/ip4/127.0.0.1/tcp/0"
    stranger = Libp2pTransport(
        HostConfig(listen=(here,)), Identity.from_seed(bytes(32)), structlog.get_logger()
    )
    named = name_of(genesis_of(LOCAL).id, TRANSFERS_EXCHANGE.name)
    stranger.serve(named, never_asked, ServeLimits(1 << 10, 8, 8))
    events: list[Event] = []
    gone = trio.Event()

    def note(event: Event) -> None:
        events.append(event)
        if isinstance(event, PeerDisconnected):
            gone.set()

    stranger.observe(note)

    async def meet() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(stranger.run)
            chosen = ("--bootstrap", *stranger.addresses()) if dials == "node" else ()
            node = await trio.to_thread.run_sync(
                lambda: home.start("--network", "reg", "--listen", here, *chosen)
            )
            if dials == "stranger":
                found = await trio.to_thread.run_sync(node.wait_event, "net.listening")
                await stranger.connect(found["addresses"][0])
            with trio.fail_after(20):
                await gone.wait()
            nursery.cancel_scope.cancel()

    trio.run(meet)
    told = [event for event in events if isinstance(event, PeerIdentified) and event.protocols]
    assert len(told) == (asks_after_s < STRANGER_STAY_S)
    for event in told:
        assert name_of(genesis_of(REG).id, TRANSFERS_EXCHANGE.name) in event.protocols


async def never_asked(_peer: PeerId, _request: bytes) -> bytes:
    raise AssertionError("nothing is asked of a peer of another network")


def test_a_port_that_was_named_is_not_exchanged_for_another(home: NodeHome) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as other:
        address = f"/ip4/127.0.0.1/tcp/{other.getsockname()[1]}"
        node = home.start("--network", "reg", "--listen", address)
        assert node.wait() == 1
        assert node.errors == [f"unchained-node: cannot listen on {address}: the port is in use"]
