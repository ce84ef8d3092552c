"""What happens is shown as it comes, and nothing of the page is lost by it."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, Request, Route

from tests.browser.conftest import Shown
from tests.framework.browser import watched

TREE = "#tree-canvas"

CUT = """
canvas => [0, canvas.height - 2].filter((y) =>
  canvas.getContext("2d").getImageData(0, y, canvas.width, 2).data.some((byte) => byte))
"""
"""At which of its edges, above and below, a canvas is drawn on."""


def test_a_coin_and_an_anchor_come_without_a_reload(shown: Shown, browser: Browser) -> None:
    with watched(browser, shown.url) as seen:
        page = seen.page
        seen.go("/")
        page.evaluate("window.kept = true")
        seen.until("document.getElementById('live-state').textContent === 'Live'")
        tip = shown.client.call("chain.tip")
        votes = tip["votes"]
        shown.demo.coin()
        seen.until(f"document.querySelector('{TREE}').dataset.coins > {votes}")
        seen.until(f"document.querySelector('.ring-count').textContent == {votes + 1}")
        anchor = shown.demo.anchor()
        seen.until(f"document.querySelector('{TREE}').dataset.height == {tip['height'] + 1}")
        page.wait_for_selector(f"#latest a[href='/anchor/{anchor}']")
        assert page.evaluate("window.kept") is True
        seen.check()


def test_a_coin_is_drawn_from_the_log_alone_and_stays(shown: Shown, browser: Browser) -> None:
    with watched(browser, shown.url) as seen:
        seen.go("/")
        seen.until("document.getElementById('live-state').textContent === 'Live'")
        votes = shown.client.call("chain.tip")["votes"]
        # Whatever the tree asks the node for is left unanswered.
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        seen.page.route("**/tree.json*", hold)
        for more in (1, 2):
            shown.demo.coin()
            seen.until(f"document.querySelector('{TREE}').dataset.coins == {votes + more}")
        # What the node said before the second coin, or after both, takes neither away.
        for route in held:
            route.continue_()
        seen.page.unroute("**/tree.json*")
        shown.demo.coin()
        seen.until(f"document.querySelector('{TREE}').dataset.coins == {votes + 3}")
        seen.check()


def test_a_transfer_appears_in_the_mempool_and_leaves_it(shown: Shown, browser: Browser) -> None:
    with watched(browser, shown.url) as seen:
        seen.go("/mempool")
        transfer = shown.demo.pay()
        assert transfer is not None
        row = f"#waiting a[href='/transfer/{transfer.txid.hex()}']"
        seen.page.wait_for_selector(row)
        shown.demo.anchor()
        seen.page.wait_for_selector(row, state="detached")
        seen.check()


def test_what_is_being_looked_at_is_not_taken_away(shown: Shown, browser: Browser) -> None:
    with watched(browser, shown.url) as seen:
        seen.go("/")
        twin = seen.page.locator("#tree-text")
        twin.locator("summary").click()
        link = twin.locator("a").first
        link.focus()
        shown.demo.coin()
        count = shown.client.call("chain.tip")["votes"]
        seen.until(f"document.querySelector('.ring-count').textContent == {count}")
        assert twin.evaluate("one => one.open") is True
        assert link.evaluate("one => one === document.activeElement") is True
        seen.check()


def test_nothing_is_rendered_but_what_is_news_and_can_be_seen(
    shown: Shown, browser: Browser
) -> None:
    with watched(browser, shown.url) as seen:
        asked: list[set[str]] = []

        def note(request: Request) -> None:
            query = parse_qs(urlsplit(request.url).query)
            if request.resource_type == "fetch" and "parts" in query:
                asked.append(set(query["parts"][0].split()))

        seen.page.on("request", note)
        seen.go("/")
        seen.until("document.getElementById('live-state').textContent === 'Live'")
        votes = shown.client.call("chain.tip")["votes"]
        shown.demo.coin()
        seen.until(f"document.querySelector('.ring-count').textContent == {votes + 1}")
        assert asked == [{"epoch", "fork-choice", "tiles"}]
        waiting = shown.client.call("mempool.info")["transfers"]
        assert shown.demo.pay() is not None
        tile = "document.querySelector('#tiles a[href=\"/mempool\"]').closest('.tile')"
        seen.until(f"{tile}.querySelector('.figure').textContent.startsWith('{waiting + 1}')")
        assert asked[1:] == [{"tiles", "fees"}]
        # The twin as text is brought up to date when it is opened, and from then on.
        rows = seen.page.locator("#tree-rows .vote")
        coins = rows.count()
        seen.page.locator("#tree-text summary").focus()
        seen.page.keyboard.press("Enter")
        seen.until(f"document.querySelectorAll('#tree-rows .vote').length === {coins + 1}")
        assert asked[2:] == [{"tree-rows"}]
        shown.demo.coin()
        seen.until(f"document.querySelectorAll('#tree-rows .vote').length === {coins + 2}")
        assert asked[3:] == [{"epoch", "fork-choice", "tiles", "tree-rows"}]
        seen.check()


def test_the_tree_is_walked_by_keys_and_read_aloud(shown: Shown, browser: Browser) -> None:
    with watched(browser, shown.url) as seen:
        page = seen.page
        seen.go("/tree")
        page.locator(TREE).focus()
        said = page.locator(f"{TREE} ~ [role=status]")
        page.keyboard.press("End")
        height = shown.client.call("chain.tip")["height"]
        assert said.inner_text().startswith(f"Anchor {height},")
        page.keyboard.press("ArrowLeft")
        assert said.inner_text().startswith(f"Anchor {height - 1},")
        assert "on the main chain" in said.inner_text()
        heights = [
            shown.client.call("chain.anchor", [won])["header"]["height"]
            for won, _ in shown.demo.forks
        ]
        for _ in range(height - 1 - heights[-1]):
            page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowDown")
        assert "side" in said.inner_text()
        page.keyboard.press("Enter")
        page.wait_for_url("**/anchor/*")
        assert "side branch" in page.locator("main").inner_text()
        seen.check()


def test_a_dot_that_is_clicked_leads_to_its_coin(shown: Shown, browser: Browser) -> None:
    with watched(browser, shown.url) as seen:
        page = seen.page
        seen.go("/tree")
        box = page.locator(TREE).bounding_box()
        assert box is not None
        # The tip stands in the middle of the height; its column is where its glow is.
        place = page.locator(TREE).evaluate("one => one.dataset.tip").split(",")
        page.mouse.move(box["x"] + float(place[0]), box["y"] + float(place[1]))
        assert page.locator(".note").inner_text().startswith("Anchor ")
        page.mouse.click(box["x"] + float(place[0]), box["y"] + float(place[1]))
        page.wait_for_url("**/anchor/*")
        seen.check()


def test_nothing_of_the_tree_is_cut_at_an_edge(shown: Shown, browser: Browser) -> None:
    shown.demo.fork(5)
    height = shown.client.call("chain.tip")["height"]
    row = shown.client.call("chain.tree", {"first": height, "last": height})["anchors"]
    assert len(row) == 5
    # The chain stays where it is.
    for anchor in sorted(row, key=lambda one: one["status"] != "main"):
        for _ in range(8):
            shown.demo.vote(anchor["id"])
    for path, width in (("/", 1280), ("/", 360), ("/tree", 1280), ("/wall", 1280)):
        with watched(browser, shown.url, width=width, reduced_motion="reduce") as seen:
            seen.go(path)
            seen.until(f"document.querySelector('{TREE}').dataset.coins == 40")
            assert seen.page.locator(TREE).evaluate(CUT) == [], (path, width)
            seen.check()
    shown.demo.anchor()
