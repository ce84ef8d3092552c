"""What can befall a simulated network, by kind: how its particulars are drawn, and what it does.

A fault lasts as long as its `strike` runs, and is taken back when that ends or is cancelled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import trio

from tests.framework.simulation.faulty_disk import full
from tests.framework.simulation.hostile_node import HOSTILE_KINDS
from tests.framework.simulation.link_model import LinkModel, memory_peer_id
from tests.framework.simulation.wallet_faults import WALLET_KINDS
from unchained.storage.errors import StoreError, StoreUnreadableError

if TYPE_CHECKING:
    from tests.framework.simulation.scenario import Scenario
    from tests.framework.simulation.simulated_node import SimulatedNode
    from tests.framework.simulation.simulation import Simulation

Parameters = dict[str, Any]
Note = Callable[[], None]

START_STEPS: Final = 24
"""Checkpoints that a node's start takes, about."""

SERVICES: Final = (
    "miner", "epochs", "harvest", "network", "wallets", "chain", "network.transport",
    "network.peers", "network.relay", "network.stem", "network.sync",
)  # fmt: skip
"""Services that a fault cancels, and the parts of the network. The first three are restarted, the
others stop their node."""


class FaultKind(Protocol):
    """One kind of fault."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        """Return its particulars: what JSON can hold. Nodes go by their number, times in ms."""

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        """Let it happen; `note` is called once or more if it has: a link that nobody uses is cut
        in vain."""


def _some_ms(rng: random.Random, scenario: Scenario, least: float, most: float) -> int:
    """Return a time between so many epochs, ms."""
    return int(rng.uniform(least, most) * scenario.network.epoch_ms)


def _anyone(rng: random.Random, scenario: Scenario) -> int:
    return rng.randrange(scenario.nodes)


def _pair(rng: random.Random, scenario: Scenario) -> list[int]:
    return rng.sample(range(scenario.nodes), 2)


@contextmanager
def _blocked(simulation: Simulation, pairs: list[tuple[int, int]], note: Note) -> Iterator[None]:
    """Let nothing pass from the one to the other of each pair of nodes meanwhile; `note` it if
    something would have."""
    ids = [memory_peer_id(node.name) for node in simulation.nodes]
    directed = [(ids[one], ids[other]) for one, other in pairs]
    weather = simulation.net.weather
    before = sum(weather.held_back[pair] for pair in directed)
    weather.block(directed)
    try:
        yield
    finally:
        weather.unblock(directed)
        if sum(weather.held_back[pair] for pair in directed) > before:
            note()


class Partition:
    """Two groups hear nothing of each other; hostile nodes hear all."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        size = rng.randint(1, max(1, scenario.nodes // 2))
        group = sorted(rng.sample(range(scenario.nodes), size))
        return {"group": group, "ms": _some_ms(rng, scenario, 0.5, scenario.longest_partition)}

    def pairs(self, simulation: Simulation, drawn: Parameters) -> list[tuple[int, int]]:
        inside = drawn["group"]
        outside = [n for n in range(len(simulation.nodes)) if n not in inside]
        return [pair for one in inside for two in outside for pair in ((one, two), (two, one))]

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        with _blocked(simulation, self.pairs(simulation, drawn), note):
            await trio.sleep(drawn["ms"] / 1000)


class OneWayPartition(Partition):
    """A group hears the others, and is not heard."""

    def pairs(self, simulation: Simulation, drawn: Parameters) -> list[tuple[int, int]]:
        inside = drawn["group"]
        outside = [n for n in range(len(simulation.nodes)) if n not in inside]
        return [(one, other) for one in inside for other in outside]


class Isolation(Partition):
    """One node hears nobody."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {"group": [_anyone(rng, scenario)], "ms": _some_ms(rng, scenario, 0.5, 10)}


class FlappingLink:
    """Two nodes are cut off from each other again and again."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        gaps = [_some_ms(rng, scenario, 0.01, 0.6) for _ in range(rng.randint(4, 20))]
        return {"pair": _pair(rng, scenario), "gaps_ms": gaps}

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        one, other = drawn["pair"]
        for at, gap_ms in enumerate(drawn["gaps_ms"]):
            cut = [(one, other), (other, one)] if at % 2 == 0 else []
            with _blocked(simulation, cut, note):
                await trio.sleep(gap_ms / 1000)


class OtherLink:
    """The link between two nodes is another one for a while."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {
            "pair": _pair(rng, scenario),
            "ms": _some_ms(rng, scenario, 0.5, 5),
            **self.particulars(rng),
        }

    def particulars(self, rng: random.Random) -> Parameters:
        raise NotImplementedError

    def changed(self, model: LinkModel, drawn: Parameters) -> dict[str, Any]:
        raise NotImplementedError

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        one, other = (memory_peer_id(simulation.nodes[number].name) for number in drawn["pair"])
        weather = simulation.net.weather
        plain = simulation.link
        changed = {name: getattr(plain, name) for name in LinkModel.__slots__}
        weather.set_link(one, other, LinkModel(**{**changed, **self.changed(plain, drawn)}))
        before = weather.bent[frozenset((one, other))]
        try:
            await trio.sleep(drawn["ms"] / 1000)
        finally:
            weather.set_link(one, other, plain)
            if weather.bent[frozenset((one, other))] > before:
                note()


class CloggedLink(OtherLink):
    """Hardly anything passes between two nodes."""

    def particulars(self, rng: random.Random) -> Parameters:
        return {"bytes_per_s": rng.choice((200, 2_000, 20_000))}

    def changed(self, model: LinkModel, drawn: Parameters) -> dict[str, Any]:
        return {"bandwidth": float(drawn["bytes_per_s"])}


class SlowLink(OtherLink):
    """What passes between two nodes takes long, gets lost, and comes in any order."""

    def particulars(self, rng: random.Random) -> Parameters:
        return {
            "latency_ms": rng.randint(200, 6_000),
            "loss_percent": rng.choice((0, 5, 30)),
            "gossip_loss_percent": rng.choice((0, 20, 60)),
        }

    def changed(self, model: LinkModel, drawn: Parameters) -> dict[str, Any]:
        return {
            "latency": drawn["latency_ms"] / 1000,
            "jitter": drawn["latency_ms"] / 1000,
            "loss": drawn["loss_percent"] / 100,
            "reorder": 0.1,
            "gossip_loss": drawn["gossip_loss_percent"] / 100,
        }


class ReplayedMessages(OtherLink):
    """What two nodes gossip to each other comes once more, some of it long after."""

    def particulars(self, rng: random.Random) -> Parameters:
        return {"percent": rng.choice((20, 100)), "after_ms": rng.choice((1_000, 60_000, 600_000))}

    def changed(self, model: LinkModel, drawn: Parameters) -> dict[str, Any]:
        return {"replay": drawn["percent"] / 100, "replay_after": drawn["after_ms"] / 1000}


class Crash:
    """A node's process is killed; what it has written stays. Its tasks are at any checkpoint."""

    silently = False

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {
            "node": _anyone(rng, scenario),
            "steps": rng.randint(0, 60),
            "down_ms": _some_ms(rng, scenario, 0.02, 3),
        }

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node = simulation.nodes[drawn["node"]]
        for _ in range(drawn["steps"]):
            await trio.lowlevel.checkpoint()
        if node.crash(drawn["down_ms"] / 1000, power_cut=self.silently):
            note()


class PowerCut(Crash):
    """A node's machine is off at once: what was not synced may be lost, and nobody is told."""

    silently = True


class CrashAtStart:
    """A node's process is killed, and so are those that are started next, each at any checkpoint of
    its start."""

    silently = False

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        steps = [rng.randint(0, START_STEPS) for _ in range(rng.randint(1, 3))]
        return {
            "node": _anyone(rng, scenario),
            "steps": steps,
            "down_ms": _some_ms(rng, scenario, 0.02, 1),
        }

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node = simulation.nodes[drawn["node"]]
        node.crash(0.0, power_cut=self.silently)
        for steps in drawn["steps"]:
            await node.begun.wait()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            if node.is_starting and node.crash(drawn["down_ms"] / 1000, power_cut=self.silently):
                note()


class PowerCutAtStart(CrashAtStart):
    """A node's machine goes off, and again while the node starts."""

    silently = True


class CrashAtWrite:
    """A node's process is killed while it writes: before a batch is there, or after."""

    power_cut = False

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {
            "node": _anyone(rng, scenario),
            "write": rng.randint(1, 40),
            "down_ms": _some_ms(rng, scenario, 0.02, 3),
        }

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node = simulation.nodes[drawn["node"]]
        kill = partial(node.die_writing, drawn["down_ms"], note, power_cut=self.power_cut)
        node.disk_under.at_write(drawn["write"], kill)
        await trio.lowlevel.checkpoint()


class PowerCutAtWrite(CrashAtWrite):
    """A node's machine is off while it writes: the batch is torn, and so not there."""

    power_cut = True


class WriteFails:
    """A write of a node fails, and so it stops; after a while its disk is well again."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {"node": _anyone(rng, scenario), "write": rng.randint(1, 40)}

    def error(self) -> StoreError:
        return StoreUnreadableError("the device failed")

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node = simulation.nodes[drawn["node"]]

        def fail() -> StoreError:
            error = self.error()
            node.expect(error)
            note()
            return error

        node.disk_under.at_write(drawn["write"], fail)
        await trio.lowlevel.checkpoint()


class DiskFull(WriteFails):
    """A node's disk has no room left."""

    def error(self) -> StoreError:
        return full()


class SlowDisk:
    """All that a node does with its disk takes its time."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {
            "node": _anyone(rng, scenario),
            "delay_ms": rng.choice((5, 50, 500)),
            "ms": _some_ms(rng, scenario, 0.5, 5),
        }

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        disk = simulation.nodes[drawn["node"]].disk_under
        before, disk.delay_s = disk.delays, drawn["delay_ms"] / 1000
        try:
            await trio.sleep(drawn["ms"] / 1000)
        finally:
            disk.delay_s = 0.0
            if disk.delays > before:
                note()


class BitFlip:
    """An entry of a node's disk has rotted: it stops when it reads it, and the disk is replaced."""

    entries = 1

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {"node": _anyone(rng, scenario), "where": rng.getrandbits(32)}

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node = simulation.nodes[drawn["node"]]
        node.disk_under.rot(random.Random(drawn["where"]), note, entries=self.entries)
        await trio.lowlevel.checkpoint()


class UnreadableFile(BitFlip):
    """A file of a node's disk cannot be read."""

    entries = 60


class ServiceCancelled:
    """A service of a node ends by itself: it is restarted, or its node stops and is started."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {"node": _anyone(rng, scenario), "service": rng.choice(SERVICES)}

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        if simulation.nodes[drawn["node"]].cancel_service(drawn["service"]):
            note()
        await trio.lowlevel.checkpoint()


class ClockStep:
    """A node's clock is set to another time, and after a while to the right one."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        by_ms = int(rng.choice((0.2, 0.9, 1.5, 20)) * scenario.network.future_limit_ms)
        return {
            "node": _anyone(rng, scenario),
            "by_ms": by_ms * rng.choice((-1, 1)),
            "ms": _some_ms(rng, scenario, 0.5, 5),
        }

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node: SimulatedNode = simulation.nodes[drawn["node"]]
        node.clock.step(drawn["by_ms"])
        if node.is_up:
            note()
        try:
            await trio.sleep(drawn["ms"] / 1000)
        finally:
            node.clock.step(-drawn["by_ms"])


class ClockDrift:
    """A node's clock goes too fast or too slow."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {
            "node": _anyone(rng, scenario),
            "per_mille": rng.choice((900, 990, 1_010, 1_100)),
            "ms": _some_ms(rng, scenario, 1, 15),
        }

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node = simulation.nodes[drawn["node"]]
        node.clock.drift(drawn["per_mille"] / 1000)
        if node.is_up:
            note()
        try:
            await trio.sleep(drawn["ms"] / 1000)
        finally:
            node.clock.correct()


class FewPlaces:
    """Queues hold next to nothing in the nodes that start from here on, until the fault ends."""

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {"most": rng.choice((1, 2, 8)), "ms": _some_ms(rng, scenario, 1, 10)}

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        before = sum(node.starts for node in simulation.nodes)
        try:
            with simulation.small_queues.of(drawn["most"]):
                await trio.sleep(drawn["ms"] / 1000)
        finally:
            if sum(node.starts for node in simulation.nodes) > before:
                note()


FAULT_KINDS: Final[dict[str, FaultKind]] = {
    "partition": Partition(),
    "one-way partition": OneWayPartition(),
    "isolation": Isolation(),
    "flapping link": FlappingLink(),
    "clogged link": CloggedLink(),
    "slow link": SlowLink(),
    "replayed messages": ReplayedMessages(),
    "crash": Crash(),
    "crash at a write": CrashAtWrite(),
    "power cut": PowerCut(),
    "power cut at a write": PowerCutAtWrite(),
    "crash at a start": CrashAtStart(),
    "power cut at a start": PowerCutAtStart(),
    "disk full": DiskFull(),
    "write fails": WriteFails(),
    "slow disk": SlowDisk(),
    "bit flip": BitFlip(),
    "unreadable file": UnreadableFile(),
    "service cancelled": ServiceCancelled(),
    "clock step": ClockStep(),
    "clock drift": ClockDrift(),
    "small queues": FewPlaces(),
    **WALLET_KINDS,
    **HOSTILE_KINDS,
}


def plain_record(parameters: Parameters) -> Parameters:
    """Return a fault's particulars as they come back from a file."""
    record: Parameters = msgspec.json.decode(msgspec.json.encode(parameters))
    return record
