"""What the process around a node counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unchained.node.base.counted import Counted, Counts
from unchained.node.base.logs import LogStatistics
from unchained.node.base.loop_monitor import LoopMonitor
from unchained.node.base.services import SupervisorStatistics


@dataclass(frozen=True, slots=True)
class ProcessParts:
    """The parts of the process that are not the node's own."""

    services: Counts[SupervisorStatistics]
    loop: LoopMonitor
    log: Counts[LogStatistics]

    def by_name(self) -> Mapping[str, Counted]:
        """Return them by name."""
        return {"services": self.services, "loop": self.loop, "log": self.log}
