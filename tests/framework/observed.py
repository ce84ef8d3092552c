"""The statistics of a node in virtual time, as its pages would show them."""

from __future__ import annotations

from pathlib import Path

from tests.framework.simulation.simnet import SimNode
from unchained.node.observe.node_observer import NodeObserver


def observer_of(node: SimNode, data_dir: Path | None = None) -> NodeObserver:
    """Return what asks a node of a simulated network for its counters."""
    return NodeObserver(
        chain=node.chain,
        clock=node.chain._clock,
        data_dir=data_dir,
        network=node.network,
    )
