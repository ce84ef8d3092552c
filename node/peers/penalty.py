"""What a peer's wrong costs it: the kinds of penalty, and the table for the transport's reports.

The table for protocol errors, which only the chain can raise, is `relay.penalty_table`; both
speak in `Penalty`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from unchained.node.transport.contract import Misbehaviour, PeerId


class Penalty(enum.Enum):
    """What happens to the peer that sent something."""

    NONE = "none"
    """Nobody's fault."""
    COST = "cost"
    """The milliseconds of verification that it cost are added to the peer's debt."""
    FAULT = "fault"
    """No honest node does this: `FAULT_MS` are added to the debt, whatever it cost."""
    BAN = "ban"
    """Disconnected and banned at once."""


class Penalizer(Protocol):
    """Lets a peer feel what it did: `Reputation`."""

    def penalize(self, peer: PeerId, penalty: Penalty, why: str, *, ms: float = 0.0) -> None:
        """Apply a penalty; `ms` of verification is what a `COST` adds to the peer's debt."""


FAULT_MS: Final = 250.0
"""A fault's price, in ms of verification."""

# Protocol §11: penalties by what the transport saw
MISBEHAVIOURS: Final[Mapping[Misbehaviour, Penalty]] = MappingProxyType(
    {
        # The validator that rejected it has named the penalty itself.
        Misbehaviour.REJECTED_GOSSIP: Penalty.NONE,
        Misbehaviour.OVERSIZED_GOSSIP: Penalty.BAN,
        Misbehaviour.UNKNOWN_TOPIC: Penalty.FAULT,
        Misbehaviour.BAD_GOSSIP: Penalty.BAN,
        Misbehaviour.WASTED_GOSSIP: Penalty.FAULT,
        Misbehaviour.OVERSIZED_REQUEST: Penalty.BAN,
        Misbehaviour.BAD_REQUEST: Penalty.FAULT,
        Misbehaviour.BAD_RESPONSE: Penalty.FAULT,
        Misbehaviour.OVERSIZED_FRAME: Penalty.BAN,
        Misbehaviour.WINDOW_OVERRUN: Penalty.BAN,
        Misbehaviour.STREAM_FLOOD: Penalty.FAULT,
        # A scanner, or a bad line: its connection is gone, and its address is limited.
        Misbehaviour.HANDSHAKE_FAILED: Penalty.NONE,
    }
)
