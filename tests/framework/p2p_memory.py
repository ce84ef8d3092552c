"""Many in-memory transports in one process, under Trio's virtual clock, from a seed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio

from tests.framework.async_tests import reseed_scheduler
from tests.framework.simulation.link_model import LinkModel
from tests.framework.simulation.memory_network import MemoryNetwork, MemoryTransport
from unchained.node.transport.contract import (
    Event,
    PeerId,
    ServeLimits,
    TopicLimits,
    Verdict,
)

TOPIC = "/t/coin/1"
ECHO = "/t/echo/1"


@dataclass
class Node:
    """A transport, and what it saw."""

    transport: MemoryTransport
    events: list[Event] = field(default_factory=list)
    heard: dict[bytes, tuple[float, PeerId]] = field(default_factory=dict)
    validated: list[bytes] = field(default_factory=list)
    verdicts: dict[bytes, Verdict] = field(default_factory=dict)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    validation_s: float = 0.0

    @property
    def id(self) -> PeerId:
        return self.transport.id

    async def validate(self, peer: PeerId, data: bytes) -> Verdict:
        self.validated.append(data)
        await trio.sleep(self.validation_s)
        self.heard.setdefault(data, (trio.current_time(), peer))
        return self.verdicts.get(data, Verdict.ACCEPT)

    def seen(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Cluster:
    """A network with nodes in it."""

    def __init__(self, seed: int, model: LinkModel | None = None) -> None:
        self.network = MemoryNetwork(seed, model)
        self.rng = random.Random(seed)
        self._seed = seed
        self.nodes: list[Node] = []
        self._nursery: trio.Nursery | None = None

    async def add(self, name: str | None = None, limits: TopicLimits | None = None) -> Node:
        number = len(self.nodes)
        ip = f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}"
        transport = MemoryTransport(
            self.network, name or f"node {number}", ip, structlog.get_logger()
        )
        node = Node(transport)
        transport.observe(node.events.append)
        transport.subscribe(TOPIC, node.validate, limits or TopicLimits(max_size=1000))

        async def echo(peer: PeerId, payload: bytes) -> bytes:
            return payload

        transport.serve(ECHO, echo, ServeLimits(1000, 4, 16))
        self.nodes.append(node)
        await self.start(node)
        return node

    async def start(self, node: Node) -> None:
        assert self._nursery is not None
        node.scope = trio.CancelScope()

        async def body(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            with node.scope:
                await node.transport.run(task_status)

        await self._nursery.start(body)

    async def connect(self, one: Node, other: Node) -> None:
        await one.transport.connect(other.transport.address)

    async def connect_random(self, degree: int) -> None:
        """Let every node dial the node before it, and others at random."""
        for number, node in enumerate(self.nodes[1:], 1):
            await self.connect(node, self.nodes[number - 1])
            for other in self.rng.sample(self.nodes, degree - 1):
                if other is not node:
                    await self.connect(node, other)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Cluster]:
        reseed_scheduler(self._seed)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.network.run)
            yield self
            nursery.cancel_scope.cancel()
