"""One table: how large, how many, how often, for everything that goes between peers.

Sizes in bytes. A request's rate is a bucket of `burst` requests that refills by `per_second`, for
each peer. `timeout_s` is how long the asking peer waits for the whole answer.
"""

from __future__ import annotations

from typing import Final

import msgspec

MAX_LOCATOR: Final = 64
"""Ids in a locator: enough for 2**50 anchors."""

MAX_ADDRESS: Final = 256
"""Bytes of one address."""

_COIN: Final = 198
_ID: Final = 34
"""An id with its MessagePack head."""


class MessageLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one kind of request and of its answer."""

    name: str
    max_request: int
    max_answer: int
    max_items: int
    """Items in an answer."""
    max_asked: int = 0
    """Items in a request, where they are not those of the answer."""
    per_second: float
    burst: float
    timeout_s: float
    max_per_peer: int
    """Requests of one peer being answered at a time."""
    max_total: int
    """Requests of all peers being answered at a time."""


class GossipLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one gossip topic."""

    name: str
    max_size: int
    max_validating: int
    max_per_peer: int
    """Messages of one peer in validation at a time."""


STATUS: Final = MessageLimits(
    name="status",
    max_request=256,
    max_answer=256,
    max_items=1,
    per_second=2,
    burst=10,
    timeout_s=10,
    max_per_peer=2,
    max_total=64,
)
HEADERS: Final = MessageLimits(
    name="headers",
    max_request=64 + _ID * (MAX_LOCATOR + 1),
    max_answer=8 + 512 * 400,
    max_items=512,
    per_second=10,
    burst=40,
    timeout_s=15,
    max_per_peer=4,
    max_total=32,
)
BODIES: Final = MessageLimits(
    name="bodies",
    max_request=8 + _ID * 64,
    max_answer=4 << 20,
    max_items=64,
    per_second=40,
    burst=160,
    timeout_s=20,
    max_per_peer=8,
    max_total=32,
)
COINS: Final = MessageLimits(
    name="coins",
    max_request=8 + _ID * 2048,
    max_answer=8 + 2048 * (_COIN + 2),
    max_items=2048,
    per_second=40,
    burst=160,
    timeout_s=20,
    max_per_peer=8,
    max_total=32,
)
TRANSFERS: Final = MessageLimits(
    name="transfers",
    max_request=8 + _ID * 256,
    max_answer=4 << 20,
    max_items=256,
    per_second=20,
    burst=80,
    timeout_s=20,
    max_per_peer=4,
    max_total=16,
)
VOTES: Final = MessageLimits(
    name="votes",
    max_request=64 + _ID * 256,
    # Each coin, and its place where it counts as an anchor.
    max_answer=16 + 1024 * (_COIN + 2 + 3),
    max_items=1024,
    max_asked=256,
    per_second=5,
    burst=40,
    timeout_s=15,
    max_per_peer=2,
    max_total=16,
)
ADDRESSES: Final = MessageLimits(
    name="addresses",
    max_request=16,
    max_answer=8 + 256 * (MAX_ADDRESS + 3),
    max_items=256,
    per_second=1 / 60,
    burst=3,
    timeout_s=10,
    max_per_peer=1,
    max_total=8,
)
STEM: Final = MessageLimits(
    name="stem",
    max_request=8 + (256 << 10),
    max_answer=8,
    max_items=0,
    max_asked=1,
    per_second=2,
    burst=40,
    timeout_s=10,
    max_per_peer=4,
    max_total=32,
)

EXCHANGES: Final = (STATUS, HEADERS, BODIES, COINS, TRANSFERS, VOTES, ADDRESSES, STEM)
"""All requests."""

COIN_GOSSIP: Final = GossipLimits(name="coin", max_size=_COIN, max_validating=64, max_per_peer=2)
"""Protocol §11: at most two unproven coins per peer are in verification at a time."""

ANCHOR_GOSSIP: Final = GossipLimits(name="anchor", max_size=400, max_validating=64, max_per_peer=2)
TRANSFER_GOSSIP: Final = GossipLimits(
    name="transfer", max_size=256 << 10, max_validating=64, max_per_peer=16
)

TOPICS: Final = (COIN_GOSSIP, ANCHOR_GOSSIP, TRANSFER_GOSSIP)
"""All gossip."""


def name_of(genesis_id: bytes, kind: str) -> str:
    """Return a request's protocol id, or a topic (Protocol §11)."""
    return f"/unchained/{genesis_id[:4].hex()}/{kind}/1"
