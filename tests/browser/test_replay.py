"""The log is played exactly, forks included: the node's own, and that of a recorded simulation."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from playwright.sync_api import Browser

from tests.browser.conftest import Shown
from tests.framework.browser import Watched, watched
from tests.framework.simulation.recording import (
    FORMAT,
    VERSION,
    RecordedBody,
    RecordedCoin,
    RecordedEvent,
    RecordedNetwork,
    RecordedNode,
)

READY = "document.getElementById('replay-at').max !== '0'"


def step(seen: Watched, position: int) -> str:
    """Move the slider as a person does, and return what is said of that moment."""
    seen.page.locator("#replay-at").evaluate(
        "(one, at) => { one.value = at; one.dispatchEvent(new Event('input')); }",
        str(position),
    )
    seen.until(f"document.getElementById('replay-canvas').dataset.position === '{position}'")
    return seen.page.locator("#replay-step").inner_text()


def log_of(shown: Shown) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shown.client.call("chain.events", {"since": 0, "limit": 4096})[
        "events"
    ]
    return found


def test_every_moment_of_the_log_has_the_tip_that_it_had(shown: Shown, browser: Browser) -> None:
    log = log_of(shown)
    # Which of two anchors wins is up to their ids.
    while all(event["kind"] != "anchor.disconnected" for event in log):
        shown.demo.fork()
        log = log_of(shown)
    tips = [0]
    for event in log:
        change = {"anchor.connected": 0, "anchor.disconnected": -1}.get(event["kind"])
        tips.append(tips[-1] if change is None else event["height"] + change)
    assert any(after < before for before, after in pairwise(tips))
    undone = next(n for n in range(1, len(tips)) if tips[n] < tips[n - 1])
    with watched(browser, shown.url) as seen:
        seen.go("/replay")
        seen.until(READY)
        assert seen.page.locator("#replay-at").get_attribute("max") == str(len(log))
        after = min(undone + 3, len(log))
        for position in (len(log), undone, undone - 1, after, 0, 1, len(log) // 2, len(log)):
            said = step(seen, position)
            assert said.endswith(f"tip at height {tips[position]}"), (position, said)
        won, lost = shown.demo.forks[0]
        forked = [event["id"] for event in log].index(lost) + 1
        step(seen, max(forked, [event["id"] for event in log].index(won) + 1) + 2)
        seen.until(
            "[...document.querySelectorAll('#replay-rivals section')].filter("
            "(one) => one.textContent.includes('listed by it alone')).length === 2"
        )
        rivals = seen.page.locator("#replay-rivals").inner_text()
        assert won[:7] in rivals
        assert lost[:7] in rivals
        step(seen, len(log))
        seen.page.locator("#replay-at").focus()
        seen.page.keyboard.press("ArrowLeft")
        assert f"{len(log) - 1:,} of {len(log):,}" in seen.page.locator("#replay-step").inner_text()
        step(seen, len(log) - 30)
        seen.page.select_option("#replay-speed", "200")
        seen.page.get_by_role("button", name="Play").click()
        seen.until(f"document.getElementById('replay-canvas').dataset.position === '{len(log)}'")
        assert seen.page.locator("#replay-play").inner_text() == "Play"
        seen.check()


def recording(shown: Shown) -> dict[str, object]:
    """A recording of the demonstration's chain as two nodes would have seen it."""
    tree = shown.client.call("chain.tree", {"first": 0, "last": 20})["anchors"]
    target = shown.client.call("chain.params")["target0"]
    genesis, *anchors = tree
    coins = [
        RecordedCoin(one["id"], one["parent"], one["height"], one["time"], target, True)
        for one in anchors
    ] + [
        RecordedCoin(coin["id"], one["id"], one["height"] + 1, coin["time"], target, False)
        for one in tree
        for coin in one["coins"]
        if coin["kind"] != "anchor"
    ]
    main = [one for one in anchors if one["status"] == "main"]
    beside = {one["height"] for one in anchors if one["status"] != "main"}
    won = [one for one in main if one["height"] in beside and one["coins"]]
    events = [
        event
        for at, one in enumerate(main)
        for event in (
            RecordedEvent(at * 1000, "n0", "coin", {"id": one["id"]}),
            RecordedEvent(at * 1000, "n0", "connected", {"id": one["id"], "height": one["height"]}),
        )
    ]
    events.append(RecordedEvent(99_000, "", "fault", {"fault": "<b>partition</b>"}))
    events.append(RecordedEvent(99_500, "n1", "coin", {"id": main[0]["id"]}))
    network = RecordedNetwork("quick", genesis["id"], genesis["time"], 8000, 4, 16, 720)
    return {
        "format": FORMAT,
        "version": VERSION,
        "seed": 7,
        "failure": "<img src=x onerror=alert(1)>",
        "network": network,
        "nodes": [RecordedNode("n0"), RecordedNode("n1")],
        "coins": coins,
        "bodies": [
            RecordedBody(main[0]["id"], [], [], []),
            *(RecordedBody(one["id"], [one["coins"][0]["id"]], [], []) for one in won),
        ],
        "events": events,
    }


def test_a_recording_of_a_simulation_is_opened_from_a_file(
    shown: Shown, browser: Browser, tmp_path: Path
) -> None:
    made = recording(shown)
    anchors = shown.client.call("chain.tree", {"first": 0, "last": 20})["anchors"]
    file = tmp_path / "storm.json"
    file.write_bytes(msgspec.json.encode(made))
    with watched(browser, shown.url) as seen:
        seen.go("/replay")
        seen.until(READY)
        seen.page.set_input_files("#replay-file", file)
        seen.until("document.getElementById('replay-said').textContent.includes('seed 7')")
        said = seen.page.locator("#replay-said").inner_text()
        assert "storm.json" in said
        assert "<img src=x" in said
        assert seen.page.locator("main img").count() == 0
        events = json.loads(file.read_text())["events"]
        own = [event for event in events if event["node"] in ("n0", "")]
        assert "fault <b>partition</b>" in step(seen, len(own))
        assert "tip at height 3" in step(seen, 6)
        assert "tip at height 2" in step(seen, 5)
        # Whoever sees the fork sees both of its anchors, and what each lists alone.
        lost = next(one for one in anchors if one["status"] != "main")
        won = next(one for one in anchors if one["height"] == lost["height"] and one != lost)
        at = next(n for n, event in enumerate(own, 1) if event["data"].get("id") == won["id"])
        step(seen, at + 1)
        seen.until("document.querySelectorAll('#replay-rivals section').length === 2")
        one, other = seen.page.locator("#replay-rivals section").all()
        assert won["id"][:7] in one.inner_text()
        assert lost["id"][:7] in other.inner_text()
        assert (
            "1, of which 1 are listed by it alone: " + won["coins"][0]["id"][:7] in one.inner_text()
        )
        assert "its body is unknown" in other.inner_text()
        assert seen.violations() == []
        seen.shoot("replay-rivals")
        seen.page.select_option("#replay-node", "n1")
        seen.until("document.getElementById('replay-at').max === '2'")
        seen.check()


def test_a_file_that_is_no_recording_is_refused_in_one_line(
    shown: Shown, browser: Browser, tmp_path: Path
) -> None:
    made = json.loads(msgspec.json.encode(recording(shown)))
    cases = [
        ("{", "not JSON"),
        ("[]", "its format is not"),
        ("null", "its format is not"),
        (json.dumps({**made, "version": 3}), "it is of version 3"),
        (json.dumps({**made, "nodes": 5}), "it has no list of nodes"),
        (json.dumps({**made, "network": None}), "it names no network"),
        (json.dumps({**made, "coins": [{"id": "00"}]}), "a coin of it is malformed"),
        (json.dumps({**made, "bodies": [{"anchor": "00"}]}), "a body of it is malformed"),
        (json.dumps({**made, "events": [None]}), "an event of it is malformed"),
    ]
    with watched(browser, shown.url) as seen:
        seen.go("/replay")
        seen.until(READY)
        for number, (text, said) in enumerate(cases):
            file = tmp_path / f"{number}.json"
            file.write_text(text)
            seen.page.set_input_files("#replay-file", file)
            seen.until(
                f"document.getElementById('replay-step').textContent.includes({json.dumps(said)})"
            )
        seen.check()
