"""The wallet's page in a browser, from the link to the payment, with and without script."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.framework.browser import watched
from tests.framework.demo_chain import PAYEE
from tests.framework.processes import node_home
from unchained.node.rpc.client.client import Client
from unchained.node.rpc.client.endpoint import Endpoint

MEMO = "<img src=x onerror=alert(1)> =1+1"


def test_a_payment_from_the_link_to_the_mempool(
    request: pytest.FixtureRequest, browser: Browser
) -> None:
    with node_home(request) as home:
        node = home.start("--network", "reg", "--set", "rpc.wallet_page=true")
        node.wait_event("node.started")
        client = Client(Endpoint.of(home.data_dir()))
        url = (home.data_dir() / "rpc.url").read_text()
        client.call("wallet.create", {"passphrase": "right", "wallet": "a"})
        own = client.call("wallet.address", {"wallet": "a"})["text"]
        paycode = client.call("wallet.paycode", {"wallet": "a"})["text"]
        client.call("mine.generate", {"anchors": 4, "coins": 1, "address": own})
        for script, theme in ((True, "dark"), (False, "light")):
            with watched(browser, url, java_script_enabled=script, color_scheme=theme) as seen:
                page = seen.page
                seen.expected = ("status of 403", "status of 409")
                seen.go("/wallet")
                assert "wallet page" in page.locator("main").inner_text()
                seen.go(client.call("wallet.page")["path"])
                place = page.url.removeprefix(url)
                assert place.startswith("/wallet/")
                seen.go(place + "?wallet=a")
                if script:
                    seen.until("document.querySelector('.qr').naturalWidth > 0")
                    assert seen.violations() == []
                seen.shoot(f"wallet-{theme}", full=True)
                page.fill("#payee", paycode if script else PAYEE)
                page.fill("#amount", "0.25")
                if script:
                    page.fill("#memo", MEMO)
                page.get_by_role("button", name="Show what it costs").click()
                page.wait_for_url("**/wallet/*/confirm")
                if script:
                    assert seen.violations() == []
                seen.shoot(f"wallet-confirm-{theme}", full=True)
                page.fill("#passphrase", "right")
                page.get_by_role("button", name="Send").click()
                page.wait_for_url("**/wallet/*/send")
                assert page.locator("h1").inner_text() == "Sent"
                client.call("mine.generate", {"address": own})
                seen.go(place + "?wallet=a")
                if script:
                    page.wait_for_selector("#history td.words")
                    assert page.locator("main img").count() == 1
                page.get_by_role("button", name="Log out").click()
                page.wait_for_url(url + "/")
                seen.go(place)
                assert "wallet page" in page.locator("main").inner_text()
                seen.check()
        assert node.stop() == 0
