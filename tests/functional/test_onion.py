"""An onion service of a node's own: by Debian's Tor, and who comes in by it.

Tor runs without a network, so nobody comes that way here: its control port alone is real."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from tests.framework.processes import NodeHome
from unchained.node.transport.address_groups import ONION_VISITOR
from unchained.node.transport.contract import Direction, Event, PeerConnected
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport
from unchained.node.transport.onion_service import ONION_KEY_NAME
from unchained.node.transport.tor_control import TorControl, TorError

PATIENCE_S = 60.0
PORT = 4011
COOKIE = "control_auth_cookie"
HERE = "/ip4/127.0.0.1/tcp/0"


@pytest.fixture
def tor_port(tmp_path: Path) -> Iterator[int]:
    """Tor, without a network; its control port lets in by the cookie."""
    program = shutil.which("tor")
    if program is None:
        pytest.skip("the onion service was not set up by a real Tor: there is no tor here")
    told = tmp_path / "control-port"
    settings = {
        "DataDirectory": tmp_path / "tor",
        "SocksPort": 0,
        "ControlPort": "auto",
        "ControlPortWriteToFile": told,
        "CookieAuthentication": 1,
        "DisableNetwork": 1,
    }
    file = tmp_path / "torrc"
    file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with subprocess.Popen(
        [program, "-f", file, "--defaults-torrc", "/dev/null"], stdout=subprocess.DEVNULL
    ) as tor:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not told.exists():
                assert tor.poll() is None
                assert time.monotonic() < deadline, "Tor names no control port"
                time.sleep(0.05)
            yield int(told.read_text().rpartition(":")[2])
        finally:
            tor.terminate()


def test_a_node_sets_up_its_onion_service_by_tor_and_keeps_the_address(
    home: NodeHome, tor_port: int, tmp_path: Path
) -> None:
    place = {"tor_control": f"127.0.0.1:{tor_port}", "tor_cookie_file": tmp_path / "tor" / COOKIE}
    control = [word for name in place for word in ("--set", f"network.{name}={place[name]}")]
    told = set()
    for _ in range(2):
        node = home.start("--network", "reg", "--listen", HERE, *control)
        address = node.wait_event("net.onion_service")["address"]
        info = home.run("net", "info", "--json", "--data-dir", str(home.data_dir("node")))
        (announced,) = [
            text for text in json.loads(info.stdout)["addresses"] if text.startswith("/onion3/")
        ]
        assert announced.startswith(f"{address}/p2p/")
        assert node.stop() == 0
        told.add(address)
        file = home.data_dir("node") / ONION_KEY_NAME
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        key = file.read_text().strip()
        assert key not in (home.data_dir("node") / "node.log").read_text()
    (address,) = told
    assert address.endswith(f":{PORT}")
    # It is gone with the node: else Tor would not set it up once more.
    assert trio.run(service_of, tor_port, key) == address.split("/")[2].split(":")[0]


async def service_of(tor_port: int, key: str) -> str:
    async with await trio.open_tcp_stream("127.0.0.1", tor_port) as stream:
        control = TorControl(stream)
        await control.authenticate(is_trusted=True)
        onion = await control.add_onion(key, PORT, "127.0.0.1:9")
        with pytest.raises(TorError, match="it answers ADD_ONION with 550"):
            await control.add_onion(key, PORT, "127.0.0.1:9")
        return onion.service


@pytest.mark.real_time
async def test_visitors_of_an_onion_service_are_told_from_this_machines_own() -> None:
    ours, *others = (
        Libp2pTransport(
            HostConfig(listen=(HERE,), onion=number == 0),
            Identity.from_seed(bytes([number]) * 32),
            structlog.get_logger(),
        )
        for number in range(3)
    )
    events: list[Event] = []
    ours.observe(events.append)
    async with trio.open_nursery() as nursery:
        for transport in (ours, *others):
            await nursery.start(transport.run)
        (own,) = ours.addresses()
        port = ours.onion.onion_target().rpartition(":")[2]
        assert port not in own
        for transport, address in zip(
            others, (own, f"/ip4/127.0.0.1/tcp/{port}/p2p/{ours.id}"), strict=True
        ):
            with trio.fail_after(PATIENCE_S):
                await transport.connect(address)
        nursery.cancel_scope.cancel()
    ips: dict[Any, str] = {
        event.info.peer: event.info.ip
        for event in events
        if isinstance(event, PeerConnected) and event.info.direction is Direction.INBOUND
    }
    assert [ips[transport.id] for transport in others] == ["127.0.0.1", ONION_VISITOR]
