"""RPC calls per second, against a bare Starlette endpoint on the same server in the same run.

    python -m tests.bench.rpc

The reference is a Starlette application of one route that answers a fixed JSON object, behind the
same listener; the RPC call checks host and credentials, reads JSON-RPC, checks a parameter and
encodes a result. The clients run in a process of their own.

How long a call takes beside other work is measured on a node on reg that syncs a chain from
another and is told to mine anchors, one after the other, all the while.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.framework.network import network, until
from tests.framework.rpc_raw import RawClient, call, raw
from tests.framework.rpc_server import captured
from unchained.node.rpc.listener import HttpLimits, Listener, listen
from unchained.node.rpc.openrpc import registry
from unchained.node.rpc.registry import Access, method
from unchained.node.rpc.server import Bound, Readiness, RpcSettings, Server
from unchained.node.rpc.values import Amount, Hash
from unchained.node.runtime import InlineRunner

RUNS = 25
REQUESTS = 400
CONNECTIONS = 4
GOAL = 0.8
LAID = 600
"""Anchors that the busy node syncs."""


class Tip(msgspec.Struct, frozen=True):
    height: int
    id: Hash
    supply: Amount


class Found(msgspec.Struct):
    """Requests per second of each run, and the seconds of each call."""

    rates: list[float]
    references: list[float]
    times: list[float]


class Chain:
    @method("chain.anchor_at", Access.READ)
    async def anchor_at(self, height: int) -> Tip:
        """Return a fixed anchor."""
        return Tip(height, Hash(bytes(32)), Amount(150_000_000))


async def bare(_: Request) -> JSONResponse:
    return JSONResponse(
        {
            "jsonrpc": "2.0",
            "result": {"height": 5, "id": "00" * 32, "supply": "1.50000000"},
            "id": 1,
        }
    )


async def rate(port: int, request: Callable[[RawClient], bytes]) -> tuple[float, list[float]]:
    """Return requests per second over a few connections, and each one's seconds."""
    times: list[float] = []

    async def ask_many(client: RawClient, data: bytes) -> None:
        for _ in range(REQUESTS // CONNECTIONS):
            began = trio.current_time()
            await client.send(data)
            answer = await client.answer()
            times.append(trio.current_time() - began)
            assert answer.status == 200

    async with raw(port) as a, raw(port) as b, raw(port) as c, raw(port) as d:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for client in (a, b, c, d):
                nursery.start_soon(ask_many, client, request(client))
        return len(times) / (trio.current_time() - began), times


async def clients(port: int, reference_port: int, cookie: bytes) -> Found:
    """Ask both servers in turn, after one run each to warm up."""
    body = call("chain.anchor_at", [5])
    headers = {
        "authorization": "Basic " + b64encode(cookie).decode(),
        "content-type": "application/json",
    }

    def request(client: RawClient) -> bytes:
        return client.request(body, headers=headers)

    found = Found([], [], [])
    for run_number in range(RUNS + 1):
        calls, times = await rate(port, request)
        reference, _ = await rate(reference_port, request)
        if run_number:
            found.rates.append(calls)
            found.references.append(reference)
            found.times.extend(times)
    return found


async def measure(directory: Path) -> list[dict[str, Any]]:
    _, log = captured()
    server = Server(
        registry(Chain(), version="0"),
        settings=RpcSettings(directory),
        runner=InlineRunner(),
        log=log,
        readiness=lambda: Readiness(True, {}),
    )
    reference = Listener(
        Starlette(routes=[Route("/rpc", bare, methods=["POST"])]), limits=HttpLimits(), log=log
    )
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[Bound]) -> None:
            await server.serve(task_status=task_status)

        bound: Bound = await nursery.start(serve)
        sockets = await listen("127.0.0.1", 0)
        nursery.start_soon(reference.serve, sockets)
        reference_port = sockets[0].socket.getsockname()[1]
        command = [sys.executable, "-m", "tests.bench.rpc"]
        command += [str(bound.port), str(reference_port), str(directory / "rpc.cookie")]
        clients = await trio.run_process(command, capture_stdout=True)
        nursery.cancel_scope.cancel()
    found = msgspec.json.decode(clients.stdout, type=Found)
    rates, references, times = found.rates, found.references, found.times
    pairs = zip(rates, references, strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    p99 = sorted(times)[len(times) * 99 // 100] * 1000
    return [
        {
            "name": "rpc calls",
            "unit": "1/s",
            "median": statistics.median(rates),
            "min": min(rates),
            "max": max(rates),
            "runs": RUNS,
            "reference": "bare Starlette endpoint on the same server",
            "reference_median": statistics.median(references),
            "ratio": ratio,
            "goal": GOAL,
            "met": ratio >= GOAL,
        },
        {
            "name": "rpc call, slowest of a hundred, four callers, idle node",
            "unit": "ms",
            "median": p99,
            "min": min(times) * 1000,
            "max": max(times) * 1000,
            "runs": len(times),
            "reference": None,
            "reference_median": None,
            "ratio": None,
            "goal": 50.0,
            "met": p99 < 50.0,
        },
    ]


def measure_busy() -> dict[str, Any]:
    """Ask a node for its tip over and over while it syncs and mines."""
    with network() as net:
        source = net.node("--no-mine")
        source.lay(LAID)
        source.start()
        node = net.node("--no-mine", bootstrap=source)
        node.start()
        synced = threading.Event()
        times: list[float] = []

        def mine() -> None:
            while not synced.is_set():
                node.generate(1, 1)

        def ask() -> None:
            client = node.client
            while not synced.is_set():
                began = time.perf_counter()
                client.call("chain.tip")
                times.append(time.perf_counter() - began)

        threads = [threading.Thread(target=work) for work in (mine, ask, ask, ask, ask)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: node.tip()[0] >= LAID, "sync", within_s=300)
        finally:
            synced.set()
            for thread in threads:
                thread.join()
    p99 = sorted(times)[len(times) * 99 // 100] * 1000
    return {
        "name": "rpc call, slowest of a hundred, four callers, while it syncs and mines",
        "unit": "ms",
        "median": p99,
        "min": min(times) * 1000,
        "max": max(times) * 1000,
        "runs": len(times),
        "reference": "median call, ms",
        "reference_median": statistics.median(times) * 1000,
        "ratio": p99 / (statistics.median(times) * 1000),
        "goal": 50.0,
        "met": p99 < 50.0,
    }


def run() -> list[dict[str, Any]]:
    """Measure; takes about a minute."""
    with tempfile.TemporaryDirectory() as directory:
        start: Callable[[Path], Awaitable[list[dict[str, Any]]]] = measure
        found = trio.run(start, Path(directory))
    return [*found, measure_busy()]


def main(arguments: list[str]) -> None:
    """Measure; or, told two ports and a cookie's file, be the clients."""
    if not arguments:
        print(json.dumps(run(), indent=2))
        return
    port, reference_port, cookie = arguments
    found = trio.run(clients, int(port), int(reference_port), Path(cookie).read_bytes())
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main(sys.argv[1:])
