"""Four nodes in containers, by the scripts that people call: they agree, fork, heal and survive."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.framework.network import address_of
from unchained.node.rpc.client.client import Client, ClientError, Endpoint
from unchained.node.rpc.core.errors import RpcError

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
NODES = ("node1", "node2", "node3", "node4")
PATIENCE_S = 180.0
"""How long the nodes may take for anything, on a machine that runs other tests."""
BUILD_PATIENCE_S = 900.0
POLL_S = 0.3


def run(*command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    # An image has the kernel, also where these tests run without it (`CC=false`).
    inherited = {name: text for name, text in os.environ.items() if name != "CC"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=inherited | dict(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_PATIENCE_S,
        check=False,
    )


def docker(*arguments: str) -> str:
    done = run("docker", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def until(what: str, find: Callable[[], T | None]) -> T:
    """Return what `find` finds, once it finds something; a node that does not answer is asked
    again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        last: object = None
        try:
            found = find()
            if found is not None:
                return found
        except (ClientError, RpcError) as error:
            last = error
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what} ({last})"
        time.sleep(POLL_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Testnet:
    """One testnet of its own name, image and ports."""

    __test__ = False

    def __init__(self) -> None:
        self.project = f"unchained-test-{os.getpid()}"
        self.image = f"unchained-node:{self.project}"
        self.ports = {name: free_port() for name in NODES}
        ports = {f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        own = {"COMPOSE_PROJECT_NAME": self.project, "UNCHAINED_IMAGE": self.image}
        self.env = {**ports, **own, "NETWORK": "reg", "COMPOSE_PROFILES": "miners"}
        # On reg the test says when there is an anchor, and a miner finds coins at once.
        self.env["MINER_CPU_CAP"] = "1"

    def script(self, *arguments: str) -> str:
        done = run("scripts/testnet", *arguments, env=self.env)
        if "to make a base image takes" in done.stderr:
            pytest.skip(f"the testnet in containers was not run: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def listed(self, kind: str, *, form: str) -> list[str]:
        label = f"label=com.docker.compose.project={self.project}"
        every = ["--all"] if kind == "container" else []
        return docker(kind, "ls", *every, "--filter", label, "--format", form).split()

    def container(self, name: str) -> str:
        """Return the id of a service's first container."""
        return docker(
            "ps", "--all", "--quiet",
            "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", f"label=com.docker.compose.service={name}",
        )  # fmt: skip

    def ask(self, name: str, method: str, **params: object) -> Any:
        token = docker("exec", self.container(name), "cat", "/data/rpc.token")
        url = f"http://127.0.0.1:{self.ports[name]}"
        return Client(Endpoint.at(url, token=token), timeout=10).call(method, params)

    def page(self, name: str, path: str, *, token: bool = True) -> tuple[int, str]:
        """Return status and text of a page of a node, asked for with the read token or without."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[name]}{path}")
        if token:
            text = docker("exec", self.container(name), "cat", "/data/rpc.token")
            request.add_header("Authorization", f"Bearer {text}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def mine(self, name: str, anchors: int) -> None:
        """Mine anchors at a node, each after a coin."""
        cookie = docker("exec", self.container(name), "cat", "/data/rpc.cookie")
        url = f"http://127.0.0.1:{self.ports[name]}"
        client = Client(Endpoint.at(url).with_password(*cookie.split(":")), timeout=PATIENCE_S)
        client.call("mine.generate", {"anchors": anchors, "coins": 1, "address": address_of(1)})

    def tips(self, names: tuple[str, ...] = NODES) -> dict[str, str]:
        return {name: self.ask(name, "chain.tip")["id"] for name in names}

    def height(self, name: str) -> int:
        height: int = self.ask(name, "chain.tip")["height"]
        return height

    def anchor(self, name: str, height: int) -> str:
        """Return the id of an anchor of a node's main chain."""
        header = self.ask(name, "chain.anchor_at", height=height)["header"]
        return str(header["id"])

    def agreed_at(self, height: int, names: tuple[str, ...] = NODES) -> None:
        """Wait until all have one tip, of this height."""

        def agree() -> bool | None:
            tips = set(self.tips(names).values())
            return (len(tips) == 1 and self.height(names[0]) == height) or None

        until(f"one tip at height {height} at {', '.join(names)}", agree)

    def report(self) -> None:
        """Print how every node stands and what it said last."""
        print(self.script("status"))
        for name in self.listed("container", form="{{.Names}}"):
            done = run("docker", "logs", "--tail", "40", name)
            print(f"--- {name}\n{done.stdout}{done.stderr}")


@pytest.fixture
def testnet() -> Iterator[Testnet]:
    if shutil.which("docker") is None:
        pytest.skip("the testnet in containers was not run: there is no docker here")
    if run("docker", "version").returncode:
        pytest.skip("the testnet in containers was not run: Docker's engine does not answer")
    if run("docker", "compose", "version").returncode and shutil.which("docker-compose") is None:
        pytest.skip("the testnet in containers was not run: there is no docker compose here")
    made = Testnet()
    try:
        yield made
    except BaseException:
        with contextlib.suppress(AssertionError):
            made.report()
        raise
    finally:
        done = run("scripts/testnet", "down", "--volumes", env=made.env)
        run("docker", "image", "rm", made.image)
        print(done.stderr)
    assert done.returncode == 0
    for kind, form in (("container", "{{.ID}}"), ("volume", "{{.Name}}"), ("network", "{{.ID}}")):
        assert made.listed(kind, form=form) == []


@pytest.mark.slow
def test_four_nodes_agree_fork_heal_and_survive(testnet: Testnet) -> None:
    shown = testnet.script("up", "--scale", "miner=0")
    assert shown.count("running (healthy)") == len(NODES)
    first = testnet.container("node1")
    assert docker("exec", first, "id", "-u") != "0"
    assert docker("port", first, "8645") == f"127.0.0.1:{testnet.ports['node1']}"

    # They have found each other by name, and share one chain.
    for name in NODES:
        until(
            f"peers of {name}", lambda n=name: testnet.ask(n, "node.status")["peers"] == 3 or None
        )
    testnet.mine("node1", 2)
    testnet.agreed_at(2)

    # The image holds the page too: for who has the read token, as it asks from another machine.
    for path, text in (("/", "Epoch 3"), ("/static/page.js", "/tree.js"), ("/charts", "<svg")):
        status, shown = testnet.page("node1", path)
        assert (status, text in shown) == (200, True), (path, shown)
    status, shown = testnet.page("node1", "/", token=False)
    assert (status, "asks for the read token" in shown) == (401, True), shown

    # Cut in two, each side goes its own way.
    testnet.script("partition", "1,2", "node3,4")
    testnet.mine("node1", 2)
    testnet.mine("node3", 3)
    testnet.agreed_at(4, ("node1", "node2"))
    testnet.agreed_at(5, ("node3", "node4"))
    fork = 3
    assert testnet.anchor("node1", fork) != testnet.anchor("node3", fork)
    assert [line.split()[-1] for line in testnet.script("status").splitlines()[1:]] == [
        "-", "-", "B", "B"
    ]  # fmt: skip

    # Joined again, they agree on the past too.
    lost, won = testnet.anchor("node1", fork), testnet.anchor("node3", fork)
    testnet.script("heal")
    testnet.agreed_at(5)
    assert testnet.anchor("node1", fork) == won != lost
    assert len({testnet.anchor(name, fork) for name in NODES}) == 1

    # A node that is killed comes back with its chain, and a newcomer gets it from the others.
    testnet.script("kill", "4")
    assert "exited" in testnet.script("status")
    shown = testnet.script("up", "--scale", "node=1", "--scale", "miner=0")
    assert shown.count("running (healthy)") == len(NODES) + 1
    logged = map(json.loads, docker("logs", testnet.container("node4")).splitlines())
    opened = [event["height"] for event in logged if event["event"] == "chain.opened"]
    assert opened[-1] >= fork
    testnet.mine("node2", 1)
    testnet.agreed_at(6)
    newcomer = testnet.container("node")
    past = testnet.anchor("node1", fork)

    def has_the_past() -> bool | None:
        said = run(
            "docker", "exec", newcomer, "unchained-node", "rpc", "chain.anchor_at", f"height={fork}"
        )
        return past in said.stdout or None

    until("the others' past at the newcomer", has_the_past)

    # A miner that has a token and nothing else finds coins for them.
    assert "miner-1  running" in testnet.script("up", "--scale", "node=1", "--scale", "miner=1")

    def said_by_miner() -> str:
        return docker("logs", testnet.container("miner"))

    until("a coin of the miner's", lambda: "coin.found" in said_by_miner() or None)
    with pytest.raises(AssertionError, match="Read-only"):
        docker("exec", testnet.container("miner"), "touch", "/mining/token")
    docker("stop", testnet.container("miner"))

    # Asked to stop, a node ends in good order.
    docker("stop", "--time", "40", first)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", first) == "0"
