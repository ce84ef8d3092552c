"""A node's RPC by its Unix socket and over TLS, with the clients of others: curl, openssl,
python-bitcoinrpc, jsonrpcclient."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonrpcclient
import pytest
import trio
from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.framework.forge import spend_key
from tests.framework.processes import NodeHome, node_home
from unchained.miner.remote import NodeUnavailableError
from unchained.node.cli.miner import RpcNode
from unchained.node.consensus.params import REG
from unchained.node.crypto.addresses import encode_address
from unchained.node.rpc.client.client import Client, Endpoint
from unchained.node.rpc.core.credential_files import COOKIE_FILE, SOCKET_FILE, URL_FILE

ADDRESS = encode_address(REG, spend_key(1).key_hash)
STATUS = b'{"jsonrpc": "2.0", "id": 1, "method": "node.config"}'


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost")]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "rpc.pem", folder / "rpc.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(0o600)
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.fixture(scope="module")
def home(request: pytest.FixtureRequest) -> Iterator[NodeHome]:
    """The place of a node on reg with TLS, with five anchors."""
    with node_home(request) as made:
        pem, key = certificate(made.path)
        node = made.start(
            *("--network", "reg"),
            *("--set", f"rpc.tls_certificate={pem}", "--set", f"rpc.tls_key={key}"),
        )
        node.wait_event("node.started")
        client = Client(Endpoint.of(made.data_dir()))
        client.call("mine.generate", {"anchors": 5, "address": ADDRESS}, seconds=60)
        yield made
        client.call("node.stop")
        assert node.wait() == 0


def url_of(home: NodeHome) -> str:
    url = (home.data_dir() / URL_FILE).read_text()
    assert url.startswith("https://127.0.0.1:")
    return url.replace("127.0.0.1", "localhost")


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "30", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_socket_gives_its_owner_everything(home: NodeHome) -> None:
    path = home.data_dir() / SOCKET_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    asked = ("--data-binary", STATUS.decode(), "http://localhost/rpc")
    done = curl("--unix-socket", str(path), *asked)
    keys = [row["key"] for row in json.loads(done.stdout)["result"]]
    assert "rpc.socket" in keys
    # Credentials that are shown count: wrong ones do not become right by the way they come.
    wrong = curl("--unix-socket", str(path), "--user", "a:b", *asked)
    assert json.loads(wrong.stdout)["error"]["data"]["error"] == "UNAUTHORIZED"
    # Nothing that a web page could have its browser send comes by a socket.
    other = curl("--unix-socket", str(path), "--header", "Host: evil.example", *asked)
    assert json.loads(other.stdout)["error"]["data"]["error"] == "BAD_HOST"


def test_the_command_line_takes_the_socket(home: NodeHome) -> None:
    cookie = home.data_dir() / COOKIE_FILE
    kept = cookie.with_name("kept")
    os.rename(cookie, kept)
    try:
        done = home.run("status", "--json", "--data-dir", str(home.data_dir()), "--network", "reg")
        assert json.loads(done.stdout)["height"] >= 5
    finally:
        os.rename(kept, cookie)
    by_url = ("--rpc", f"unix:{home.data_dir() / SOCKET_FILE}")
    assert home.run("chain", "tip", *by_url).returncode == 0


def test_a_miner_elsewhere_knows_the_node_by_its_certificate(home: NodeHome) -> None:
    cookie, pem = home.data_dir() / COOKIE_FILE, home.path / "rpc.pem"
    known = RpcNode(url_of(home), cookie, ADDRESS, pem)
    work = trio.run(known.template, None)
    assert len(work.header) == 166
    unknown = RpcNode(url_of(home), cookie, ADDRESS)
    with pytest.raises(NodeUnavailableError, match=r"is not trusted.*--rpc-certificate"):
        trio.run(unknown.template, None)
    for wrong, why in ((home.path / "none.pem", "No such file"), (cookie, "no certificates")):
        done = home.run(
            *("miner", "--connect", url_of(home), "--rpc-certificate", str(wrong)),
            *("--token-file", str(cookie)),
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert why in done.stderr


def test_curl_and_openssl_speak_tls_with_it(home: NodeHome) -> None:
    url, pem = url_of(home), str(home.path / "rpc.pem")
    cookie = (home.data_dir() / COOKIE_FILE).read_text()
    asked = ("--user", cookie, "--data-binary", STATUS.decode())
    done = curl("--cacert", pem, *asked, f"{url}/rpc")
    assert "result" in json.loads(done.stdout), done
    unknown = curl(*asked, f"{url}/rpc")
    assert unknown.returncode == 60
    plain = curl(*asked, url.replace("https:", "http:") + "/rpc")
    assert plain.returncode != 0
    old = curl("--cacert", pem, "--tlsv1.0", "--tls-max", "1.1", *asked, f"{url}/rpc")
    assert old.returncode == 35
    place = url.removeprefix("https://")
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", place, "-CAfile", pem, "-verify_return_error"],
        input=b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"Verify return code: 0 (ok)" in shown.stdout
    assert b"TLSv1.3" in shown.stdout


def test_the_command_line_trusts_a_certificate_that_is_named(home: NodeHome) -> None:
    where = ("--rpc", url_of(home), "--data-dir", str(home.data_dir()), "--network", "reg")
    pem = str(home.path / "rpc.pem")
    done = home.run("chain", "tip", "--json", "--rpc-certificate", pem, *where)
    assert json.loads(done.stdout)["height"] >= 5, done.stderr
    unknown = home.run("chain", "tip", *where)
    assert unknown.returncode == 1
    assert "certificate" in unknown.stderr
    none = home.run("chain", "tip", "--rpc-certificate", str(home.path / "rpc.key"), *where)
    assert (none.returncode, "no certificates" in none.stderr) == (1, True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("rpc.tls_certificate=/none",), "go together"),
        (("rpc.tls_certificate=/none", "rpc.tls_key=/none"), "cannot read /none"),
        (("rpc.socket=/none/there",), "cannot listen for RPC on /none/there"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    home: NodeHome, settings: tuple[str, ...], says: str
) -> None:
    flags = [part for setting in settings for part in ("--set", setting)]
    there = str(home.data_dir("second"))
    done = home.run("start", "--network", "reg", "--data-dir", there, *flags)
    assert done.returncode == 1, done
    assert says in done.stderr.splitlines()[-1]


# Clients of others


@pytest.fixture(scope="module")
def plain(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The address and cookie of a node on reg without TLS."""
    with node_home(request) as home:
        node = home.start("--network", "reg", "--set", "rpc.socket=off")
        node.wait_event("node.started")
        client = Client(Endpoint.of(home.data_dir()))
        client.call("mine.generate", {"anchors": 2, "address": ADDRESS}, seconds=60)
        assert not (home.data_dir() / SOCKET_FILE).exists()
        url = (home.data_dir() / URL_FILE).read_text()
        yield url, (home.data_dir() / COOKIE_FILE).read_text()
        client.call("node.stop")
        assert node.wait() == 0


def test_a_client_made_for_bitcoin_core_calls_methods(plain: tuple[str, str]) -> None:
    url, cookie = plain
    proxy = AuthServiceProxy(url.replace("http://", f"http://{cookie}@"))
    assert proxy.chain.tip()["height"] == 2
    assert proxy.chain.anchor_at(1)["header"]["height"] == 1
    with pytest.raises(JSONRPCException) as refused:
        proxy.chain.anchor_at(99)
    assert refused.value.code == -32001
    with pytest.raises(JSONRPCException) as unknown:
        proxy.getblockcount()
    assert unknown.value.code == -32601
    # It leaves its connection open.
    proxy._AuthServiceProxy__conn.close()


def test_a_client_of_json_rpc_calls_methods(plain: tuple[str, str]) -> None:
    url, cookie = plain
    user, _, password = cookie.partition(":")

    def post(body: Any, path: str = "/") -> Any:
        return httpx.post(url + path, json=body, auth=(user, password), timeout=30).json()

    for path in ("/", "/rpc"):
        found = jsonrpcclient.parse(post(jsonrpcclient.request("chain.tip"), path))
        assert isinstance(found, jsonrpcclient.Ok)
        assert found.result["height"] == 2
    refused = jsonrpcclient.parse(
        post(jsonrpcclient.request("chain.anchor_at", params={"height": 99}))
    )
    assert isinstance(refused, jsonrpcclient.Error)
    assert refused.code == -32001
    for request in (
        {"method": "chain.tip", "params": [], "id": "curltest", "jsonrpc": "1.0"},
        {"method": "chain.tip", "id": 7},
        {"method": "chain.tip", "params": None, "id": None, "version": "1.1", "extra": {"a": 1}},
    ):
        reply = post(request)
        assert (reply["error"], reply["id"]) == (None, request["id"])
        assert reply["result"]["height"] == 2
        failed = post(request | {"method": "no.such"})
        assert (failed["result"], failed["error"]["code"]) == (None, -32601)
