"""What has happened in simulations, counted: a fault that never happens proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

FAULTS = frozenset(
    {
        "partition", "one-way partition", "isolation", "flapping link", "clogged link", "slow link",
        "replayed messages",
        "crash", "crash at a write", "power cut", "power cut at a write", "crash at a start",
        "power cut at a start", "service cancelled",
        "crash at a write-back", "power cut at a write-back", "crash at a key file",
        "power cut at a key file", "wallet bit flip", "wallet page lost",
        "unsynced writes lost", "disk full", "write fails", "slow disk", "bit flip",
        "unreadable file", "clock step", "clock drift", "small queues",
        "balancing node", "equivocating node", "flooding node", "forging node", "replaying node",
        "selfish node", "spamming node", "stalling node", "thieving node", "time games node",
        "withholding node",
    }
)  # fmt: skip
"""Kinds of fault, each of which must have happened in some simulation of the fixed set: drawn and
struck in vain it has not."""

STATES = frozenset(
    {
        "reorganisation", "reorganisation of 8 or more", "reorganisation deeper than 32",
        "late vote changes the tip", "message came once more", "vote for a dead anchor",
        "tree deepened", "peer evicted", "crash during compaction",
        "late coin included", "stray included", "anchor ruled out", "peer banned",
        "coin held for its parent", "coin too new held", "transfer back in the mempool",
        "payment mined", "service restarted",
        "node stopped by its store", "disk replaced", "node behind", "clock behind the tip",
        "synced from nothing", "reorganisation refused", "operator began anew", "relay lagging",
        "changes lost by a slow reader", "payment in conflict", "payment on the chain in the end",
        "wallet's log torn", "wallet half written back", "wallet found damaged", "wallet read anew",
    }
)  # fmt: skip
"""States of interest, each of which some simulation of the fixed set must reach."""


class Sightings:
    """Counts by name."""

    def __init__(self, counts: Iterable[tuple[str, int]] = ()) -> None:
        self.counts: Counter[str] = Counter(dict(counts))

    def note(self, name: str, times: int = 1) -> None:
        """Count a thing that happened."""
        self.counts[name] += times

    def add(self, other: Sightings) -> None:
        """Count what another simulation has seen."""
        self.counts.update(other.counts)

    def never(self, wanted: Iterable[str]) -> list[str]:
        """Return which of the names have never happened."""
        return sorted(name for name in wanted if not self.counts[name])
