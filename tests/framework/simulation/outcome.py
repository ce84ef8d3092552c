"""What a simulation came to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tests.framework.simulation.event_log import LoggedEvent
from tests.framework.simulation.scenario import Scenario
from tests.framework.simulation.schedule import Schedule
from tests.framework.simulation.sightings import Sightings
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId


class Outcome(msgspec.Struct, frozen=True):
    """What a simulation came to. `failure` is one line, empty if all held; `seconds` are virtual,
    `cpu_s` the processor's. `hash` is of everything that happened. `nodes`: names, and whether
    they are hostile."""

    scenario: Scenario
    seed: int
    schedule: Schedule
    failure: str
    trace: str
    hash: str
    start_ms: int
    nodes: Sequence[tuple[str, bool]]
    seconds: float
    cpu_s: float
    height: int
    sightings: Sightings
    events: Sequence[LoggedEvent]
    coins: dict[CoinId, Coin]
    bodies: dict[CoinId, Body]
