"""RPC calls per second, against a bare Starlette endpoint on the same server in the same run.

    python -m tests.bench.rpc

The reference is a Starlette application of one route that answers a fixed JSON object, behind the
same listener; the RPC call checks host and credentials, reads JSON-RPC, checks a parameter and
encodes a result. The clients run in a process of their own.

How long a call takes beside other work is measured with calls at fixed times on two nodes: one
that mines with every core, and one that syncs a chain while workers mine on every core.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.bench.sync import keep_mixes, lay, newcomer
from tests.framework.network import network, until
from tests.framework.processes import node_program
from tests.framework.rpc_raw import RawClient, call, raw
from tests.framework.rpc_server import Reports, captured
from unchained.node.base.config import MiningConfig
from unchained.node.base.runner import InlineRunner
from unchained.node.rpc.client.client import Client, Endpoint
from unchained.node.rpc.core.openrpc import registry
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.http.listener import HttpLimits, Listener
from unchained.node.rpc.http.rpc_settings import RpcSettings
from unchained.node.rpc.http.server import Bound, Server
from unchained.node.rpc.http.sockets import listen

RUNS = 25
REQUESTS = 400
CONNECTIONS = 4
GOAL = 0.8
GOAL_MS = 50.0
PACE_S = 0.04
"""Seconds between the calls of one caller, as of a program that watches a node closely."""
LAID = 4_000
"""Anchors that a node syncs while it is asked."""
MINING_S = 20.0
STARTED = b"asking\n"
PATIENCE_S = 300.0


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


def authorized(cookie: bytes) -> dict[str, str]:
    """Return the headers of a call by who has the cookie."""
    return {
        "authorization": "Basic " + b64encode(cookie).decode(),
        "content-type": "application/json",
    }


def p99_ms(times: Sequence[float]) -> float:
    """Return the slowest of a hundred of some seconds, in ms."""
    return sorted(times)[len(times) * 99 // 100] * 1000


async def clients(port: int, reference_port: int, cookie: bytes) -> Found:
    """Ask both servers in turn, after one run each to warm up."""
    body = call("chain.anchor_at", [5])
    headers = authorized(cookie)

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
        registry(Chain(), version="0", runner=InlineRunner()),
        settings=RpcSettings(directory),
        runner=InlineRunner(),
        log=log,
        readiness=Reports(),
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
    p99 = p99_ms(times)
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
            "goal": GOAL_MS,
            "met": p99 < GOAL_MS,
        },
    ]


async def ask_at_pace(port: int, cookie: bytes) -> list[float]:
    """Ask for the tip at fixed times until standard input ends; return the seconds of each call,
    from when it was due: what waits for a slow call is slow itself."""
    headers = authorized(cookie)
    times: list[float] = []
    # A garbage collection here would count as the node's slowness.
    gc.collect()
    gc.freeze()

    async def caller(number: int) -> None:
        async with raw(port) as client:
            data = client.request(call("chain.tip"), headers=headers)
            due = trio.current_time() + number * PACE_S / CONNECTIONS
            while True:
                await trio.sleep_until(due)
                await client.send(data)
                answer = await client.answer()
                times.append(trio.current_time() - due)
                assert answer.status == 200
                due += PACE_S

    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            nursery.start_soon(caller, number)
        sys.stdout.buffer.write(STARTED)
        sys.stdout.buffer.flush()
        await trio.to_thread.run_sync(sys.stdin.buffer.read)
        nursery.cancel_scope.cancel()
    return times


@contextlib.contextmanager
def asked(directory: Path) -> Iterator[list[float]]:
    """Have the node of a data directory asked from another process; the list has the calls'
    seconds in the end."""
    port = (directory / "rpc.url").read_text().rpartition(":")[2]
    command = [sys.executable, "-m", "tests.bench.rpc", port, str(directory / "rpc.cookie")]
    times: list[float] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == STARTED
        yield times
        output, _ = process.communicate()
    assert process.returncode == 0
    times += msgspec.json.decode(output, type=list[float])


def measure_mining() -> dict[str, Any]:
    """Ask a node on local that mines with a worker on every core."""
    with network("local") as net:
        node = net.node("--mine", "--workers", str(os.cpu_count()))
        node.start()
        until(lambda: node.tip()[0] > 0, "mining", within_s=PATIENCE_S)
        with asked(node.data_dir) as times:
            time.sleep(MINING_S)
    return slowest("while it mines", times)


def measure_syncing() -> dict[str, Any]:
    """Ask a node on local that syncs from another, while workers mine on every core."""
    with network("local") as net:
        source = net.node("--no-mine")
        tip, coins = lay(source, LAID)
        mixes = keep_mixes(net, coins)
        source.start()
        # As nice as a node's own workers.
        mining = ["nice", "-n", str(MiningConfig().nice), node_program(), "bench", "pow"]
        mining += ["--workers", str(os.cpu_count()), "--seconds", f"{PATIENCE_S}"]
        with subprocess.Popen(mining, stdout=subprocess.DEVNULL) as miner:
            try:
                trusting = ("--set", f"network.assume_valid={tip.id.hex()}")
                process, directory = newcomer(net, mixes, *trusting)
                process.wait_event("node.started")
                with asked(directory) as times:
                    Client(Endpoint.of(directory)).call("net.add_peer", [source.full_address])
                    process.wait_event(
                        "sync.synced",
                        lambda event: event["height"] == LAID,
                        timeout_s=PATIENCE_S,
                    )
            finally:
                miner.send_signal(signal.SIGINT)
    return slowest("while it syncs, beside a miner", times)


def slowest(when: str, times: Sequence[float]) -> dict[str, Any]:
    """Return a result whose goal is for the 99th percentile."""
    p99 = p99_ms(times)
    median = statistics.median(times) * 1000
    return {
        "name": f"rpc call, slowest of a hundred, {CONNECTIONS / PACE_S:g} calls a second {when}",
        "unit": "ms",
        "median": p99,
        "min": min(times) * 1000,
        "max": max(times) * 1000,
        "runs": len(times),
        "reference": "median call, ms",
        "reference_median": median,
        "ratio": p99 / median,
        "goal": GOAL_MS,
        "met": p99 < GOAL_MS,
    }


def run() -> list[dict[str, Any]]:
    """Measure; takes about a minute."""
    with tempfile.TemporaryDirectory() as directory:
        start: Callable[[Path], Awaitable[list[dict[str, Any]]]] = measure
        found = trio.run(start, Path(directory))
    return [*found, measure_mining(), measure_syncing()]


def main(arguments: list[str]) -> None:
    """Measure; or, given ports and a cookie's file, be the clients."""
    if not arguments:
        print(json.dumps(run(), indent=2))
        return
    *ports, cookie_file = arguments
    cookie = Path(cookie_file).read_bytes()
    found: Found | list[float]
    if len(ports) == 1:
        found = trio.run(ask_at_pace, int(ports[0]), cookie)
    else:
        found = trio.run(clients, int(ports[0]), int(ports[1]), cookie)
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main(sys.argv[1:])
