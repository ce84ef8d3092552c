"""How a link of the in-memory network behaves, and who its nodes are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from unchained.node.transport.contract import PeerId

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class LinkModel:
    """How a link between two nodes behaves, each way."""

    latency: float = 0.05
    """One way, in seconds."""
    jitter: float = 0.0
    """Up to so many seconds more, for each frame."""
    bandwidth: float = 12.5e6
    """Bytes per second."""
    loss: float = 0.0
    """Probability that a frame must be sent again, which costs `resend_after`."""
    resend_after: float = 0.25
    reorder: float = 0.0
    """Probability that later frames may overtake a frame, which takes up to `reorder_by` more."""
    reorder_by: float = 0.2
    gossip_loss: float = 0.0
    """Probability that a gossip frame vanishes, as at a full queue."""
    replay: float = 0.0
    """Probability that a gossip frame's messages come once more, up to `replay_after` later."""
    replay_after: float = 300.0


def memory_peer_id(name: str) -> PeerId:
    """Return an id that looks like a real one, from a name."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    digits = []
    for _ in range(44):
        number, digit = divmod(number, 58)
        digits.append(_BASE58[digit])
    return PeerId("12D3KooW" + "".join(digits))
