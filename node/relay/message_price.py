"""What a message costs who sent it, by whatever way it came: gossip, or a stem (Protocol §11)."""

from __future__ import annotations

from typing import Final

from unchained.node.consensus.policy import PolicyError
from unchained.node.primitives.errors import ProtocolError

CHEAP_PRICE_MS: Final = 0.1
"""Price of a message that is validated without a proof or a signature."""
SIGNATURE_PRICE_MS: Final = 0.5
DECODING_PRICE_MS_PER_KIB: Final = 0.03
"""Price of a message's length: a transfer of 256 KiB takes some 7 ms to decode and check."""


def message_price_ms(length: int, error: ProtocolError | PolicyError | None = None) -> float:
    """Return the price of a message of so many bytes that was of no use, in ms of verification:
    one that broke a rule, or that was known or could not be looked at yet."""
    looked_at = SIGNATURE_PRICE_MS if isinstance(error, PolicyError) else CHEAP_PRICE_MS
    return looked_at + DECODING_PRICE_MS_PER_KIB * length / 1024
