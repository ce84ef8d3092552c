"""The page of a real node as a browser without script gets it: pages, links and facts."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.framework.demo_chain import PAYEE, DemoChain
from tests.framework.processes import NodeHome, NodeProcess, node_home
from unchained.node.rpc.client.client import Client
from unchained.node.rpc.client.endpoint import Endpoint

PAGES = ("/", "/wall", "/tree", "/charts", "/mempool", "/peers", "/mining", "/network")


@dataclass
class Seen:
    home: NodeHome
    node: NodeProcess
    client: Client
    demo: DemoChain
    url: str


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    """A node on reg with a chain worth looking at."""
    with node_home(request) as home:
        node = home.start("--network", "reg", "--listen", "/ip4/127.0.0.1/tcp/0")
        node.wait_event("node.started")
        client = Client(Endpoint.of(home.data_dir()))
        demo = DemoChain(client, epochs=14)
        demo.lay()
        demo.pay()
        demo.coin()
        yield Seen(home, node, client, demo, (home.data_dir() / "rpc.url").read_text())
        assert node.stop() == 0


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def fetch(url: str, **headers: str) -> tuple[int, str, Any]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.build_opener(NoRedirect).open(request) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


class Links(HTMLParser):
    """Collects what a page leads to and what it loads, and checks that its tags fit together."""

    VOID = frozenset(("meta", "link", "input", "br", "path", "circle", "rect"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in self.VOID:
            self._open.append(tag)
        if "id" in given:
            self.ids.append(given["id"] or "")
        if tag == "a":
            self.links.append(given["href"] or "")
        elif tag in ("link", "script"):
            self.loads.append(given.get("href") or given.get("src") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag


def ageless(text: str) -> str:
    return re.sub(r">[^<]* ago</time>", "></time>", text)


def test_every_page_can_be_read_and_every_link_leads_somewhere(seen: Seen) -> None:
    waiting, known = list(PAGES), set(PAGES)
    kinds = set()
    while waiting:
        path = waiting.pop(0)
        status, text, _ = fetch(seen.url + path)
        assert status == 200, (path, text[:500])
        page = Links(text)
        assert len(page.ids) == len(set(page.ids)), path
        kinds.add(path.split("/")[1].split("?")[0])
        for link in [*page.links, *page.loads]:
            if link.startswith(("?", "#")):
                continue
            assert link.startswith("/"), (path, link)
            # A few of each kind are enough.
            kind = link.split("/")[1]
            if link not in known and sum(one.split("/")[1] == kind for one in known) < 12:
                known.add(link)
                if link.startswith("/static/") or link.endswith(".json"):
                    assert fetch(seen.url + link)[0] == 200, link
                else:
                    waiting.append(link)
    assert {"anchor", "coin", "transfer", "lock", "tree"} <= kinds


def test_pages_say_what_the_methods_say(seen: Seen) -> None:
    client = seen.client
    tip = client.call("chain.tip")
    _, home, _ = fetch(seen.url)
    assert tip["id"] in home
    assert f"Epoch {tip['height'] + 1}" in home
    facts = json.loads(fetch(seen.url + "/home.json")[1])
    assert facts["chain"] == {**tip, "age_ms": facts["chain"]["age_ms"]}
    assert facts["fork_choice"] in home
    won, lost = seen.demo.forks[-1]
    anchor = client.call("chain.anchor", [won])
    status, page, _ = fetch(f"{seen.url}/anchor/{won}")
    assert status == 200
    for coin in [*anchor["fresh"], *anchor["uncles"], *anchor["transfers"], lost]:
        assert coin in page
    assert json.loads(fetch(f"{seen.url}/anchor/{won}.json")[1])["anchor"] == anchor
    height = anchor["header"]["height"]
    by_height = fetch(f"{seen.url}/anchor/{height}")[1].replace(f"/{height}.json", f"/{won}.json")
    assert ageless(by_height) == ageless(page)


def test_the_tree_shows_forks_votes_and_who_leads(seen: Seen) -> None:
    facts = json.loads(fetch(seen.url + "/tree.json?first=0&last=40")[1])
    assert [fork["height"] for fork in facts["forks"]] == sorted(
        (fork["height"] for fork in facts["forks"]), reverse=True
    )
    assert {(f["branches"][0]["id"], f["branches"][1]["id"]) for f in facts["forks"]} == set(
        seen.demo.forks
    )
    coins = {coin["id"]: coin for anchor in facts["tree"]["anchors"] for coin in anchor["coins"]}
    assert set(seen.demo.strays) <= set(coins)
    assert {coin["kind"] for coin in coins.values()} >= {"anchor", "fresh", "stray"}
    assert all(coin["luck"] >= 1 for coin in coins.values())
    assert all(fork["lead"] > 0 for fork in facts["forks"][1:])


def test_a_coin_tells_its_life(seen: Seen) -> None:
    spent = seen.client.call("coin.owned_by", {"address": PAYEE, "spent": True, "limit": 1000})
    coin = next(one for one in spent["coins"] if one["spent"])
    life = seen.client.call("coin.history", [coin["id"]])
    _, page, _ = fetch(f"{seen.url}/coin/{coin['id']}")
    for event in life:
        assert event["anchor"] in page
    assert life[-1]["txid"] in page
    assert "Mined" in page
    assert "Spent" in page


def test_a_search_leads_to_what_was_meant(seen: Seen) -> None:
    tip = seen.client.call("chain.tip")
    transfer = seen.client.call("mempool.list")[0]["txid"]
    lock = seen.client.call("coin.owned_by", {"address": PAYEE})["lock"]
    coin = seen.demo.strays[0]
    for text, path in (
        ("3", "/anchor/3"),
        (" 003 ", "/anchor/3"),
        (tip["id"], f"/anchor/{tip['id']}"),
        (tip["id"].upper(), f"/anchor/{tip['id']}"),
        (coin, f"/coin/{coin}"),
        (transfer, f"/transfer/{transfer}"),
        (lock, f"/lock/{lock}"),
        (PAYEE, f"/lock/{lock}"),
    ):
        query = urllib.parse.quote(text)
        status, _, headers = fetch(f"{seen.url}/search?q={query}")
        assert (status, headers["location"]) == (303, path), text
    for text, said in (("99999", 404), ("00" * 32, 404), ("lunc1qqqqqqqqqq", 400), ("x", 400)):
        assert fetch(f"{seen.url}/search?q={text}")[0] == said


def test_bad_input_harms_nothing(seen: Seen) -> None:
    for path in (
        "/anchor/-1",
        "/anchor/999999999999999999999",
        "/coin/xyz",
        "/coin/" + "zz" * 32,
        "/transfer/5",
        "/lock/nobody",
        "/lock/" + "00" * 32 + "?after=x",
        "/tree?first=0&last=100000",
        "/tree?first=5&last=99999999999999999999",
    ):
        status, text, _ = fetch(seen.url + path)
        assert 400 <= status < 500, (path, status)
        assert "<h1>" in text
    assert not [e for e in seen.node.events if e["event"] in ("rpc.page_failed", "rpc.failed")]
    assert fetch(seen.url + "/healthz")[0] == 200


def test_the_page_opens_nothing_but_itself(seen: Seen) -> None:
    host = seen.url.removeprefix("http://")
    assert fetch(seen.url, Host=host)[0] == 200
    assert fetch(seen.url, Host="evil.example")[0] == 403
    assert fetch(seen.url, Origin="http://evil.example")[0] == 403
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "chain.tip"}'
    request = urllib.request.Request(seen.url + "/rpc", data=body)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 401
    refused.value.close()
    assert fetch(seen.url + "/events")[0] == 401


def test_the_log_comes_live(seen: Seen) -> None:
    with urllib.request.urlopen(seen.url + "/live") as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        coin = seen.demo.coin()
        for line in stream:
            if coin in line.decode():
                break


def test_a_node_without_the_page_has_none(request: pytest.FixtureRequest) -> None:
    with node_home(request) as home:
        node = home.start("--network", "reg", "--set", "rpc.page=off")
        node.wait_event("node.started")
        url = (home.data_dir() / "rpc.url").read_text()
        for path in ("/", "/tree", "/static/page.css", "/login"):
            status, text, _ = fetch(url + path)
            assert (status, json.loads(text)["error"]["data"]["error"]) == (404, "NOT_FOUND")
        assert node.stop() == 0


def test_with_token_a_login_is_asked_for(request: pytest.FixtureRequest) -> None:
    with node_home(request) as home:
        node = home.start("--network", "reg", "--set", "rpc.page=token")
        node.wait_event("node.started")
        url = (home.data_dir() / "rpc.url").read_text()
        assert fetch(url)[0] == 401
        token = (home.data_dir() / "rpc.token").read_text()
        assert fetch(url, Authorization=f"Bearer {token}")[0] == 200
        form = f"token={token}".encode()
        request_ = urllib.request.Request(url + "/login", data=form, headers={"Origin": url})
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.build_opener(NoRedirect).open(request_)
        assert answer.value.code == 303
        cookie = answer.value.headers["set-cookie"].split(";")[0]
        answer.value.close()
        assert fetch(url, Cookie=cookie)[0] == 200
        said = json.dumps(node.events)
        assert token not in said
        assert cookie.split("=")[1] not in said
        assert node.stop() == 0


def test_the_page_is_complete_without_script(seen: Seen) -> None:
    _, text, _ = fetch(seen.url)
    for scripted in re.findall(r'class="scripted[^"]*"[^>]*>([^<]*)', text):
        # What needs script holds nothing that is not said elsewhere.
        assert not re.search(r"[0-9a-f]{64}", scripted)
    facts = json.loads(fetch(seen.url + "/home.json")[1])
    for anchor in facts["tree"]["anchors"]:
        assert anchor["id"] in text
        for coin in anchor["coins"]:
            assert coin["id"] in text
