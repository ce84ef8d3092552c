"""The page: how soon a coin is drawn after it was accepted, how smoothly 10,000 anchors scroll, and
what it costs a node that has nothing to do to be looked at.

A node on reg with a chain of 10,000 anchors, and Debian's Chromium on the same machine. The first
time is from before the coin is handed in until the frame that draws it; the second is between two
frames while the tree is scrolled from one end to the other. Idle, the node has a page open that
follows it, is scraped as Prometheus does, and remembers its last day.
"""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser

from tests.bench._result import result
from tests.bench.network_idle import cpu_s
from tests.framework.benchchain import Forger, new_store, open_core
from tests.framework.browser import launched, watched
from tests.framework.demo_chain import DemoChain
from tests.framework.network import network, until
from unchained.node.rpc.client.client import Client
from unchained.node.rpc.client.endpoint import Endpoint

ANCHORS: Final = 10_000
FRESH: Final = 4
COINS: Final = 200
COINS_OF_EPOCH: Final = 16
"""Coins handed in before an anchor is: as many as an epoch of `main` has on average."""
PACE_S: Final = 0.1
DRAWN_GOAL_MS: Final = 250.0
FRAMES: Final = 240
FRAME_GOAL_MS: Final = 20.0
LOADED_STEP: Final = 32
"""Heights by which the tree is scrolled to load it: fewer than are asked for at once."""
DRAWN_MAX: Final = 16 * (COINS_OF_EPOCH + 1)
"""Coins that are in view at most, however long the chain is."""
SETTLE_S: Final = 10.0
IDLE_S: Final = 60.0
SCRAPE_EVERY_S: Final = 15.0
IDLE_GOAL_PERCENT: Final = 1.0

WATCH: Final = """
window.drawn = [];
new MutationObserver(() => {
  const canvas = document.getElementById("tree-canvas");
  window.drawn.push([Number(canvas.dataset.coins), Number(canvas.dataset.height), Date.now()]);
}).observe(document.getElementById("tree-canvas"), { attributes: true });
"""

SCROLL: Final = """
async ([frames, anchors, step]) => {
  const canvas = document.getElementById("tree-canvas");
  const column = Math.max(72, Math.min(150, canvas.clientWidth / 9));
  const times = [];
  let drawn = 0;
  let empty = 0;
  const scroll = (deltaX) =>
    canvas.dispatchEvent(new WheelEvent("wheel", { deltaX, cancelable: true }));
  // Once to load all that is scrolled: what is measured is drawing, and no frame may be empty.
  scroll(-1e9);
  for (let at = 0; at <= anchors; at += step) {
    do await new Promise(requestAnimationFrame); while (canvas.dataset.drawn === "0");
    scroll(step * column);
  }
  scroll(-1e9);
  await new Promise(requestAnimationFrame);
  let before = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < frames; frame++) {
    scroll(anchors / frames * column);
    const now = await new Promise(requestAnimationFrame);
    times.push(now - before);
    before = now;
    drawn = Math.max(drawn, Number(canvas.dataset.drawn));
    empty += canvas.dataset.drawn === "0";
  }
  return { times, drawn, empty };
}
"""


def run() -> list[dict[str, Any]]:
    """Measure; takes some minutes, most of them to make the chain."""
    with network("reg") as net, launched() as browser:
        node = net.node("--no-mine")
        _lay(node.data_dir)
        node.start()
        until(lambda: node.tip()[0] == ANCHORS, "the chain", within_s=60)
        url = (node.data_dir / "rpc.url").read_text()
        drawn = _drawn(browser, url, Client(Endpoint.of(node.data_dir)))
        frames = _frames(browser, url)
        idle = _idle(browser, url, node.process.pid)
    return [
        _row("coin drawn after it was handed in, slowest of a hundred", drawn, 0.99, DRAWN_GOAL_MS),
        _row(
            f"frame while {ANCHORS} anchors scroll, slowest of twenty", frames, 0.95, FRAME_GOAL_MS
        ),
        result(
            "CPU of an idle node that is looked at and scraped",
            "% of a core",
            [idle],
            reference="the goal",
            reference_values=[IDLE_GOAL_PERCENT],
            goal=IDLE_GOAL_PERCENT,
            at_least=False,
        ),
    ]


def _lay(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    store = new_store(directory)
    core = open_core(store)
    core.begin_bulk()
    for _ in Forger().chain(core, ANCHORS, FRESH):
        core.take_changes()
    core.end_bulk()
    store.close()


def _drawn(browser: Browser, url: str, client: Client) -> list[float]:
    demo = DemoChain(client, epochs=1)
    handed_in = []
    height, coins = client.call("chain.tip")["height"], 0
    with watched(browser, url) as seen:
        seen.go("/")
        seen.page.evaluate(WATCH)
        for _ in range(COINS):
            if coins == COINS_OF_EPOCH:
                demo.anchor()
                height, coins = height + 1, 0
                time.sleep(PACE_S)
            demo.coin()
            coins += 1
            handed_in.append(((height, coins), demo.handed_in_ms))
            time.sleep(PACE_S)
        last = "document.getElementById('tree-canvas').dataset"
        seen.until(f"{last}.height == {height} && {last}.coins == {coins}")
        shown = json.loads(seen.page.evaluate("JSON.stringify(window.drawn)"))
    return [
        next(at for place, at in _placed(shown) if place >= wanted) - since
        for wanted, since in handed_in
    ]


def _placed(shown: list[list[int]]) -> list[tuple[tuple[int, int], float]]:
    """Return up to which height and which of its coins the tree was drawn, and when."""
    return [((height, coins), float(at)) for coins, height, at in shown]


def _frames(browser: Browser, url: str) -> list[float]:
    with watched(browser, url) as seen:
        seen.go("/tree")
        found = seen.page.evaluate(SCROLL, [FRAMES, ANCHORS, LOADED_STEP])
    # A tree that draws nothing, or everything, is no measure.
    assert found["empty"] == 0, f"nothing was drawn in {found['empty']} frames of {FRAMES}"
    assert found["drawn"] <= DRAWN_MAX, f"{found['drawn']} coins were drawn at once"
    times: list[float] = found["times"]
    return times


def _idle(browser: Browser, url: str, pid: int) -> float:
    """Return the percent of a core that a node takes which is looked at and scraped."""
    with watched(browser, url) as seen:
        seen.go("/")
        time.sleep(SETTLE_S)
        before, began = cpu_s(pid), time.perf_counter()
        while (left := began + IDLE_S - time.perf_counter()) > 0:
            with urllib.request.urlopen(f"{url.rstrip('/')}/metrics", timeout=30) as answer:
                answer.read()
            time.sleep(min(left, SCRAPE_EVERY_S))
        return 100 * (cpu_s(pid) - before) / (time.perf_counter() - began)


def _row(name: str, times: list[float], share: float, goal: float) -> dict[str, Any]:
    ordered = sorted(times)
    reached = ordered[min(len(ordered) - 1, int(len(ordered) * share))]
    return {
        "name": name,
        "unit": "ms",
        "median": reached,
        "min": ordered[0],
        "max": ordered[-1],
        "runs": len(ordered),
        "reference": "median, ms",
        "reference_median": ordered[len(ordered) // 2],
        "ratio": None,
        "goal": goal,
        "met": reached <= goal,
    }
