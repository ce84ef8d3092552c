"""A chain longer than one answer of the node holds: the tip is drawn, and what was missed comes."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.framework.benchchain import Forger, new_store, open_core
from tests.framework.browser import watched
from tests.framework.demo_chain import PAYEE, DemoChain
from tests.framework.processes import node_home
from unchained.node.rpc.client.client import Client
from unchained.node.rpc.client.endpoint import Endpoint
from unchained.node.rpc.methods.tree import ANSWER_HEIGHTS_MAX

TREE = "#tree-canvas"
SHOWN = "Number(document.querySelector('#tree-canvas').dataset"
ANCHORS = ANSWER_HEIGHTS_MAX + 60
MISSED = ANSWER_HEIGHTS_MAX + 10
VIEW = 16 * 2
"""Coins in view at most: of each epoch here one, and its anchor."""


def test_a_chain_of_many_anchors_is_drawn_at_both_ends_and_follows_the_tip(
    request: pytest.FixtureRequest, browser: Browser
) -> None:
    with node_home(request) as home:
        directory = home.data_dir()
        directory.mkdir(parents=True, exist_ok=True)
        store = new_store(directory)
        core = open_core(store)
        for _ in Forger().chain(core, ANCHORS, 1):
            core.take_changes()
        store.close()
        node = home.start("--network", "reg", "--no-mine")
        node.wait_event("node.started")
        client = Client(Endpoint.of(directory))
        url = (directory / "rpc.url").read_text()
        with watched(browser, url, reduced_motion="reduce") as seen:
            page = seen.page
            seen.go("/tree")
            seen.until(f"{SHOWN}.height) === {ANCHORS}")
            seen.until(f"{SHOWN}.drawn) > 0")
            assert page.evaluate(f"{SHOWN}.drawn)") <= VIEW
            said = page.locator(f"{TREE} ~ [role=status]")
            page.locator(TREE).focus()
            page.keyboard.press("Home")
            # The other end has to be asked for first.
            seen.until(
                "(() => { document.querySelector('#tree-canvas').dispatchEvent("
                "new KeyboardEvent('keydown', { key: 'ArrowLeft' })); return "
                "/^Anchor [0-9],/.test(document.querySelector('#tree-canvas ~ [role=status]')"
                ".textContent); })()"
            )
            page.keyboard.press("End")
            assert said.inner_text().startswith(f"Anchor {ANCHORS},")
            # More anchors than one answer holds, while the page did not look.
            page.evaluate(
                "() => { window.asks = fetch; window.fetch = async () => { throw new Error(); }; }"
            )
            client.call("mine.generate", {"anchors": MISSED, "address": PAYEE})
            page.evaluate("() => { window.fetch = window.asks; }")
            top = ANCHORS + MISSED
            DemoChain(client, epochs=1).coin()
            seen.until(f"{SHOWN}.height) === {top}")
            page.locator(TREE).focus()
            page.keyboard.press("End")
            seen.until(f"{SHOWN}.coins) === 1")
            for height in range(top - 1, top - 40, -1):
                page.keyboard.press("ArrowLeft")
                seen.until(
                    "document.querySelector('#tree-canvas ~ [role=status]')"
                    f".textContent.startsWith('Anchor {height},')"
                )
            seen.check()
        assert node.stop() == 0
