"""Five nodes on this machine that a benchmark watches: when each hears of what one is sent."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import math
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tests.framework.network import Net, NetNode, network
from unchained.node.consensus.params import REG
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.coin import NONCE_OFFSET
from unchained.node.primitives.hashing import COIN_HASH

NODES = 5
PATIENCE_S = 120.0
NEEDED = 0.95
"""The share of runs that has to be within a goal for the 95th percentile to meet it."""


def percentile(values: Sequence[float], share: float = NEEDED) -> float:
    """Return the least value that such a share of the values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


class Watcher:
    """Reads the event stream of a node, and notes when each event came, in seconds."""

    def __init__(self, node: NetNode) -> None:
        url = (node.data_dir / "rpc.url").read_text().removeprefix("http://")
        token = (node.data_dir / "rpc.token").read_text()
        self._connection = http.client.HTTPConnection(url, timeout=PATIENCE_S)
        self._connection.request("GET", "/events", headers={"Authorization": f"Bearer {token}"})
        self._answer = self._connection.getresponse()
        assert self._answer.status == http.client.OK
        self._times: dict[tuple[str, str], float] = {}
        self._news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait(self, kind: str, name: str) -> float:
        """Return when an event of this kind came that names this coin, anchor or transfer."""
        with self._news:
            came = self._news.wait_for(lambda: (kind, name) in self._times, PATIENCE_S)
            assert came, f"no {kind} of {name} within {PATIENCE_S:g} s"
            return self._times[kind, name]

    def close(self) -> None:
        """Stop reading."""
        self._closing = True
        sock = self._connection.sock or self._answer.fp.raw._sock  # type: ignore[attr-defined]
        sock.shutdown(2)
        self._thread.join()
        self._answer.close()
        self._connection.close()

    def _read(self) -> None:
        kind = ""
        try:
            for line in self._answer:
                now = time.perf_counter()
                field, _, value = line.decode().strip().partition(": ")
                if field == "event":
                    kind = value
                elif field == "data":
                    data = json.loads(value)
                    with self._news:
                        for name in ("coin", "anchor", "wid"):
                            if name in data:
                                self._times[kind, data[name]] = now
                        self._news.notify_all()
        except (OSError, http.client.HTTPException):
            if not self._closing:
                raise


@contextlib.contextmanager
def five_nodes(*arguments: str) -> Iterator[tuple[Net, list[NetNode]]]:
    """Give five nodes on reg, without mining workers, each with four peers."""
    with network() as net:
        nodes = net.start(NODES, "--no-mine", *arguments)
        net.mingle(nodes, NODES - 1, within_s=PATIENCE_S)
        yield net, nodes


@contextlib.contextmanager
def watched(nodes: Sequence[NetNode]) -> Iterator[list[Watcher]]:
    """Watch nodes."""
    with contextlib.ExitStack() as stack:
        watchers = []
        for node in nodes:
            watchers.append(Watcher(node))
            stack.callback(watchers[-1].close)
        yield watchers


def mine(template: dict[str, Any], *, anchor: bool) -> bytes:
    """Return a coin on a template of reg, of anchor grade or not."""
    target = int(template["target"], 16)
    grade = REG.grade_target(target)
    prefix = bytes.fromhex(template["header"])[:NONCE_OFFSET]
    for nonce in itertools.count(random.getrandbits(62)):
        header = prefix + nonce.to_bytes(8, "big")
        raw = header + compute_mix(default_backend(), header, REG.mem_kib)
        value = int.from_bytes(COIN_HASH(raw), "big")
        if value <= grade if anchor else grade < value <= target:
            return raw
    raise AssertionError("unreachable")


def relay_ms(
    node: NetNode, watchers: Sequence[Watcher], kind: str, raw: bytes
) -> tuple[float, float]:
    """Hand a coin to a node, and return after how many ms the first node and the last had taken it
    in."""
    name = COIN_HASH(raw).hex()
    began = time.perf_counter()
    node.call("mine.submit", raw=raw.hex())
    times = [1000 * (watcher.wait(kind, name) - began) for watcher in watchers]
    return min(times), max(times)


def relay_result(
    name: str, last: Sequence[float], first: Sequence[float], goal_ms: float
) -> dict[str, object]:
    """Return a result whose goal is for the 95th percentile."""
    median, base = percentile(last, 0.5), percentile(first, 0.5)
    return {
        "name": name,
        "unit": "ms",
        "median": median,
        "min": min(last),
        "max": max(last),
        "runs": len(last),
        "reference": f"the first node; 95 % of runs at the last: {percentile(last):.1f}",
        "reference_median": base,
        "ratio": median / base,
        "goal": f"95 % within {goal_ms:g}",
        "met": percentile(last) <= goal_ms,
    }
