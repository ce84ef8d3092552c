"""Names for the bytes and numbers of the protocol.

Byte strings that must not be mixed up are `NewType`s. Integers carry their unit in their name:
`height` counts anchors, `time` and `..._ms` are milliseconds, `value` and `fee` are grains.
"""

from __future__ import annotations

from typing import Annotated, Final, NewType

import msgspec

CoinId = NewType("CoinId", bytes)
"""32 bytes: the id of a minted coin (its proof of work), of an anchor, or of an output."""

Lock = NewType("Lock", bytes)
"""32 bytes: commitment to the condition under which a coin may be spent."""

Txid = NewType("Txid", bytes)
"""32 bytes: names a transfer without its signatures."""

Wid = NewType("Wid", bytes)
"""32 bytes: names a transfer with its signatures."""

KeyHash = NewType("KeyHash", bytes)
"""32 bytes: `H("key", public key)` of an ML-DSA-65 key."""

Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""A field of exactly 32 bytes in a MessagePack layout."""

UInt64 = Annotated[int, msgspec.Meta(ge=0)]
"""An unsigned integer of at most 64 bits in a MessagePack layout."""

ZERO32: Final = bytes(32)
"""32 zero bytes."""

U64_MAX: Final = 2**64 - 1
"""The largest integer of a fixed or MessagePack layout."""

MAX_AMOUNT: Final = 2**63 - 1
"""The largest amount in grains (Protocol §8.2)."""

GRAINS_PER_UNC: Final = 100_000_000
"""Grains in one UNC (Protocol §1)."""
