"""Makes the pictures of the page that README shows: `scripts/screenshots`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.framework.browser import launched, watched
from tests.framework.demo_chain import DemoChain
from tests.framework.processes import node_home
from unchained.node.rpc.client.client import Client
from unchained.node.rpc.client.endpoint import Endpoint

DOCS: Final = Path(__file__).parents[2] / "docs"

PICTURES: Final = (
    ("page-live.png", "/", "dark", 1280, 860),
    ("page-coin.png", "{coin}", "light", 1280, 860),
)
"""File, path, theme and size of each."""


def main() -> None:
    """Run a node with a chain worth looking at, and take the pictures."""
    with node_home() as home, launched() as browser:
        node = home.start("--network", "reg", "--listen", "/ip4/127.0.0.1/tcp/0")
        node.wait_event("node.started")
        client = Client(Endpoint.of(home.data_dir()))
        demo = DemoChain(client, seed=11, epochs=60)
        demo.lay()
        demo.fork()
        for _ in range(2):
            demo.coin()
            demo.vote(demo.forks[-1][1])
            demo.coin()
        for _ in range(14):
            demo.pay()
        url = (home.data_dir() / "rpc.url").read_text()
        for name, path, theme, width, height in PICTURES:
            options = {"color_scheme": theme, "reduced_motion": "reduce"}
            with watched(browser, url, width=width, height=height, **options) as seen:
                seen.go(path.format(coin=f"/coin/{demo.strays[-1]}"))
                seen.until(
                    "document.getElementById('live-state').textContent === 'Live' || "
                    "!document.querySelector('[data-live]')"
                )
                seen.page.screenshot(path=DOCS / name)
                seen.check()
            print(DOCS / name)


if __name__ == "__main__":
    main()
