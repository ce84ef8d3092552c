"""A node's transport in a process of its own, which is sent commands line by line on its stdin.

Run as ``python -m tests.framework.p2p_node SEED_BYTE [--any] LISTEN...``. Each line is a JSON
array, a command and its arguments; each line of output is a JSON value: the answer, or an event.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import structlog
import trio

from unchained.node.transport.contract import (
    Misbehaved,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    ServeLimits,
    TopicLimits,
    TransportError,
    Verdict,
)
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport
from unchained.node.transport.libp2p.upgrader import SecurityPolicy

TOPIC = "/t/coin/1"
ECHO = "/t/echo/1"
LARGE = "/t/large/1"
STALL = "/t/stall/1"
FAIL = "/t/fail/1"
MAX_ECHO = 1 << 20


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


class Node:
    def __init__(self, seed: int, listen: list[str], security: SecurityPolicy) -> None:
        structlog.configure(
            processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
        self.stalled = 0
        self.heard: list[str] = []
        identity = Identity.from_seed(bytes([seed]) * 32)
        self.transport = Libp2pTransport(
            HostConfig(listen=tuple(listen), security=security), identity, structlog.get_logger()
        )
        self.transport.observe(self.event)
        self.transport.subscribe(TOPIC, self.validate, TopicLimits(max_size=300_000))
        limits = ServeLimits(MAX_ECHO, 2, 8)
        self.transport.serve(ECHO, self.echo, limits)
        self.transport.serve(LARGE, self.large, limits)
        self.transport.serve(STALL, self.stall, limits)
        self.transport.serve(FAIL, self.fail, limits)

    def event(self, event: object) -> None:
        if isinstance(event, PeerConnected):
            info = event.info
            say(["connected", info.peer, info.ip, info.direction.value, str(info.security)])
        elif isinstance(event, PeerDisconnected):
            say(["disconnected", event.info.peer, event.reason.value])
        elif isinstance(event, Misbehaved):
            say(["misbehaved", event.ip, event.peer, event.kind.value, event.detail])

    async def validate(self, peer: PeerId, data: bytes) -> Verdict:
        self.heard.append(data.hex() if len(data) < 100 else str(len(data)))
        if data.startswith(b"raise"):
            raise KeyError("a fault of the validator")
        return Verdict.REJECT if data.startswith(b"reject") else Verdict.ACCEPT

    async def echo(self, peer: PeerId, payload: bytes) -> bytes:
        return payload

    async def large(self, peer: PeerId, payload: bytes) -> bytes:
        return bytes(int(payload))

    async def stall(self, peer: PeerId, payload: bytes) -> bytes:
        self.stalled += 1
        try:
            await trio.sleep_forever()
        finally:
            self.stalled -= 1
        raise AssertionError

    async def fail(self, peer: PeerId, payload: bytes) -> bytes:
        raise KeyError("a fault of the handler")

    async def do(self, command: str, *args: Any) -> Any:
        transport = self.transport
        if command == "connect":
            return await transport.connect(args[0], timeout=args[1])
        if command == "disconnect":
            return await transport.disconnect(PeerId(args[0]))
        if command == "request":
            peer, protocol, payload, most, timeout = args
            response = await transport.request(
                PeerId(peer), protocol, payload.encode(), max_response=most, timeout=timeout
            )
            return response.decode() if len(response) < 100 else len(response)
        if command == "publish":
            data = args[0].encode()
            await self.transport.publish(TOPIC, data)
            return None
        if command == "publish many":
            count, size, first = args
            for number in range(count):
                data = (first + number).to_bytes(8, "big") * (size // 8)
                await self.transport.publish(TOPIC, data)
            return None
        if command == "gate":
            refused = set(args)
            transport.set_gate(lambda ip, peer, direction: not {ip, peer} & refused)
            return None
        if command == "state":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            statistics = transport.statistics()
            return {
                "peers": [info.peer for info in transport.peers()],
                "heard": self.heard,
                "stalled": self.stalled,
                "mesh": list(transport._switchboard.router.mesh(TOPIC)),
                "rss": resident(),
                "cpu": usage.ru_utime + usage.ru_stime,
                "statistics": {
                    name: getattr(statistics, name) for name in type(statistics).__struct_fields__
                },
            }
        raise ValueError(command)

    async def main(self) -> None:
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(self.transport.run)
            except TransportError as error:
                say(["failed", type(error).__name__, str(error)])
                return
            say(["listening", list(self.transport.addresses())])
            async with trio.lowlevel.FdStream(0) as stdin:
                rest = b""
                async for chunk in stdin:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        nursery.start_soon(self.answer, json.loads(line))
            nursery.cancel_scope.cancel()

    async def answer(self, command: list[Any]) -> None:
        number, name, *args = command
        try:
            say([number, "ok", await self.do(name, *args)])
        except TransportError as error:
            say([number, type(error).__name__, str(error)])


if __name__ == "__main__":
    listen = [place for place in sys.argv[2:] if place != "--any"]
    security: SecurityPolicy = "any" if "--any" in sys.argv else "hybrid"
    trio.run(Node(int(sys.argv[1]), listen, security).main)
