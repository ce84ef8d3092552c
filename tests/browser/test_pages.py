"""Every page in a browser: in both themes, on a phone, by keyboard, with and without script."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Shown
from tests.framework.browser import watched


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_and_nothing_is_complained_of(
    shown: Shown, browser: Browser, theme: str
) -> None:
    found = []
    with watched(browser, shown.url, color_scheme=theme) as seen:
        for name, path in shown.paths.items():
            seen.go(path)
            seen.shoot(f"{name}-{theme}", full=True)
            for details in seen.page.locator("details").all():
                details.evaluate("one => { one.open = true }")
            found += [f"{path}: {violation}" for violation in seen.violations()]
        assert found == []
        seen.check()


def test_no_page_is_styled_as_a_part_of_it(shown: Shown, browser: Browser) -> None:
    styles = """
        ["color", "borderTopWidth", "fontFamily", "fontWeight", "display"]
            .map((name) => getComputedStyle(document.body)[name]).join()
    """
    with watched(browser, shown.url) as seen:
        found: dict[str, str] = {}
        for name, path in shown.paths.items():
            if name != "wall":
                seen.go(path)
                found[name] = seen.page.evaluate(styles)
        assert set(found.values()) == {found["home"]}, found
        seen.check()


@pytest.mark.parametrize("size", [(1280, 720), (1280, 800), (1920, 1080)])
def test_a_screen_on_a_wall_shows_all_without_scrolling(
    shown: Shown, browser: Browser, size: tuple[int, int]
) -> None:
    width, height = size
    with watched(browser, shown.url, width=width, height=height) as seen:
        seen.go("/wall")
        tall = seen.page.evaluate("document.documentElement.scrollHeight")
        assert tall <= height
        parts = ("epoch", "tree-canvas", "fork-choice", "tiles")
        boxes = [seen.page.locator(f"#{part}").bounding_box() for part in parts]
        assert all(box is not None and box["height"] > 20 for box in boxes), boxes
        assert all(box is not None and box["y"] + box["height"] <= height for box in boxes), boxes
        seen.shoot(f"wall-{width}x{height}")
        seen.check()


def test_what_fails_leaves_a_picture_where_it_says(
    shown: Shown, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        with watched(browser, shown.url) as seen:
            seen.go("/")
            raise AssertionError("by intent")

    with pytest.raises(AssertionError, match="by intent"):
        fail()
    said = capsys.readouterr().out.strip()
    picture = Path(said.removeprefix("what the page showed: "))
    assert picture.name == (
        "failed-test_pages-py-test_what_fails_leaves_a_picture_where_it_says.png"
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.unlink()


def test_pages_that_refuse_are_pages_too(shown: Shown, browser: Browser) -> None:
    with watched(browser, shown.url) as seen:
        seen.expected = ("status of 404", "status of 400")
        for path in ("/nothing", "/anchor/99999", "/coin/xyz", "/search?q=nobody"):
            seen.go(path)
            assert seen.page.locator("main .message").inner_text() != ""
            assert seen.violations() == []
        seen.check()


@pytest.mark.parametrize("width", [360, 768])
def test_no_page_is_wider_than_a_phone(shown: Shown, browser: Browser, width: int) -> None:
    with watched(browser, shown.url, width=width, height=740, color_scheme="dark") as seen:
        for name, path in shown.paths.items():
            seen.go(path)
            wide = seen.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (path, wide)
            if width == 360:
                seen.shoot(f"{name}-phone", full=True)
        seen.check()


def test_without_script_the_same_facts_are_there(shown: Shown, browser: Browser) -> None:
    facts: dict[str, list[str]] = {}
    for script in (True, False):
        with watched(browser, shown.url, java_script_enabled=script) as seen:
            for name, path in shown.paths.items():
                seen.go(path)
                links = seen.page.locator("main a")
                hrefs = [one.get_attribute("href") or "" for one in links.all()]
                if script:
                    facts[name] = hrefs
                else:
                    assert hrefs == facts[name], path
                    assert seen.page.locator("canvas:visible").count() == 0
            if not script:
                seen.go("/")
                seen.shoot("home-no-script", full=True)
            seen.check()


def test_the_whole_of_every_page_is_walked_by_keyboard(shown: Shown, browser: Browser) -> None:
    focusable = (
        "a[href], button, input, textarea, summary, canvas[tabindex], [tabindex='0']:not(canvas)"
    )
    with watched(browser, shown.url) as seen:
        page = seen.page
        for path in shown.paths.values():
            seen.go(path)
            # What grows or is replaced while it is walked would be another page.
            wanted = page.locator(focusable).evaluate_all(
                "all => { let n = 0; const shown = all.filter((one) => one.checkVisibility({ "
                "contentVisibilityAuto: true, visibilityProperty: true }));"
                "for (const one of shown) one.dataset.walked = n++; return shown.length; }"
            )
            reached = set()
            for _ in range(wanted + 2):
                page.keyboard.press("Tab")
                place = page.evaluate(
                    "(() => { const one = document.activeElement;"
                    "const style = getComputedStyle(one);"
                    "return [one.dataset.walked ?? null, style.outlineStyle, one.tagName]; })()"
                )
                if place[0] is not None:
                    assert place[1] != "none", (path, place)
                    reached.add(place[0])
            assert len(reached) == wanted, (path, wanted, len(reached))
        seen.check()


def test_the_first_key_skips_to_the_content_and_a_slash_leads_to_the_search(
    shown: Shown, browser: Browser
) -> None:
    with watched(browser, shown.url) as seen:
        seen.go("/")
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.className") == "skip"
        seen.page.keyboard.press("Enter")
        assert seen.page.evaluate("document.activeElement.id") == "main"
        seen.page.keyboard.press("/")
        assert seen.page.evaluate("document.activeElement.id") == "search"
        seen.page.keyboard.type("5/6")
        assert seen.page.input_value("#search") == "5/6"
        seen.page.fill("#search", "5")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_url("**/anchor/5")
        seen.check()


def test_a_coin_is_verified_by_a_button(shown: Shown, browser: Browser) -> None:
    for script in (True, False):
        with watched(browser, shown.url, java_script_enabled=script) as seen:
            seen.go(shown.paths["stray"])
            seen.page.get_by_role("button", name="Verify").click()
            seen.page.wait_for_url("**/verify/*")
            assert seen.page.locator("h1").inner_text() == "It holds"
            if script:
                assert seen.violations() == []
                seen.shoot("verify-light", full=True)
            seen.check()


def test_nothing_moves_for_those_who_do_not_want_it(shown: Shown, browser: Browser) -> None:
    with watched(browser, shown.url, reduced_motion="reduce") as seen:
        seen.go("/")
        shown.demo.coin()
        seen.until("document.querySelectorAll('.ring path').length > 0")
        assert seen.page.evaluate("document.getAnimations().length") == 0
        style = "getComputedStyle(document.querySelector('nav a')).transitionDuration"
        assert seen.page.evaluate(style) == "0s"
        seen.check()


@pytest.mark.parametrize("script", [True, False])
def test_a_theme_is_chosen_against_the_browsers_own(
    shown: Shown, browser: Browser, script: bool
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    options = {"color_scheme": "light", "java_script_enabled": script}
    with watched(browser, shown.url, **options) as seen:
        page = seen.page
        seen.go("/charts")
        light = page.locator("body").evaluate(f"() => {ground}")
        page.get_by_role("button", name="Dark").click()
        page.wait_for_url("**/charts")
        dark = page.locator("body").evaluate(f"() => {ground}")
        assert dark != light
        seen.go("/")
        assert page.locator("body").evaluate(f"() => {ground}") == dark
        if script:
            assert seen.violations() == []
        seen.shoot(f"home-chosen-dark-{'script' if script else 'plain'}")
        page.get_by_role("button", name="As the browser").click()
        page.wait_for_url(seen.url + "/")
        assert page.locator("body").evaluate(f"() => {ground}") == light
        seen.check()
