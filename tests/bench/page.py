"""The page: how soon a coin is drawn after it was accepted, and how smoothly 10,000 anchors scroll.

A node on reg with a chain of 10,000 anchors, and Debian's Chromium on the same machine. The first
time is from before the coin is handed in until the frame that draws it; the second is between two
frames while the tree is scrolled from one end to the other.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser

from tests.framework.benchchain import Forger, new_store, open_core
from tests.framework.browser import launched, watched
from tests.framework.demo_chain import DemoChain
from tests.framework.network import network, until
from unchained.node.rpc.client.client import Client
from unchained.node.rpc.client.endpoint import Endpoint

ANCHORS: Final = 10_000
FRESH: Final = 4
COINS: Final = 200
PACE_S: Final = 0.1
DRAWN_GOAL_MS: Final = 250.0
FRAMES: Final = 240
FRAME_GOAL_MS: Final = 20.0

WATCH: Final = """
window.drawn = [];
new MutationObserver(() => {
  const canvas = document.getElementById("tree-canvas");
  window.drawn.push([Number(canvas.dataset.coins), Number(canvas.dataset.height), Date.now()]);
}).observe(document.getElementById("tree-canvas"), { attributes: true });
"""

SCROLL: Final = """
async ([frames, anchors]) => {
  const canvas = document.getElementById("tree-canvas");
  const column = Math.max(72, Math.min(150, canvas.clientWidth / 9));
  const times = [];
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaX: -1e9, cancelable: true }));
  await new Promise((done) => setTimeout(done, 2000));
  let before = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < frames; frame++) {
    canvas.dispatchEvent(new WheelEvent("wheel",
      { deltaX: anchors / frames * column, cancelable: true }));
    const now = await new Promise(requestAnimationFrame);
    times.push(now - before);
    before = now;
  }
  return times;
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
    return [
        _row("coin drawn after it was handed in, slowest of a hundred", drawn, 0.99, DRAWN_GOAL_MS),
        _row(
            f"frame while {ANCHORS} anchors scroll, slowest of twenty", frames, 0.95, FRAME_GOAL_MS
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
    with watched(browser, url) as seen:
        seen.go("/")
        seen.page.evaluate(WATCH)
        before = client.call("chain.tip")["votes"]
        for _ in range(COINS):
            handed_in.append(time.time() * 1000)
            demo.coin()
            time.sleep(PACE_S)
        seen.until(f"document.getElementById('tree-canvas').dataset.coins >= {before + COINS}")
        shown: list[list[float]] = json.loads(seen.page.evaluate("JSON.stringify(window.drawn)"))
    times = []
    for number, since in enumerate(handed_in, before + 1):
        times.append(next(at for coins, _, at in shown if coins >= number) - since)
    return times


def _frames(browser: Browser, url: str) -> list[float]:
    with watched(browser, url) as seen:
        seen.go("/tree")
        found: list[float] = seen.page.evaluate(SCROLL, [FRAMES, ANCHORS])
    return found


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
