"""Networks of real nodes on this machine: processes with ports, asked over RPC, cut and healed.

A node of such a network listens on a port of its own and is asked over RPC. With a `Switchboard`
nodes give each other addresses of relays instead, which can cut what goes between two groups.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from tests.framework.forge import spend_key
from tests.framework.processes import PATIENCE_S, NodeHome, NodeProcess, node_home
from tests.framework.simulation.simnet import lengthen
from unchained.node.chain.core import ChainCore
from unchained.node.consensus.params import REG
from unchained.node.crypto.addresses import encode_address
from unchained.node.rpc.client.client import Client, ClientError, Endpoint
from unchained.storage.open import open_store

T = TypeVar("T")

STEP_S = 0.1
"""Seconds between looks at another process."""
COINS_FOR_EACH = 1
"""Coins that an anchor of a ready-made chain lists."""


def address_of(key: int) -> str:
    """Return the address on reg of a key of the forge."""
    return encode_address(REG, spend_key(key).key_hash)


def free_port() -> int:
    """Return a port that nothing listens on, and that no connection of another program is given
    before it is taken: below those that systems give by themselves."""
    while True:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as holder, contextlib.suppress(OSError):
            holder.bind(("127.0.0.1", port))
            return port


def until(
    wanted: Callable[[], T | None],
    what: str,
    *,
    within_s: float = PATIENCE_S,
    step_s: float = STEP_S,
) -> T:
    """Return the first true value that `wanted` gives. Raises AssertionError when time is up."""
    end = time.monotonic() + within_s
    while not (found := wanted()):
        if time.monotonic() > end:
            raise AssertionError(f"not {what} within {within_s:g} s")
        time.sleep(step_s)
    return found


class NetNode:
    """A node of a network: what outlives its process, and the process of the moment."""

    def __init__(self, net: Net, name: str, arguments: Sequence[str], bootstrap: str) -> None:
        self.net = net
        self.name = name
        self.port = free_port()
        self.arguments = list(arguments)
        self.bootstrap = bootstrap
        self.announced = self.port if net.board is None else net.board.add(self)
        self.process: NodeProcess

    @property
    def address(self) -> str:
        """Where others reach it, its peer unnamed."""
        return f"/ip4/127.0.0.1/tcp/{self.announced}"

    @property
    def full_address(self) -> str:
        """Where others reach it, its peer named."""
        return f"{self.address}/p2p/{self.id}"

    @property
    def id(self) -> str:
        """Its peer id, from its log."""
        return str(self.process.wait_event("net.listening")["peer"])

    @property
    def data_dir(self) -> Path:
        """Its data directory."""
        return self.net.home.data_dir(self.name)

    def start(self, *, wait: bool = True) -> None:
        """Run it, and wait until it serves unless asked not to."""
        arguments = ["--network", self.net.network, *self.arguments]
        arguments += ["--listen", f"/ip4/127.0.0.1/tcp/{self.port}"]
        arguments += ["--bootstrap", self.bootstrap] if self.bootstrap else []
        if self.announced != self.port:
            arguments += ["--set", f"network.announce={self.address}"]
        self.process = self.net.home.start(*arguments, name=self.name)
        if wait:
            self.process.wait_event("node.started")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()

    @property
    def client(self) -> Client:
        """A client of the running process."""
        return Client(Endpoint.of(self.data_dir), timeout=30.0)

    def call(self, method: str, seconds: float | None = None, **params: object) -> Any:
        """Call a method of its RPC."""
        return self.client.call(method, params, seconds=seconds)

    def generate(self, anchors: int, coins: int = 0, *, key: int = 1) -> list[str]:
        """Mine anchors there, each after so many coins, for a key of the forge; return their
        ids. On reg alone."""
        found = self.call(
            "mine.generate", 600, anchors=anchors, coins=coins, address=address_of(key)
        )
        return [str(anchor) for anchor in found["anchors"]]

    def owned(self, key: int = 1) -> list[dict[str, Any]]:
        """Return the unspent coins of a key of the forge."""
        found = self.call("coin.owned_by", address=address_of(key))
        assert found["next"] is None
        return [coin for coin in found["coins"] if not coin["spent"]]

    def lay(self, anchors: int) -> str:
        """Give it, before it starts, a chain with real proofs; return the tip's id. On reg."""
        with contextlib.closing(open_store(self.data_dir, REG, create=True)) as store:
            core = ChainCore(store, REG, lambda: 0, 2**62)
            core.begin_bulk()
            lengthen(core, anchors, plain=COINS_FOR_EACH, step_ms=1)
            core.end_bulk()
            return core.tip.id.hex()

    def tip(self) -> tuple[int, str]:
        """Return height and id of its tip; (-1, "") while it does not answer."""
        try:
            found = self.call("chain.tip")
        except ClientError:
            return -1, ""
        return int(found["height"]), str(found["id"])

    def peers(self) -> int:
        """Return how many peers have sent it their status."""
        return int(self.call("node.status")["peers"])

    def resident_mb(self) -> float:
        """Return the resident memory of its process, in MB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6


class Net:
    """Some nodes of one network."""

    def __init__(self, home: NodeHome, network: str, board: Switchboard | None) -> None:
        self.home = home
        self.network = network
        self.board = board
        self.nodes: list[NetNode] = []

    def node(self, *arguments: str, bootstrap: NetNode | None = None) -> NetNode:
        """Return another node, not started."""
        first = "" if bootstrap is None else bootstrap.address
        node = NetNode(self, f"node{len(self.nodes)}", arguments, first)
        self.nodes.append(node)
        return node

    def start(
        self, count: int, *arguments: str, joins: Callable[[int], int] = lambda n: 0
    ) -> list[NetNode]:
        """Start nodes, each but the first joining an earlier one of the number `joins` gives."""
        nodes: list[NetNode] = []
        for number in range(count):
            first = nodes[joins(number)] if number else None
            nodes.append(self.node(*arguments, bootstrap=first))
            nodes[-1].start(wait=False)
        for node in nodes:
            node.process.wait_event("node.started")
        return nodes

    def tips(self, nodes: Sequence[NetNode] | None = None) -> set[tuple[int, str]]:
        """Return the different tips."""
        return {node.tip() for node in nodes or self.nodes}

    def mingle(self, nodes: Sequence[NetNode], least: int = 1, within_s: float = 60) -> None:
        """Wait until every node has greeted so many peers."""
        until(
            lambda: min(node.peers() for node in nodes) >= least,
            f"{least} peers each",
            within_s=within_s,
        )

    def agree(
        self, nodes: Sequence[NetNode] | None = None, *, within_s: float = 60
    ) -> tuple[int, str]:
        """Wait until all nodes have one tip, and return it."""
        seen: set[tuple[int, str]] = set()

        def same() -> bool:
            nonlocal seen
            seen = self.tips(nodes)
            return len(seen) == 1 and min(seen)[0] >= 0

        try:
            until(same, "of one mind", within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(seen)}") from None
        return min(seen)

    def check(self, node: NetNode) -> None:
        """Check the store of a node that does not run."""
        done = self.home.run(
            "db", "check", "--json", "--network", self.network, "--data-dir", str(node.data_dir)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"sound":true' in re.sub(r"\s", "", done.stdout), done.stdout


@contextlib.contextmanager
def network(
    name: str = "reg",
    *,
    cuttable: bool = False,
    request: pytest.FixtureRequest | None = None,
) -> Iterator[Net]:
    """Give a test a network of nodes, with a switchboard between them if it is to be cut.

    A fixture gives its `request`, as to `node_home`.
    """
    with node_home(request) as home:
        board = Switchboard() if cuttable else None
        try:
            yield Net(home, name, board)
        finally:
            if board is not None:
                board.close()


class Switchboard:
    """Relays in front of nodes: what a node dials goes through here, and may be cut.

    Who dials is found out from the sockets of the nodes' processes.
    """

    def __init__(self) -> None:
        self._nodes: dict[int, NetNode] = {}
        self._groups: list[set[str]] = []
        self._closed = False
        self._lock = threading.Lock()
        self._links: list[tuple[str, str, socket.socket, socket.socket]] = []
        self._listeners: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def add(self, node: NetNode) -> int:
        """Open a relay to a node and return its port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)
        self._nodes[node.port] = node
        self._run(self._accept, listener, node)
        return int(listener.getsockname()[1])

    def part(self, *groups: Sequence[NetNode]) -> None:
        """Cut what goes between groups, and refuse more of it until `heal`."""
        with self._lock:
            self._groups = [{node.name for node in group} for group in groups]
            for dialler, target, *ends in self._links:
                if self._apart(dialler, target):
                    for end in ends:
                        _shut(end)

    def heal(self) -> None:
        """Let everything pass."""
        with self._lock:
            self._groups = []

    def close(self) -> None:
        """Cut everything and wait for the threads' ends."""
        for listener in self._listeners:
            _shut(listener)
            listener.close()
        with self._lock:
            # Who is being let in by now is not.
            self._closed = True
            for _, _, *ends in self._links:
                for end in ends:
                    _shut(end)
        for thread in self._threads:
            thread.join()
        for _, _, *ends in self._links:
            for end in ends:
                end.close()

    def _apart(self, one: str, other: str) -> bool:
        sides = [
            {at for at, group in enumerate(self._groups) if name in group} for name in (one, other)
        ]
        return bool(self._groups) and sides[0] != sides[1]

    def _run(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, node: NetNode) -> None:
        while True:
            try:
                inner, (_, port) = listener.accept()
            except OSError:
                return
            dialler = self._dialler(port, node.announced)
            with self._lock:
                if self._closed or self._apart(dialler, node.name):
                    inner.close()
                    continue
                try:
                    outer = socket.create_connection(("127.0.0.1", node.port))
                except OSError:
                    inner.close()
                    continue
                self._links.append((dialler, node.name, inner, outer))
                self._run(self._pump, inner, outer)
                self._run(self._pump, outer, inner)

    def _dialler(self, port: int, relay: int) -> str:
        """Return who dialled a relay from a port: several may dial others from the same one."""
        for node in self._nodes.values():
            with contextlib.suppress(psutil.Error, AttributeError):
                connections = psutil.Process(node.process.pid).net_connections("tcp4")
                if any(
                    connection.laddr[1] == port
                    and connection.raddr
                    and connection.raddr[1] == relay
                    for connection in connections
                ):
                    return node.name
        return ""

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        _shut(target)
        _shut(source)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
