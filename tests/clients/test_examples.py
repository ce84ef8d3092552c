"""The clients of examples/, written from docs/wire.md alone: they join a node, read its headers,
and follow its coins."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.framework.cargo import build
from tests.framework.forge import spend_key
from tests.framework.processes import PATIENCE_S, NodeHome, NodeProcess
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.crypto.addresses import encode_address

ROOT = Path(__file__).resolve().parents[2]
PYTHON_CLIENT = ROOT / "examples/python-client/client.py"
RUST_CLIENT = ROOT / "examples/rust-client"
LINES_MAX = 300
ADDRESS = encode_address(REG, spend_key(1).key_hash)

needs_cargo = pytest.mark.skipif(
    shutil.which("cargo") is None, reason="the client in Rust is built where there is cargo"
)


def rust_client() -> list[str]:
    """Build the client and return how it is called."""
    return [str(build("examples/rust-client") / "unchained-example-client")]


def python_client() -> list[str]:
    return [sys.executable, str(PYTHON_CLIENT)]


def start(home: NodeHome) -> NodeProcess:
    """Start a node of `reg` that takes classical links."""
    classical = ("--set", "network.security=any")
    return home.start("--network", "reg", "--listen", "/ip4/127.0.0.1/tcp/0", *classical)


@pytest.fixture
def node(home: NodeHome) -> Iterator[NodeProcess]:
    """A node of `reg` with three anchors."""
    node = start(home)
    node.wait_event("node.started")
    generate(home, 3)
    yield node
    assert node.stop() == 0
    # Nothing that a client did was a fault.
    events = {event["event"] for event in node.events}
    assert not events & {"peer.banned", "peer.silent"}


def generate(home: NodeHome, anchors: int) -> list[str]:
    done = home.run(
        *("mine", "generate", str(anchors), "--coins", "2", "--address", ADDRESS, "--json"),
        *("--network", "reg", "--data-dir", str(home.data_dir())),
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def told(lines: list[str], key: str) -> list[dict[str, Any]]:
    """Return the lines in which a client tells of something."""
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in found if key in line]


def wait_told(
    client: NodeProcess, key: str, count: int, timeout_s: float = PATIENCE_S
) -> list[dict[str, Any]]:
    """Wait for so many of them."""
    client.wait_output(lambda lines: len(told(lines, key)) >= count, timeout_s)
    return told(client.output, key)


@pytest.mark.parametrize(
    "client", [python_client, pytest.param(rust_client, marks=needs_cargo)], ids=["python", "rust"]
)
def test_a_client_of_another_implementation(home: NodeHome, node: NodeProcess, client: Any) -> None:
    (address,) = node.wait_event("net.listening")["addresses"]
    genesis = genesis_of(REG).id.hex()
    program = client()
    reader = home.start(address, genesis, "--coins", "2", program=program)
    assert wait_told(reader, "following", 1)
    anchors = [line["anchor"] for line in told(reader.output, "anchor")]
    assert [line["height"] for line in told(reader.output, "anchor")] == [1, 2, 3]
    assert told(reader.output, "read")[0]["tip"] == anchors[-1]
    coins: list[dict[str, Any]] = []
    # Who takes part is sent what is new: what was mined before its word came through is not.
    while len(coins) < 2 and reader.running:
        anchors += generate(home, 1)
        coins = wait_told(reader, "coin", 2, timeout_s=5)
    assert reader.wait() == 0, reader.errors
    assert len(coins) == 2
    for coin in coins:
        assert coin["parent"] == anchors[coin["height"] - 2]


@pytest.mark.parametrize(
    "client", [python_client, pytest.param(rust_client, marks=needs_cargo)], ids=["python", "rust"]
)
def test_a_client_of_another_network_reads_nothing(
    home: NodeHome, node: NodeProcess, client: Any
) -> None:
    (address,) = node.wait_event("net.listening")["addresses"]
    reader = home.start(address, genesis_of(LOCAL).id.hex(), "--coins", "1", program=client())
    assert reader.wait() != 0
    assert not told(reader.output, "height")


@pytest.mark.parametrize("path", [PYTHON_CLIENT, RUST_CLIENT / "src/main.rs"])
def test_a_client_is_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LINES_MAX
