"""`H(ctx, data)`: BLAKE3 in derive-key mode, one context per use (Protocol §2).

Every context of the protocol is named here once, so that two uses cannot share one.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

CONTEXT_PREFIX: Final = "unchained v1 "
"""What every context string begins with."""


class HashContext:
    """`H(ctx, .)` for one context: call it with data, get 32 bytes."""

    __slots__ = ("_base", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._base = blake3(derive_key_context=CONTEXT_PREFIX + name)

    def __call__(self, data: bytes) -> bytes:
        """Return `H(ctx, data)`, 32 bytes."""
        hasher = self._base.copy()
        hasher.update(data)
        return hasher.digest()

    def hasher(self) -> blake3:
        """Return a hasher of this context for the caller alone. Its `reset` brings it back here,
        which for short data takes little more than half the time of a new one; it is not for two
        threads at once."""
        return self._base.copy()

    def __repr__(self) -> str:
        return f"HashContext({self.name!r})"


# Merkle trees and accumulators (Protocol §2, §4)
LEAF: Final = HashContext("leaf")
NODE: Final = HashContext("node")
MERKLE: Final = HashContext("merkle")
COIN_LEAF: Final = HashContext("coin leaf")
COIN_NODE: Final = HashContext("coin node")
STATE_HASH: Final = HashContext("state")
HISTORY_NODE: Final = HashContext("history node")
HISTORY_HASH: Final = HashContext("history")

# Coins and anchors (Protocol §3, §5, §10)
SALT: Final = HashContext("salt")
COIN_HASH: Final = HashContext("coin")
BODY: Final = HashContext("body")
PARAMS: Final = HashContext("params")

# Transfers (Protocol §4, §5.1, §8)
OUTPUT: Final = HashContext("output")
LOCK: Final = HashContext("lock")
KEY: Final = HashContext("key")
TRANSFER_HASH: Final = HashContext("transfer")
TRANSFER_FULL: Final = HashContext("transfer full")
SIGHASH: Final = HashContext("sighash")

# Keys and receiving (Protocol §9)
ACCOUNT: Final = HashContext("account")
SPEND: Final = HashContext("spend")
VIEW_D: Final = HashContext("view d")
VIEW_Z: Final = HashContext("view z")
PAYCODE: Final = HashContext("paycode")
STEALTH_SALT: Final = HashContext("stealth salt")
MEMO: Final = HashContext("memo")
MINE: Final = HashContext("mine")
MINE_SALT: Final = HashContext("mine salt")

# What keys sign beside transfers (Protocol §9)
SIGNED_MESSAGE: Final = HashContext("signed message")
RESERVE_PROOF: Final = HashContext("reserve proof")
