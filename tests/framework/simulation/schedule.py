"""Which faults befall a simulation and when: plain data, drawn from a seed before it begins.

Each kind of fault has a rate of its own, which the seed switches off in half of all simulations, so
that rare faults are not always drowned by frequent ones (swarm testing). So are hostile nodes: each
policy takes part or does not. A schedule can be cut down, written to a file and read again: each
fault stands for itself.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import msgspec

from tests.framework.simulation.faults import FAULT_KINDS
from tests.framework.simulation.hostile_node import HOSTILE_KINDS
from tests.framework.simulation.scenario import Scenario


class Fault(msgspec.Struct, frozen=True):
    """One fault: `at_ms` after the network has come together. `parameters` as its kind draws."""

    at_ms: int
    kind: str
    parameters: dict[str, Any]


Schedule = tuple[Fault, ...]
"""Faults in order of time."""

FAULTS_PER_EPOCH = (0.02, 0.25)
"""Least and most mean number of faults of one kind that is switched on."""


def draw_schedule(
    scenario: Scenario, seed: int, rates: Mapping[str, float] | None = None
) -> Schedule:
    """Return the faults of a seed; `rates` fixes some kinds' faults per epoch. Of hostile nodes
    there is one of a kind at most."""
    faults: list[Fault] = []
    for kind in scenario.faults:
        # Of its own for each kind, so that another list of kinds leaves the rest as it was.
        rng = random.Random(f"{seed} {scenario.name} {kind}")
        least, most = FAULTS_PER_EPOCH
        on = rng.random() < 0.5
        rate = math.exp(rng.uniform(math.log(least), math.log(most))) if on else 0.0
        rate = rate * scenario.fault_rate if rates is None else rates.get(kind, rate)
        at = 0.0
        while rate:
            at += rng.expovariate(rate) * scenario.epoch_s
            if at > scenario.seconds:
                break
            parameters = FAULT_KINDS[kind].draw(rng, scenario)
            faults.append(Fault(int(at * 1000), kind, parameters))
    for kind in HOSTILE_KINDS:
        rng = random.Random(f"{seed} {scenario.name} {kind}")
        if rng.random() < scenario.hostile_chance:
            at = rng.uniform(0.0, 0.5) * scenario.seconds
            faults.append(Fault(int(at * 1000), kind, FAULT_KINDS[kind].draw(rng, scenario)))
    return tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.kind)))
