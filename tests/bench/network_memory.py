"""Resident memory in MB of nodes with four peers and no mining workers, after a little traffic.

The reference is a node that has no network: the rest is libp2p and the peers.
"""

from __future__ import annotations

import psutil

from tests.bench._network import five_nodes
from tests.bench._result import result

GOAL_MB = 160.0
ANCHORS = 20
COINS = 8


def run() -> list[dict[str, object]]:
    """Measure five nodes of a network, and one that has none."""
    with five_nodes() as (net, nodes):
        nodes[0].generate(ANCHORS, COINS)
        net.agree()
        resident = [node.resident_mb() for node in nodes]
        alone = net.home.start("--network", "reg", "--no-mine", name="alone")
        alone.wait_event("node.started")
        reference = psutil.Process(alone.pid).memory_info().rss / 1e6
    return [
        result(
            "network_memory",
            "MB",
            resident,
            reference="a node without a network",
            reference_values=[reference],
            goal=GOAL_MB,
            at_least=False,
        )
    ]
