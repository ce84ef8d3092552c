"""A hostile node as a kind of fault: a policy that comes at a time, with a share of all coins."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.framework.simulation.policies import POLICIES
from tests.framework.simulation.policies.policy import Policy

if TYPE_CHECKING:
    from tests.framework.simulation.scenario import Scenario
    from tests.framework.simulation.simulation import Simulation

SHARES_PERCENT: Final = (5, 10, 20, 40)
"""What a hostile node finds for each hundred coins that the others find together."""


class HostileNode:
    """A node of a policy joins the network, acts for a while, and is silent from then on."""

    def __init__(self, policy: str) -> None:
        self._policy = policy

    def draw(self, rng: random.Random, scenario: Scenario) -> dict[str, Any]:
        epochs = rng.uniform(0.3, 1.0) * scenario.epochs
        return {
            "share_percent": rng.choice(SHARES_PERCENT),
            "ms": int(epochs * scenario.network.epoch_ms),
        }

    def node(self, simulation: Simulation, drawn: dict[str, Any]) -> Policy:
        """Return the node, which does nothing yet."""
        # One name and address for each policy, whoever else takes part.
        ip = f"66.{6 + sorted(POLICIES).index(self._policy)}.0.6"
        share = drawn["share_percent"] / 100
        return POLICIES[self._policy](simulation, self._policy, ip, share)

    async def strike(
        self, simulation: Simulation, drawn: dict[str, Any], note: Callable[[], None]
    ) -> None:
        with trio.move_on_after(drawn["ms"] / 1000):
            await simulation.hostile[hostile_kind(self._policy)].run(note)


def hostile_kind(policy: str) -> str:
    """Return the kind of fault that a node of a policy is."""
    return f"{policy} node"


HOSTILE_KINDS: Final = {hostile_kind(policy): HostileNode(policy) for policy in POLICIES}
