"""Hostile nodes: each policy is a class in a module of its own name."""

from __future__ import annotations

from typing import Final

from tests.framework.simulation.policies.balancing import Balancing
from tests.framework.simulation.policies.equivocating import Equivocating
from tests.framework.simulation.policies.flooding import Flooding
from tests.framework.simulation.policies.forging import Forging
from tests.framework.simulation.policies.policy import Policy
from tests.framework.simulation.policies.replaying import Replaying
from tests.framework.simulation.policies.selfish import Selfish
from tests.framework.simulation.policies.spamming import Spamming
from tests.framework.simulation.policies.stalling import Stalling
from tests.framework.simulation.policies.thieving import Thieving
from tests.framework.simulation.policies.time_games import TimeGames
from tests.framework.simulation.policies.withholding import Withholding

POLICIES: Final[dict[str, type[Policy]]] = {
    "balancing": Balancing,
    "equivocating": Equivocating,
    "flooding": Flooding,
    "forging": Forging,
    "replaying": Replaying,
    "selfish": Selfish,
    "spamming": Spamming,
    "stalling": Stalling,
    "thieving": Thieving,
    "time games": TimeGames,
    "withholding": Withholding,
}
