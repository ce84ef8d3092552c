"""A node with a chain worth looking at, and a browser, for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser

from tests.framework.browser import launched
from tests.framework.demo_chain import PAYEE, DemoChain
from tests.framework.processes import NodeHome, node_home
from unchained.node.rpc.client.client import Client
from unchained.node.rpc.client.endpoint import Endpoint


@dataclass
class Shown:
    """A node, its chain, and a path of each kind of page."""

    home: NodeHome
    client: Client
    demo: DemoChain
    url: str

    @property
    def paths(self) -> dict[str, str]:
        won, lost = self.demo.forks[0]
        owned = self.client.call("coin.owned_by", {"address": PAYEE, "spent": True, "limit": 1000})
        spent = next(coin["id"] for coin in owned["coins"] if coin["spent"])
        transfer = self.client.call("coin.get", [spent])["spent_by"]
        return {
            "home": "/",
            "wall": "/wall",
            "tree": "/tree",
            "replay": "/replay",
            "charts": "/charts",
            "mempool": "/mempool",
            "peers": "/peers",
            "mining": "/mining",
            "network": "/network",
            "search": "/search",
            "anchor": "/anchor/5",
            "fork": f"/anchor/{won}",
            "compare": f"/compare?one={won}&other={lost}",
            "coin": f"/coin/{spent}",
            "stray": f"/coin/{self.demo.strays[0]}",
            "transfer": f"/transfer/{transfer}",
            "lock": f"/lock/{owned['lock']}",
            "genesis": "/anchor/0",
        }


@pytest.fixture(scope="session")
def shown(request: pytest.FixtureRequest) -> Iterator[Shown]:
    with node_home(request) as home:
        node = home.start("--network", "reg", "--listen", "/ip4/127.0.0.1/tcp/0")
        node.wait_event("node.started")
        client = Client(Endpoint.of(home.data_dir()))
        # A seed whose last fork lies some anchors below the tip.
        demo = DemoChain(client, seed=1, epochs=20)
        demo.lay()
        for _ in range(3):
            demo.pay()
        demo.coin()
        yield Shown(home, client, demo, (home.data_dir() / "rpc.url").read_text())
        assert node.stop() == 0


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found
