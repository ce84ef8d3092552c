"""The page of a real node as a browser without script gets it: pages, links and facts."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.framework.demo_chain import PAYEE, DemoChain
from tests.framework.processes import PATIENCE_S, NodeHome, NodeProcess, node_home
from unchained.node.crypto import history_range, merkle, state_range
from unchained.node.primitives.hashing import NODE
from unchained.node.rpc.client.client import Client
from unchained.node.rpc.client.endpoint import Endpoint
from unchained.node.rpc.core.errors import BusyError
from unchained.node.rpc.methods.verification import PROOFS_AT_ONCE

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


def live_parts(text: str) -> dict[str, str]:
    """Return the HTML of each part that a page keeps up to date, but for ages, and for digits: free
    bytes and the like change without any news."""
    text = re.sub(r"\d[\d,]*", "0", re.sub(r"up for [^<]*", "", ageless(text)))
    found = re.finditer(
        r'(?ms)^( *)<(\w+)[^>\n]* id="([^"]+)" data-live=.*?(?:</\2>$|^\1</\2>$)', text
    )
    return {part[3]: part[0] for part in found}


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
    by_height = fetch(f"{seen.url}/anchor/{height}")[1]
    for after in (".json", '"'):
        by_height = by_height.replace(f"/anchor/{height}{after}", f"/anchor/{won}{after}")
    assert ageless(by_height) == ageless(page)


def test_a_part_asked_for_is_what_it_is_on_the_page_and_brings_no_other(seen: Seen) -> None:
    for path in (*PAGES, f"/coin/{seen.demo.strays[0]}"):
        _, whole, _ = fetch(seen.url + path)
        for name, own in live_parts(whole).items():
            _, answer, _ = fetch(f"{seen.url}{path}?parts={name}")
            assert live_parts(answer)[name] == own, (path, name)
    read = {
        "epoch": {"tree", "forks", "fork_choice", "params"},
        "fees": {"mempool", "waiting"},
        "checks": {"status"},
        "nothing": set(),
    }
    for name, facts in read.items():
        _, answer, _ = fetch(f"{seen.url}/home.json?parts={name}")
        assert json.loads(answer).keys() == {"chain"} | facts
        _, answer, _ = fetch(f"{seen.url}/?parts={name}")
        assert {"epoch", "tiles", "latest", "fees", "checks"} & set(Links(answer).ids) <= {name}


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


def post(url: str, fields: dict[str, str]) -> tuple[int, str, Any]:
    """Send a form as a page of the node does."""
    data = urllib.parse.urlencode(fields).encode()
    origin = "/".join(url.split("/")[:3])
    request = urllib.request.Request(url, data=data, headers={"Origin": origin})
    try:
        with urllib.request.build_opener(NoRedirect).open(request) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def climb(step: dict[str, Any]) -> str:
    """Return the last node of a path, every step of it hashed anew as the protocol has it."""
    node = bytes.fromhex(step["leaf"])
    for up in step["path"]:
        sibling = bytes.fromhex(up["sibling"])
        pair = sibling + node if up["side"] == "left" else node + sibling
        hashes = {"inclusion": NODE, "history": history_range.join, "state": state_range.join}
        node = hashes[step["name"]](pair)
        assert node.hex() == up["node"]
    return node.hex()


def test_a_coin_is_verified_step_by_step(seen: Seen) -> None:
    seen.demo.anchor()
    seen.demo.anchor()
    listed = seen.client.call("coin.owned_by", {"address": PAYEE, "spent": True, "limit": 1000})
    spent = next(one["id"] for one in listed["coins"] if one["spent"])
    for coin in (seen.demo.strays[0], seen.demo.forks[0][0], spent):
        verified = seen.client.call("coin.verify", [coin])
        assert verified["holds"]
        steps = {step["name"]: step for step in verified["steps"]}
        assert list(steps) == ["id", "target", "work", "inclusion", "history", "state", "whole"]
        assert all(step["holds"] for step in steps.values()), steps
        for name in ("history", "state"):
            assert steps[name]["path"], steps[name]
            climb(steps[name])
        if steps["inclusion"]["leaf"]:
            top = climb(steps["inclusion"])
            count = int(re.search(r"of ([0-9]+) ", steps["inclusion"]["text"])[1])  # type: ignore[index]
            assert merkle.root_of(count, bytes.fromhex(top)).hex() == steps["inclusion"]["root"]
    status, page, _ = post(f"{seen.url}/verify/{spent}", {})
    assert status == 200
    assert "It holds" in page
    assert steps["state"]["path"][0]["sibling"] in page
    candidate = seen.demo.coin()
    steps = {s["name"]: s for s in seen.client.call("coin.verify", [candidate])["steps"]}
    assert steps["inclusion"]["holds"] is None
    assert steps["work"]["holds"]
    assert post(f"{seen.url}/verify/{'00' * 32}", {})[0] == 404
    assert post(f"{seen.url}/verify/xyz", {})[0] == 400


def test_a_receipt_is_verified(seen: Seen) -> None:
    transfer = seen.demo.pay()
    assert transfer is not None
    seen.demo.anchor()
    seen.client.call("wallet.create", {"passphrase": "", "no_passphrase": True})
    file = bytes.fromhex(seen.client.call("wallet.receipt", {"txid": transfer.txid.hex()}))
    status, page, _ = post(f"{seen.url}/receipt", {"receipt": file.hex().upper()})
    assert status == 200, page
    assert transfer.txid.hex() in page
    assert "is on the main chain of this node" in page
    broken = bytearray(file)
    broken[-200] ^= 1
    for text, said in (
        (broken.hex(), 409),
        ("00", 409),
        ("zz", 400),
        ("", 400),
        ("00" * 100_000, 409),
    ):
        status, page, _ = post(f"{seen.url}/receipt", {"receipt": text})
        assert status == said, (text[:20], status)


def test_all_who_verify_share_one_budget(seen: Seen) -> None:
    coin = seen.demo.strays[0]
    refused = None
    for _ in range(PROOFS_AT_ONCE):
        status, _, headers = post(f"{seen.url}/verify/{coin}", {})
        if status == 429:
            refused = headers["retry-after"]
            break
    assert refused is not None
    assert int(refused) >= 1
    with pytest.raises(BusyError):
        seen.client.call("coin.verify", [coin])
    assert post(f"{seen.url}/receipt", {"receipt": "00" * 20_000})[0] == 429
    assert fetch(f"{seen.url}/coin/{coin}")[0] == 200


def test_a_search_leads_to_what_was_meant(seen: Seen) -> None:
    tip = seen.client.call("chain.tip")
    waiting = seen.demo.pay()
    assert waiting is not None
    transfer = waiting.txid.hex()
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
    for text, said in (("99999", 404), ("00" * 32, 404), ("lunc1qqqqqqqqqq", 400), ("x", 404)):
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
        "/tree?first=5&last=4",
        "/tree?first=99999",
        "/tree?first=5&last=99999999999999999999",
    ):
        status, text, _ = fetch(seen.url + path)
        assert 400 <= status < 500, (path, status)
        heading = "Not understood" if status == 400 else "Not found"
        assert f"<h1>{heading}</h1>" in text
        assert f"<title>{heading} · " in text
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


def test_the_log_is_paged_without_a_gap(seen: Seen) -> None:
    last = seen.client.call("chain.events")["last"]
    assert last == seen.client.call("node.status")["last_event"]
    paged: list[dict[str, Any]] = []
    while len(paged) < last:
        since = paged[-1]["sequence"] if paged else 0
        paged += seen.client.call("chain.events", {"since": since, "limit": 37})["events"]
    assert [event["sequence"] for event in paged] == list(range(1, last + 1))
    assert seen.client.call("chain.events", {"since": last})["events"] == []
    newest = seen.client.call("chain.events", {"limit": 5})["events"]
    assert newest == paged[-5:]
    heights: list[str] = [seen.client.call("chain.params")["genesis"]]
    for event in paged:
        if event["kind"] == "anchor.connected":
            assert event["height"] == len(heights)
            heights.append(event["id"])
        elif event["kind"] == "anchor.disconnected":
            assert heights.pop() == event["id"]
    assert heights[-1] == seen.client.call("chain.tip")["id"]
    _, page, _ = fetch(seen.url + "/replay?since=3&limit=2")
    assert paged[3]["id"] in page
    assert paged[4]["id"] in page
    assert fetch(seen.url + "/replay?since=x")[0] == 400
    assert fetch(seen.url + "/replay?limit=99999")[0] == 400


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


HOSTILE = "<img src=x onerror=alert(1)>'\"&"


def test_a_wallet_receives_sends_and_is_seen_by_its_link_alone(
    request: pytest.FixtureRequest,
) -> None:
    with node_home(request) as home:
        node = home.start("--network", "reg", "--set", "rpc.wallet_page=true")
        node.wait_event("node.started")
        client = Client(Endpoint.of(home.data_dir()))
        url = (home.data_dir() / "rpc.url").read_text()
        client.call("wallet.create", {"passphrase": "right", "wallet": "one"})
        own = client.call("wallet.address", {"wallet": "one"})["text"]
        client.call("mine.generate", {"anchors": 3, "address": own})
        for path in ("/wallet", "/wallet/history.csv", "/wallet/qr.svg"):
            assert fetch(url + path)[0] == 403
        assert post(url + "/wallet/send", {"file": "00"})[0] == 403
        where = ("--data-dir", str(home.data_dir()))
        assert home.run("wallet", "page", "-w", "none", *where).returncode == 1
        asked = home.run("wallet", "page", "-w", "one", *where)
        link = asked.stdout.strip()
        assert link.startswith(url + "/open/"), asked.stderr
        status, _, headers = fetch(link)
        place, _, which = headers["location"].partition("?")
        assert (status, which) == (303, "wallet=one")
        assert re.fullmatch("/wallet/[0-9a-f]{64}", place)
        assert "HttpOnly" in headers["set-cookie"]
        assert fetch(link)[0] == 401
        cookie = headers["set-cookie"].split(";")[0]
        status, page, _ = fetch(url + place + "?wallet=one", Cookie=cookie)
        assert status == 200
        assert own in page
        # The cookie, which goes to every port of this host, opens no wallet, and learns no key.
        for path in ("/wallet", "/wallet/history.csv", "/wallet/" + "0" * 64):
            assert fetch(url + path, Cookie=cookie)[0] == 403
        assert place not in fetch(url + "/", Cookie=cookie)[1]
        assert fetch(url + place)[0] == 403
        csrf = re.findall(r'name="csrf" value="([0-9a-f]{64})"', page)[0]
        status, picture, headers = fetch(url + place + "/qr.svg?wallet=one", Cookie=cookie)
        assert (status, headers["content-type"]) == (200, "image/svg+xml")
        assert picture.count("<path") >= 1

        wait_until(
            lambda: float(client.call("wallet.balance", {"wallet": "one"})["confirmed"]) >= 1
        )
        other = {"passphrase": "", "no_passphrase": True, "wallet": "other"}
        client.call("wallet.create", other)
        payee = client.call("wallet.paycode", {"wallet": "other"})["text"]
        form = {"csrf": csrf, "wallet": "one", "payee": payee, "amount": "0.5", "memo": HOSTILE}
        for change, said in (
            ({"csrf": "0" * 64}, 403),
            ({"amount": "x"}, 400),
            ({"amount": "99999999"}, 409),
            ({"payee": HOSTILE}, 409),
            ({"wallet": "two"}, 409),
            ({"payee": ""}, 400),
        ):
            status, page, _ = send_form(url + place + "/confirm", {**form, **change}, cookie)
            assert status == said, (change, page)
            assert "<img src=x" not in page
        status, page, _ = send_form(url + place + "/confirm", form, cookie)
        assert status == 200, page
        assert payee in page
        assert "0.5" in page
        assert "memo: &lt;img src=x" in page
        assert "<img src=x" not in page
        assert client.call("mempool.list") == []
        file = re.findall(r'name="file" value="([0-9a-f]+)"', page)[0]
        confirmed = {"csrf": csrf, "wallet": "one", "file": file}
        assert send_form(url + place + "/send", confirmed, cookie)[0] == 409
        wrong = {**confirmed, "passphrase": "wrong"}
        assert send_form(url + place + "/send", wrong, cookie)[0] == 409
        right = {**confirmed, "passphrase": "right"}
        status, page, _ = send_form(url + place + "/send", right, cookie)
        assert status == 200, page
        assert client.call("wallet.info", {"wallet": "one"})["locked"]
        (waiting,) = client.call("mempool.list")
        assert waiting["txid"] in page
        client.call("wallet.label", ["transfer", waiting["txid"], HOSTILE, "one"])
        client.call("mine.generate", {"address": own})
        wait_until(lambda: HOSTILE in fetch_csv(url + place, cookie))
        # a wallet without a passphrase is asked for none, and is as it was afterwards
        again = {"csrf": csrf, "wallet": "other", "payee": own, "amount": "0.1", "memo": ""}
        status, page, _ = send_form(url + place + "/confirm", again, cookie)
        assert (status, "passphrase" in page) == (200, False)
        file = re.findall(r'name="file" value="([0-9a-f]+)"', page)[0]
        confirmed = {"csrf": csrf, "wallet": "other", "file": file}
        assert send_form(url + place + "/send", confirmed, cookie)[0] == 200
        assert client.call("wallet.info", {"wallet": "other"})["locked"]
        # the label of who pays, and the memo for the payee
        for wallet in ("one", "other"):
            _, page, _ = fetch(f"{url}{place}?wallet={wallet}", Cookie=cookie)
            assert page.count("&lt;img src=x") == 1
            assert "<img src=x" not in page
        assert send_form(url + "/logout", {"csrf": csrf}, cookie)[0] == 303
        assert fetch(url + place, Cookie=cookie)[0] == 403
        said = json.dumps(node.events)
        secrets = (link.rpartition("/")[2], place.rpartition("/")[2], cookie.partition("=")[2])
        for secret in (*secrets, csrf, "right"):
            assert secret not in said
        assert node.stop() == 0


def send_form(url: str, fields: dict[str, str], cookie: str) -> tuple[int, str, Any]:
    data = urllib.parse.urlencode(fields).encode()
    origin = "/".join(url.split("/")[:3])
    headers = {"Origin": origin, "Cookie": cookie}
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.build_opener(NoRedirect).open(request) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def fetch_csv(url: str, cookie: str) -> str:
    return fetch(url + "/history.csv?wallet=one", Cookie=cookie)[1].replace('""', '"')


def wait_until(holds: Any) -> None:
    """Return once something holds that no event announces."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_who_needs_no_credentials_sees_no_log_of_a_wallet(seen: Seen) -> None:
    for path in ("/live?wallet=default", "/live?wallet=a&since=0"):
        assert fetch(seen.url + path)[0] in (401, 403)
