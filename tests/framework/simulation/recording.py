"""The file of one simulation: what it takes to run it again, and what happened, to be looked at.

JSON, described in docs/simulation.md. The explorer's page plays it.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from tests.framework.simulation.event_log import plain
from tests.framework.simulation.faults import FAULT_KINDS, plain_record
from tests.framework.simulation.hostile_node import hostile_kind
from tests.framework.simulation.outcome import Outcome
from tests.framework.simulation.policies import POLICIES
from tests.framework.simulation.scenario import SIMULATED_NETWORKS, Scenario
from tests.framework.simulation.schedule import Fault
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.consensus.genesis import genesis_of

FORMAT: Final = "unchained-simulation"
VERSION: Final = 2
"""2: hostile nodes stand in the schedule. In 1 they were there from the beginning to the end."""
RECORDING_BYTES_MAX: Final = 256 << 20
"""Bytes of a file that is looked at."""


class RecordedSettings(msgspec.Struct, frozen=True):
    """A `Scenario`, its network by name."""

    name: str
    network: str
    nodes: int
    miners: int
    wallets: int
    payments_per_epoch: float
    epochs: int
    faults: tuple[str, ...]
    longest_partition: float
    compares_with_model: bool
    inbound: int = 32
    hostile_chance: float = 0.0
    fault_rate: float = 1.0


class _FirstSettings(msgspec.Struct, frozen=True):
    """What version 1 said of hostile nodes: their policies, and the share of each."""

    hostile: tuple[str, ...]
    hostile_share: float


class _FirstRecording(msgspec.Struct, frozen=True):
    settings: _FirstSettings


class RecordedNode(msgspec.Struct, frozen=True):
    name: str
    is_hostile: bool = False


class RecordedNetwork(msgspec.Struct, frozen=True):
    """What of the network's parameters a picture needs. Times in ms."""

    name: str
    genesis: str
    birth_ms: int
    epoch_ms: int
    coins_per_epoch: int
    window: int
    max_reorg: int


class RecordedCoin(msgspec.Struct, frozen=True):
    """A coin: its id, its parent's, height, `time` in ms since the Unix epoch, `target` in
    hexadecimal, and whether it is of anchor grade."""

    id: str
    parent: str
    height: int
    time: int
    target: str
    is_anchor: bool


class RecordedBody(msgspec.Struct, frozen=True):
    """An anchor's body: the ids of what it lists."""

    anchor: str
    fresh: list[str]
    uncles: list[str]
    transfers: list[str]


class RecordedEvent(msgspec.Struct, frozen=True):
    """`at_ms` of virtual time; `node` is a name, empty for what befalls the network."""

    at_ms: int
    node: str
    kind: str
    data: dict[str, Any]


class Recording(msgspec.Struct, frozen=True):
    """All of a file. `start_ms` is what right clocks showed when virtual time was 0."""

    format: str
    version: Annotated[int, msgspec.Meta(ge=1, le=VERSION)]
    settings: RecordedSettings
    seed: int
    schedule: tuple[Fault, ...]
    failure: str
    hash: str
    start_ms: int
    network: RecordedNetwork
    nodes: list[RecordedNode]
    coins: list[RecordedCoin]
    bodies: list[RecordedBody]
    events: list[RecordedEvent]

    def scenario(self) -> Scenario:
        """Return what was simulated, whatever has become of the scenario of that name."""
        fields = msgspec.structs.asdict(self.settings)
        return Scenario(**{**fields, "network": SIMULATED_NETWORKS[self.settings.network]})


class RecordingError(Exception):
    """A file is no recording that this version can read."""


def record(outcome: Outcome) -> Recording:
    """Return the recording of an outcome."""
    network = outcome.scenario.network
    fields = msgspec.structs.asdict(outcome.scenario)
    fields["network"] = next(name for name, known in SIMULATED_NETWORKS.items() if known == network)
    coins = sorted(outcome.coins.values(), key=lambda coin: (coin.height, coin.id))
    return Recording(
        FORMAT,
        VERSION,
        msgspec.convert(fields, RecordedSettings),
        outcome.seed,
        outcome.schedule,
        outcome.failure,
        outcome.hash,
        outcome.start_ms,
        RecordedNetwork(
            network.name,
            genesis_of(network).id.hex(),
            network.birth_ms,
            network.epoch_ms,
            network.coins_per_epoch,
            network.window,
            network.max_reorg,
        ),
        [RecordedNode(name, is_hostile) for name, is_hostile in outcome.nodes],
        [
            RecordedCoin(
                coin.id.hex(),
                coin.parent.hex(),
                coin.height,
                coin.header.time,
                f"{coin.header.target:064x}",
                is_anchor_grade(coin, network),
            )
            for coin in coins
        ],
        [
            RecordedBody(
                anchor_id.hex(),
                [fresh.hex() for fresh in body.fresh],
                [uncle.hex() for uncle in body.uncles],
                [wid.hex() for wid in body.transfers],
            )
            for anchor_id, body in sorted(outcome.bodies.items())
        ],
        [
            RecordedEvent(
                event.at_ms,
                event.node,
                event.kind,
                {
                    name: plain(value) if isinstance(value, bytes) else value
                    for name, value in event.data.items()
                },
            )
            for event in outcome.events
        ],
    )


def save(recording: Recording, path: Path) -> None:
    """Write a recording. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(recording), indent=0))


def _from_first(recording: Recording, first: _FirstRecording) -> Recording:
    """Return a recording of version 1 as one of this version."""
    said = first.settings
    parameters = {
        "share_percent": round(100 * said.hostile_share),
        "ms": round(1000 * recording.scenario().seconds),
    }
    nodes = (Fault(0, hostile_kind(policy), parameters) for policy in said.hostile)
    return msgspec.structs.replace(
        recording, version=VERSION, schedule=(*nodes, *recording.schedule)
    )


def load(path: Path) -> Recording:
    """Read a recording. Raises OSError, `RecordingError`."""
    if path.stat().st_size > RECORDING_BYTES_MAX:
        raise RecordingError(
            f"{path}: {path.stat().st_size} bytes, expected {RECORDING_BYTES_MAX} at most"
        )
    try:
        raw = path.read_bytes()
        recording = msgspec.json.decode(raw, type=Recording)
        first = msgspec.json.decode(raw, type=_FirstRecording) if recording.version == 1 else None
    except msgspec.MsgspecError as error:
        raise RecordingError(f"{path}: no recording of version {VERSION}: {error}") from None
    if recording.format != FORMAT:
        raise RecordingError(f"{path}: format {recording.format!r}, expected {FORMAT!r}")
    settings = recording.settings
    policies = () if first is None else first.settings.hostile
    for what, names, known in (
        ("network", (settings.network,), SIMULATED_NETWORKS),
        ("fault", (*settings.faults, *(fault.kind for fault in recording.schedule)), FAULT_KINDS),
        ("policy", policies, POLICIES),
    ):
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise RecordingError(
                f"{path}: {what} {unknown[0]!r}, expected one of {', '.join(known)}"
            )
    if settings.nodes < 1:
        raise RecordingError(f"{path}: {settings.nodes} nodes, expected 1 at least")
    for fault in recording.schedule:
        _check_fault(path, recording, fault)
    return recording if first is None else _from_first(recording, first)


def _check_fault(path: Path, recording: Recording, fault: Fault) -> None:
    """Raise `RecordingError` unless a fault has the parameters of its kind, and befalls nodes that
    there are."""
    drawn = FAULT_KINDS[fault.kind].draw(random.Random(0), recording.scenario())
    given = fault.parameters
    if {name: type(value) for name, value in given.items()} != {
        name: type(value) for name, value in plain_record(drawn).items()
    }:
        raise RecordingError(
            f"{path}: parameters {given} of a {fault.kind}, expected {', '.join(drawn) or 'none'}"
        )
    for name in ("node", "pair", "group"):
        numbers = given.get(name, [])
        for number in numbers if isinstance(numbers, list) else [numbers]:
            if number not in range(recording.settings.nodes):
                raise RecordingError(
                    f"{path}: node {number} of a {fault.kind}, of {recording.settings.nodes} nodes"
                )
