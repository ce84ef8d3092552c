"""Chromium on a page of a node: what it complains of, what it asks of whom, and what axe finds."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.framework.processes import PATIENCE_S

SCREENSHOTS: Final = Path(__file__).parents[2] / ".ci/screenshots"
"""Where what was seen is kept, to be looked at."""

RULES: Final = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
}
"""What axe looks for."""


@dataclass
class Watched:
    """A page, what its console said, and which hosts it asked for anything."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    expected: tuple[str, ...] = ()
    """Parts of messages that are meant to be there."""

    def go(self, path: str) -> None:
        """Open a path of the node, and wait until what it loads is there."""
        self.page.goto(self.url + path, wait_until="load")
        if self.page.locator("html.live #tree-canvas").count():
            self.page.wait_for_selector("#tree-canvas[data-height]")
        if self.page.locator("html.live #replay-canvas").count():
            self.page.wait_for_selector("#replay-canvas[data-position]")

    def until(self, expression: str) -> None:
        """Wait until an expression of JavaScript is true. Playwright's own way would be refused by
        the page's policy, as it makes code of a text."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"it never came about: {expression}"
            self.page.wait_for_timeout(20)

    def check(self) -> None:
        """Raise unless nothing was complained of, and nobody else was asked for anything."""
        errors = [error for error in self.errors if not any(e in error for e in self.expected)]
        assert errors == []
        assert self.hosts <= {urlsplit(self.url).netloc}

    def violations(self) -> list[str]:
        """Return what axe finds on the page."""
        found = Axe().run(self.page, options=RULES)
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found.response["violations"]
            for node in one["nodes"]
        ]

    def shoot(self, name: str, *, full: bool = False) -> Path:
        """Keep a screenshot under a name."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=full)
        return path


def chromium() -> str:
    """Return where Debian's Chromium is."""
    found = shutil.which("chromium")
    assert found, "there is no chromium: apt install chromium"
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """Run Chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(),
            # Root, as in a container, cannot have Chromium's sandbox.
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(
    browser: Browser, url: str, *, width: int = 1280, height: int = 800, **options: Any
) -> Iterator[Watched]:
    """Open a page in a profile of its own. options: those of a context of Playwright's. Where what
    is done with it raises, a screenshot is kept, and said where."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    seen = Watched(page, url.rstrip("/"))
    page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda asked: seen.hosts.add(urlsplit(asked.url).netloc))
    try:
        yield seen
    except Exception:
        print(f"what the page showed: {seen.shoot(_name_of_failure(), full=True)}")
        raise
    finally:
        context.close()


def _name_of_failure() -> str:
    """Return how the picture of what failed is called: after the test that runs."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0].rpartition("/")[2]
    return "failed-" + re.sub(r"[^\w-]+", "-", test).strip("-")
