"""A real node asked by a program: every method, the events, start and stop."""

from __future__ import annotations

import contextlib
import json
import re
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.framework.forge import Forge, spend_key
from tests.framework.processes import PATIENCE_S, NodeHome, NodeProcess, node_home
from unchained.node.chain.export import MAGIC
from unchained.node.consensus.coin_proof import CoinProof, verify_coin_proof
from unchained.node.consensus.params import REG
from unchained.node.crypto.addresses import encode_address
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.coin import HEADER_SIZE, Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.rpc.client.client import Client, Endpoint, LogEvent, NodeNotRunningError
from unchained.node.rpc.core.errors import (
    InvalidParamsError,
    NotFoundError,
    ProtocolRuleError,
    RefusedError,
    RpcError,
    UnauthorizedError,
    UnavailableError,
)
from unchained.node.rpc.core.openrpc import Discovery
from unchained.node.rpc.core.registry import Registry
from unchained.node.rpc.core.values import Amount
from unchained.node.rpc.methods.rooms import ROOMS

ADDRESS = encode_address(REG, spend_key(1).key_hash)
OTHER = encode_address(REG, spend_key(2).key_hash)
NOTHING = "00" * 32
LISTEN = "/ip4/127.0.0.1/tcp/0"


def start_reg(home: NodeHome, *arguments: str, name: str = "node") -> tuple[NodeProcess, Client]:
    """Start a node on reg and return it with a client, once it answers."""
    node = home.start("--network", "reg", *arguments, name=name)
    node.wait_event("node.started")
    return node, Client(Endpoint.of(home.data_dir(name)))


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[tuple[NodeHome, NodeProcess, Client]]:
    """A node on reg with a few anchors that pay `ADDRESS`."""
    with node_home(request) as home:
        node, client = start_reg(home)
        client.call("mine.generate", {"anchors": 3, "coins": 2, "address": ADDRESS})
        yield home, node, client
        client.call("node.stop")
        assert node.wait() == 0


Running = tuple[NodeHome, NodeProcess, Client]


def wait_until(holds: Callable[[], bool]) -> None:
    """Return once something holds that no event announces."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def spend(coin: dict[str, Any], fee: int = 20_000, *, to: int = 2) -> SizedTransfer:
    """Return a transfer of a coin of key 1, as coin.owned_by lists it."""
    grains = round(float(coin["amount"]) * 10**8)
    return Forge().transfer([(bytes.fromhex(coin["id"]), 1)], [(grains - fee, to)], fee=fee)


def owned(client: Client, address: str = ADDRESS, **params: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.call("coin.owned_by", {"address": address, **params})[
        "coins"
    ]
    return found


def test_the_chain_is_listed_from_tip_to_genesis(running: Running) -> None:
    _, _, client = running
    tip = client.call("chain.tip")
    assert tip["height"] >= 3
    anchor = client.call("chain.anchor", {"anchor": tip["id"]})
    height = tip["height"]
    while height > 0:
        assert client.call("chain.anchor_at", [height])["header"] == anchor["header"]
        assert client.call("chain.header", [anchor["header"]["id"]]) == anchor["header"]
        raw = client.call("chain.raw", [anchor["header"]["id"]])
        assert Coin.from_bytes(bytes.fromhex(raw["raw"])).id.hex() == anchor["header"]["id"]
        below = client.call("chain.anchor", {"anchor": anchor["header"]["parent"]})
        assert below["next"] == anchor["header"]["id"]
        assert below["confirmations"] == below["votes"] + anchor["confirmations"]
        height, anchor = height - 1, below
    assert anchor["header"]["id"] == client.call("chain.params")["genesis"]
    assert anchor["minted"] is None
    with pytest.raises(NotFoundError, match="no anchor at height 4000"):
        client.call("chain.anchor_at", [4000])
    with pytest.raises(NotFoundError, match="no anchor 0000"):
        client.call("chain.anchor", [NOTHING])
    with pytest.raises(NotFoundError, match="no minted coin"):
        client.call("chain.header", [NOTHING])


def test_supply_is_the_sum_of_what_anchors_minted(running: Running) -> None:
    _, _, client = running
    height = client.call("chain.tip")["height"]
    minted = [client.call("chain.anchor_at", [n])["minted"] for n in range(1, height + 1)]
    there = client.call("chain.supply")
    # Fees wait in the pool until an anchor's coin receives its share of them.
    held = Decimal(there["supply"]) + Decimal(there["pool"])
    assert sum(Decimal(amount) for amount in minted) == held
    first = client.call("chain.supply", [1])
    assert first == {"height": 1, "supply": minted[0], "pool": "0.00000000"}
    with pytest.raises(NotFoundError, match="is not kept"):
        client.call("chain.supply", [height + 1])


def test_forks_difficulty_and_params(running: Running) -> None:
    _, _, client = running
    tip = client.call("chain.tip")
    forks = client.call("chain.forks")
    assert [(f["id"], f["status"], f["length"]) for f in forks] == [(tip["id"], "main", 0)]
    points = client.call("chain.difficulty_history", {"first": 1, "step": 2})
    assert [point["height"] for point in points] == list(range(1, tip["height"] + 1, 2))
    assert {point["target"] for point in points} == {f"{REG.target0:064x}"}
    for point in client.call("chain.difficulty_history"):
        assert point["fees"] == client.call("chain.anchor_at", [point["height"]])["fees"]
    (genesis,) = client.call("chain.difficulty_history", {"first": 0, "last": 0})
    assert genesis["fees"] == "0.00000000"
    params = client.call("chain.params")
    assert params["subsidy"] == "1.00000000"
    assert params["chain_id"] == REG.chain_id


def test_a_proof_needs_nothing_but_hashes(running: Running) -> None:
    _, _, client = running
    coin = owned(client)[0]
    transfer = spend(coin)
    client.call("transfer.submit", [transfer.raw.hex()])
    anchor_id = client.call("mine.generate", {"coins": 2, "address": ADDRESS})["anchors"][0]
    output = client.call("transfer.get", [transfer.txid.hex()])["transfer"]["outputs"][0]["id"]
    with pytest.raises(
        RefusedError, match=r"not yet: .*ask again after the next anchor"
    ) as refused:
        client.call("coin.proof", {"coin": output})
    assert refused.value.error == "NOT_YET"
    client.call("mine.generate", {"address": ADDRESS})
    tip = client.call("chain.tip")
    for coin_id, status in ((coin["id"], "spent"), (output, "unspent"), (anchor_id, "unspent")):
        said = client.call("coin.proof", {"coin": coin_id})
        proof = CoinProof.from_file(bytes.fromhex(said["file"]))
        found = verify_coin_proof(proof, REG, default_backend())
        assert said["status"] == status == ("spent" if found.spent else "unspent")
        assert said["unspent_height"] == found.unspent_height
        assert said["tip"] == found.tip_id.hex() == tip["id"]
        assert said["state_height"] == found.state_height == tip["height"] - 1
        assert said["id"] == found.coin_id.hex() == coin_id
        assert said["anchor"] == found.anchor_id.hex()
        assert (said["height"], said["position"]) == (found.height, found.position)
        assert (said["anchors"], said["coins"]) == (found.anchors, found.coins)
        assert (said["work"], said["lock"]) == (str(found.work), found.lock.hex())
        assert Amount.parse(said["amount"]) == found.value
    with pytest.raises(NotFoundError, match="includes no coin"):
        client.call("coin.proof", {"coin": NOTHING})


def test_a_transfer_from_the_first_try_to_the_chain(running: Running) -> None:
    _, _, client = running
    coin = owned(client)[0]
    transfer = spend(coin)
    raw, txid = transfer.raw.hex(), transfer.txid.hex()
    decoded = client.call("transfer.decode", [raw])
    assert decoded["txid"] == txid
    assert decoded["inputs"][0]["amount"] == coin["amount"]
    assert decoded["inputs"][0]["condition"]["kind"] == "key"
    assert decoded["signers"] == [spend_key(1).key_hash.hex()]
    trial = client.call("transfer.test", [raw])
    assert trial == {
        "accepted": True,
        "known": False,
        "error": None,
        "reason": None,
        "txid": txid,
        "fee": "0.00020000",
        "size": transfer.size,
        "replaces": [],
    }
    assert client.call("transfer.submit", [raw])["accepted"]
    assert not client.call("transfer.submit", [raw])["accepted"]
    assert client.call("transfer.test", [raw])["known"]
    entry = client.call("mempool.entry", [txid])
    assert client.call("mempool.list") == [entry]
    assert client.call("mempool.list", {"sort": "time", "offset": 1}) == []
    assert client.call("mempool.info")["transfers"] == 1
    assert client.call("transfer.get", [txid])["status"] == "waiting"
    output = decoded["outputs"][0]["id"]
    assert client.call("coin.get", [output])["status"] == "waiting"
    assert client.call("coin.get", [coin["id"]])["spent_by"] == txid
    assert client.call("coin.history", [coin["id"]])[-1]["event"] == "spending"

    cheap = spend(coin, fee=20_001, to=3)
    trial = client.call("transfer.test", [cheap.raw.hex()])
    assert (trial["accepted"], trial["error"]) == (False, "REPLACEMENT_TOO_CHEAP")
    with pytest.raises(RefusedError) as refused:
        client.call("transfer.submit", [cheap.raw.hex()])
    assert refused.value.error == "REPLACEMENT_TOO_CHEAP"

    client.call("mine.generate", {"address": ADDRESS})
    found = client.call("transfer.get", [txid])
    assert found["status"] == "included"
    assert client.call("transfer.get", [entry["wid"]]) == found
    assert client.call("transfer.raw", [txid]) == raw
    assert client.call("coin.get", [coin["id"]])["status"] == "spent"
    assert client.call("coin.get", [output])["status"] == "unspent"
    assert [event["event"] for event in client.call("coin.history", [coin["id"]])] == [
        "mined",
        "included",
        "spent",
    ]
    assert output in [found["id"] for found in owned(client, OTHER)]
    assert coin["id"] not in [found["id"] for found in owned(client)]
    assert coin["id"] in [found["id"] for found in owned(client, spent=True)]
    with pytest.raises(NotFoundError):
        client.call("mempool.entry", [txid])


def test_a_broken_rule_is_named(running: Running) -> None:
    _, _, client = running
    forged = Forge().transfer([(bytes(32), 1)], [(10**6, 2)], fee=20_000)
    with pytest.raises(ProtocolRuleError) as broken:
        client.call("transfer.submit", [forged.raw.hex()])
    assert broken.value.error == "COIN_UNKNOWN"
    assert client.call("transfer.test", [forged.raw.hex()])["error"] == "COIN_UNKNOWN"
    assert client.call("transfer.test", ["00"])["error"] == "NON_CANONICAL"
    with pytest.raises(ProtocolRuleError, match="not the canonical encoding"):
        client.call("transfer.decode", ["00"])
    for method in ("transfer.get", "transfer.raw", "coin.get", "coin.history", "coin.raw"):
        with pytest.raises(NotFoundError):
            client.call(method, [NOTHING])


def test_coins_are_listed_page_by_page(running: Running) -> None:
    _, _, client = running
    everything = owned(client, limit=1000, spent=True)
    paged: list[dict[str, Any]] = []
    after = None
    while True:
        params = {"address": ADDRESS, "limit": 2, "spent": True}
        page = client.call("coin.owned_by", params | ({"after": after} if after else {}))
        paged += page["coins"]
        after = page["next"]
        if after is None:
            break
    assert paged == everything
    by_lock = client.call("coin.owned_by", {"lock": page["lock"], "limit": 1000, "spent": True})
    assert by_lock["coins"] == everything
    with pytest.raises(InvalidParamsError, match="either an address or a lock"):
        client.call("coin.owned_by")
    with pytest.raises(InvalidParamsError) as wrong:
        client.call("coin.owned_by", {"address": "lunc1" + "q" * 50})
    assert wrong.value.error == "BAD_ADDRESS"


def mine(template: dict[str, Any], target: str) -> bytes:
    """Return a coin that meets a target, on a template's header."""
    header = bytes.fromhex(template["header"])
    nonce = int.from_bytes(header[-8:], "big")
    while True:
        header = header[: HEADER_SIZE - 8] + (nonce % 2**64).to_bytes(8, "big")
        coin = header + compute_mix(default_backend(), header, template["mem_kib"])
        if Coin.from_bytes(coin).id.hex() <= target:
            return coin
        nonce += 1


def test_ids_are_found_by_their_first_digits(running: Running) -> None:
    _, _, client = running
    tip = client.call("chain.tip")["id"]
    assert client.call("chain.find", {"prefix": tip[:10]}) == [{"id": tip, "kind": "anchor"}]
    coin = owned(client)[0]["id"]
    assert [entry["id"] for entry in client.call("chain.find", {"prefix": coin[:11]})] == [coin]
    waiting = client.call("transfer.submit", {"raw": spend(owned(client)[0]).raw.hex()})["txid"]
    found = client.call("chain.find", {"prefix": waiting[:12]})
    assert found == [{"id": waiting, "kind": "transfer"}]
    client.call("mine.generate", {"anchors": 1, "address": ADDRESS})
    assert client.call("chain.find", {"prefix": waiting[:12]}) == found
    assert client.call("chain.find", {"prefix": "0123456789"}) == []
    for wrong in ("abc", "xyzt", "a" * 65):
        with pytest.raises(InvalidParamsError, match="prefix"):
            client.call("chain.find", {"prefix": wrong})


def test_a_miner_elsewhere_works_for_the_node(running: Running) -> None:
    _, _, client = running
    height = client.call("chain.tip")["height"]
    template = client.call("mine.template", {"address": ADDRESS})
    assert template["height"] == height + 1
    coin = mine(template, template["anchor_target"])
    submitted = client.call("mine.submit", [coin.hex()])
    assert submitted["status"] == "accepted"
    assert submitted["anchor"]
    assert client.call("chain.tip")["id"] == submitted["id"]
    assert client.call("mine.submit", [coin.hex()])["status"] == "known"
    # The template at hand is out of date: the call does not wait.
    newer = client.call("mine.template", {"address": ADDRESS, "after": template["id"]})
    assert newer["id"] != template["id"]
    forged = coin[:-1] + bytes([coin[-1] ^ 1])
    with pytest.raises(ProtocolRuleError):
        client.call("mine.submit", [forged.hex()])
    with pytest.raises(InvalidParamsError, match="198 bytes"):
        client.call("mine.submit", ["00"])


def test_waiting_for_a_template_ends_with_the_next_coin(running: Running) -> None:
    home, _, client = running
    template = client.call("mine.template")
    waiting = Client(Endpoint.of(home.data_dir()), timeout=60)
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(waiting.call("mine.template", {"after": template["id"]}))
    )
    thread.start()
    client.call("mine.generate")
    thread.join(60)
    assert results[0]["id"] != template["id"]
    # The anchor's coin is known a moment before its body.
    assert results[0]["height"] in (template["height"], template["height"] + 1)


def test_what_a_node_on_reg_does_not_do(running: Running) -> None:
    _, _, client = running
    for method in ("mine.start", "mine.stop", "mine.set_workers"):
        with pytest.raises(UnavailableError, match="mines on demand"):
            client.call(method, [1] if method.endswith("workers") else [])
    assert client.call("mine.status")["status"] == "off"
    measured = client.call("mine.benchmark", {"seconds": 0.1, "threads": 2})
    assert measured["hashes"] > 0
    assert measured["mem_kib"] == REG.mem_kib


def test_an_export_is_made_in_the_data_directory_alone(running: Running) -> None:
    home, _, client = running
    (home.data_dir() / "exports").mkdir(exist_ok=True)
    (home.data_dir() / "exports/.of-a-crash.chain.unfinished").touch()
    made = client.call("chain.export", ["a.chain"])
    path = Path(made["path"])
    assert path.parent == home.data_dir() / "exports"
    assert path.read_bytes().startswith(MAGIC)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made["tip"] == client.call("chain.tip")["id"]
    with pytest.raises(RefusedError) as refused:
        client.call("chain.export", ["a.chain"])
    assert refused.value.error == "FILE_EXISTS"
    for name in ("../a", "/tmp/a", ".a", "a/b", ""):
        with pytest.raises(InvalidParamsError):
            client.call("chain.export", [name])
    assert [entry.name for entry in path.parent.iterdir()] == ["a.chain"]


def test_the_node_describes_itself(running: Running) -> None:
    _, node, client = running
    status = client.call("node.status")
    assert status["ready"]
    assert status["network"] == "reg"
    assert status["last_event"] > 0
    assert client.call("node.version")["unchained"] == status["version"]
    settings = {row["key"]: row for row in client.call("node.config")}
    assert settings["node.network"] == {
        "key": "node.network",
        "value": '"reg"',
        "origin": "--network",
    }
    assert settings["rpc.password_hash"]["value"] == "***"
    assert client.call("node.log_level") == "info"
    assert client.call("node.log_level", ["warning"]) == "warning"
    before = len(node.events)
    client.call("mine.generate")
    assert not [e for e in node.events[before:] if e["event"] == "anchor.connected"]
    assert client.call("node.log_level", ["info"]) == "info"
    names = [task["name"] for task in client.call("debug.tasks")["tasks"]]
    assert "chain.writer" in names
    statistics = client.call("debug.statistics")
    assert statistics["chain"]["connected"] == client.call("chain.tip")["height"]
    assert {"store", "services", "loop", "log", "rpc"} <= set(statistics)
    assert client.call("debug.memory", {"kinds": 3})["resident"] > 0


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_and_readiness(running: Running) -> None:
    home, _, _ = running
    url = (home.data_dir() / "rpc.url").read_text()
    status, body = fetch(f"{url}/healthz")
    health = json.loads(body)
    assert (status, health.pop("status"), set(health)) == (200, "ok", {"turn_seconds"})
    status, body = fetch(f"{url}/readyz")
    assert status == 200
    for check in ("synced", "peers", "clock", "disk"):
        assert f'"{check}":"ok' in body


def test_the_token_reads_and_does_nothing_else(running: Running) -> None:
    home, _, client = running
    url = (home.data_dir() / "rpc.url").read_text()
    token = (home.data_dir() / "rpc.token").read_text()
    reader = Client(Endpoint.at(url, token=token))
    stranger = Client(Endpoint.at(url))
    document = client.call("rpc.discover")
    for method in document["methods"]:
        access = method["x-access"]
        if access == "full":
            with pytest.raises(UnauthorizedError):
                reader.call(method["name"])
        if access != "public":
            with pytest.raises(UnauthorizedError):
                stranger.call(method["name"])
    assert reader.call("chain.tip")["height"] > 0
    assert stranger.call("node.version")


def follow(client: Client, since: int, count: int) -> list[LogEvent]:
    events = []
    with client.events(since) as entries:
        for entry in entries:
            events.append(entry)
            if len(events) == count:
                return events
    return events


def test_events_have_no_gap_across_a_restart(home: NodeHome) -> None:
    node, client = start_reg(home)
    client.call("mine.generate", {"anchors": 2, "coins": 1, "address": ADDRESS})
    last = client.call("node.status")["last_event"]
    before = follow(client, 0, last)
    client.call("node.stop")
    assert node.wait() == 0
    with pytest.raises(NodeNotRunningError):
        client.call("node.status")
    assert not (home.data_dir() / "rpc.cookie").exists()
    assert not (home.data_dir() / "rpc.url").exists()

    node, client = start_reg(home)
    transfer = spend(owned(client)[0])
    client.call("transfer.submit", [transfer.raw.hex()])
    client.call("mine.generate", {"address": ADDRESS})
    end = client.call("node.status")["last_event"]
    assert end > last
    everything = follow(client, 0, end)
    assert everything[:last] == before
    assert [event.sequence for event in everything] == list(range(1, end + 1))
    assert follow(client, last, end - last) == everything[last:]
    kinds = [event.kind for event in everything[last:]]
    assert kinds[0] == "transfer.entered"
    assert {"coin.accepted", "anchor.connected", "transfer.left"} <= set(kinds)
    left = next(event for event in everything if event.kind == "transfer.left")
    assert left.data == {"wid": transfer.wid.hex(), "reason": "included"}
    with pytest.raises(NotFoundError) as gone, client.events(end + 1):
        pass
    assert gone.value.error == "EVENTS_GONE"
    assert gone.value.data["last"] == end
    assert client.call("chain.events", {"since": end}) == {"last": end, "events": []}
    with pytest.raises(NotFoundError, match=f"the log ends at {end}") as gone:
        client.call("chain.events", {"since": end + 1})
    assert gone.value.error == "EVENTS_GONE"
    client.call("node.stop")
    assert node.wait() == 0


def test_no_rpc_and_a_taken_port(home: NodeHome) -> None:
    node, client = start_reg(home)
    port = (home.data_dir() / "rpc.url").read_text().rpartition(":")[2]
    second = home.start("--network", "reg", "--rpc-listen", f"127.0.0.1:{port}", name="second")
    assert second.wait() == 1
    assert second.errors == [
        f"unchained-node: cannot listen for RPC on 127.0.0.1:{port}: Address already in use "
        "(choose another address with --rpc-listen HOST:PORT)"
    ]
    third = home.start("--network", "reg", "--no-rpc", name="third")
    third.wait_event("node.started")
    assert not (home.data_dir("third") / "rpc.url").exists()
    assert third.stop() == 0
    client.call("node.stop")
    assert node.wait() == 0


def test_a_user_and_the_hash_of_a_password(home: NodeHome) -> None:
    from unchained.node.rpc.http.gatekeeper import PasswordHash

    secret = "correct horse"
    hashed = str(PasswordHash.of(secret))
    node = home.start(
        "--network", "reg", "--set", "rpc.user=ada", "--set", f"rpc.password_hash={hashed}"
    )
    node.wait_event("node.started")
    url = (home.data_dir() / "rpc.url").read_text()
    ada = Client(Endpoint.at(url).with_password("ada", secret))
    assert ada.call("node.status")["network"] == "reg"
    assert hashed not in repr(ada.call("node.config"))
    with pytest.raises(UnauthorizedError):
        Client(Endpoint.at(url).with_password("ada", "wrong")).call("node.status")
    assert node.stop() == 0
    written = (home.data_dir() / "node.log").read_text()
    assert secret not in written
    assert hashed not in written


def test_wrong_settings_of_the_rpc_are_one_line(home: NodeHome) -> None:
    for setting, problem in [
        ("rpc.user=ada", "since rpc.user is set"),
        ("rpc.listen=127.0.0.1:70000", "a port from 0 to 65535"),
        ("rpc.password_hash=hunter2", "expected a hash by unchained-node config password"),
    ]:
        done = home.run("start", "--data-dir", str(home.data_dir()), "--set", setting)
        assert done.returncode == 2
        assert problem in done.stderr
        assert "hunter2" not in done.stderr
        assert done.stderr.count("\n") == 1


def test_two_nodes_meet_part_and_are_banned(home: NodeHome) -> None:
    first, ours = start_reg(home, "--listen", LISTEN, name="first")
    second, theirs = start_reg(home, "--listen", LISTEN, name="second")
    address = ours.call("net.info")["addresses"][0]
    mine_id, their_id = (client.call("net.info")["peer"] for client in (ours, theirs))
    assert theirs.call("net.peers") == []
    assert theirs.call("net.add_peer", [address]) == mine_id
    assert [peer["peer"] for peer in theirs.call("net.peers")] == [mine_id]
    with theirs.events(0) as entries:
        ours.call("mine.generate", {"anchors": 2, "address": ADDRESS})
        tip = ours.call("chain.tip")["id"]
        for entry in entries:
            if entry.kind == "anchor.connected" and entry.data["anchor"] == tip:
                break
    peer = ours.call("net.peers")[0]
    assert (peer["peer"], peer["outbound"]) == (their_id, False)
    wait_until(lambda: all(one["latency_ms"] > 0 for one in ours.call("net.peers")))
    assert ours.call("node.status")["peers"] == 1

    bans = ours.call("net.ban", {"peer": their_id, "minutes": 5, "reason": "noise"})
    assert [(ban["reason"], ban["count"]) for ban in bans] == [("noise", 1)]
    wait_until(lambda: theirs.call("net.peers") == [])
    assert ours.call("net.bans") == bans
    with pytest.raises(RefusedError) as refused:
        theirs.call("net.add_peer", [address])
    assert refused.value.error.startswith("DIAL_")
    assert ours.call("net.unban", [their_id]) == []
    with pytest.raises(NotFoundError, match="is not banned"):
        ours.call("net.unban", ["192.0.2.1"])
    assert [ban["address"] for ban in ours.call("net.ban", ["192.0.2.1"])] == ["192.0.2.1"]
    for wrong in ("nobody", "127.0.0.1"):
        with pytest.raises(InvalidParamsError):
            ours.call("net.ban", [wrong])
    with pytest.raises(NotFoundError, match="is connected"):
        ours.call("net.disconnect", ["nobody"])
    with pytest.raises(InvalidParamsError) as bad:
        ours.call("net.add_peer", ["127.0.0.1:80"])
    assert bad.value.error == "BAD_ADDRESS"
    for node in (first, second):
        assert node.stop() == 0


# -- every method against its own description -----------------------------------------------------


SAMPLES: dict[str, dict[str, Any]] = {
    "chain.export": {"name": "generated.chain"},
    "coin.owned_by": {"address": ADDRESS},
    "mine.benchmark": {"seconds": 0.1},
    "mine.template": {"address": ADDRESS},
    "mine.submit": {"raw": "00" * 198},
    "mine.set_workers": {"workers": 1},
}
"""Parameters of methods whose required ones cannot be guessed from their types."""

GUESSES: dict[str, Any] = {
    "path": "/dev/null/file",
    "names": ["height"],
    "scopes": ["read"],
    "token": "00" * 8,
    "invoice": "00" * 8,
    "account": 0,
    "alias": "nobody",
    "amount": "1.0",
    "new_wallet": "other",
    "message": "text",
    "height": 1,
    "prefix": "0000",
    "refund_height": 1,
    "address": LISTEN,
    "peer": "12D3KooWNobody",
    "passphrase": "correct horse",
    "new_passphrase": "correct horse",
    "mnemonic": "abandon " * 23 + "art",
    "view": "watch:none",
    "wallet": "default",
    "kind": "coin",
    "label": "a label",
    "lock": NOTHING,
    "payee": OTHER,
    "payments": [{"payee": OTHER, "amount": "0.1"}],
    "file": "00",
    "files": ["00"],
    "contract": "contract:none",
    "threshold": 1,
    "parties": [ADDRESS, OTHER],
    "claim": ADDRESS,
    "refund": OTHER,
}
"""What to try for a required parameter of some name; a refusal that is documented will do."""

LAST = "node.stop"


def methods() -> list[str]:
    names = [name for name in Registry(*ROOMS, Discovery) if name != LAST]
    return [*names, LAST]


def fits(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Assert that a value is what a schema of the document says."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return fits(value, document["components"]["schemas"][name], document)
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            with contextlib.suppress(AssertionError):
                return fits(value, option, document)
        raise AssertionError(f"{value!r} fits none of {schema['anyOf']}")
    if "enum" in schema:
        assert value in schema["enum"]
    kinds = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "array": list,
        "object": dict,
        "null": type(None),
    }
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), (value, schema)
        assert not (schema["type"] in ("integer", "number") and isinstance(value, bool))
    if "pattern" in schema:
        assert re.search(schema["pattern"], value), (value, schema)
    if schema.get("type") == "array" and "items" in schema:
        for item in value:
            fits(item, schema["items"], document)
    if "properties" in schema:
        assert set(schema["required"]) <= set(value)
        assert set(value) <= set(schema["properties"]), (value, schema)
        for name, item in value.items():
            fits(item, schema["properties"][name], document)
    elif isinstance(schema.get("additionalProperties"), dict):
        for item in value.values():
            fits(item, schema["additionalProperties"], document)
    return None


@pytest.fixture(scope="module")
def described(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[Client, dict[str, Any], dict[str, Any]]]:
    """A node of its own, its description, and ids of what it has."""
    with node_home(request) as home:
        node, client = start_reg(home, "--listen", LISTEN)
        anchors = client.call("mine.generate", {"anchors": 2, "coins": 1, "address": ADDRESS})
        transfer = spend(owned(client)[0])
        client.call("transfer.submit", [transfer.raw.hex()])
        known = {
            "chain": anchors["anchors"][-1],
            "coin": anchors["anchors"][0],
            "transfer": transfer.txid.hex(),
            "mempool": transfer.txid.hex(),
            "raw": transfer.raw.hex(),
        }
        client.call("wallet.create", {"passphrase": "correct horse"})
        yield client, client.call("rpc.discover"), known
        # Tests run side by side share them out: the last of them may have met another node.
        if LAST not in known:
            client.call(LAST)
        assert node.wait() == 0


@pytest.mark.parametrize("name", methods())
def test_every_method_answers_as_it_is_described(
    name: str, described: tuple[Client, dict[str, Any], dict[str, Any]]
) -> None:
    client, document, known = described
    method = next(found for found in document["methods"] if found["name"] == name)
    params = dict(SAMPLES.get(name, {}))
    room, _, _ = name.partition(".")
    for parameter in method["params"]:
        if parameter["required"] and parameter["name"] not in params:
            found = known.get(room, NOTHING)
            guesses = {**GUESSES, "raw": known["raw"], "id": found}
            guesses |= {"coin": found, "anchor": found, "txid": found}
            params[parameter["name"]] = guesses[parameter["name"]]
    for bad in ({**params, "no such parameter": 1}, [*params.values(), *([None] * 20)]):
        with pytest.raises(InvalidParamsError):
            client.call(name, bad)
    for parameter in method["params"]:
        with pytest.raises((InvalidParamsError, RpcError)):
            client.call(name, {**params, parameter["name"]: {"not": ["this"]}})
    declared = {entry["$ref"].rsplit("/", 1)[-1] for entry in method["errors"]}
    if name == LAST:
        known[LAST] = "called"
    (result,) = client.batch([(name, params)])
    if isinstance(result, RpcError):
        assert result.family in declared, (result, declared)
        assert result.error.isupper()
    else:
        fits(result, method["result"]["schema"], document)
