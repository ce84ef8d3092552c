"""What an anchor mints, and for which coins (Protocol §5.4)."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import Lock

LATE_SHARES: Final = 16
"""A late coin loses one sixteenth of the subsidy for each anchor that it is late, but never the
last."""

STRAY_DIVISOR: Final = 4
"""A stray coin mints this part of the subsidy."""

POOL_DIVISOR: Final = 4
"""This part of the pool of fees goes to each anchor's own coin."""


class CoinKind(enum.IntEnum):
    """How a coin came to be on a chain (Protocol §1, §5.4). The numbers are on disk."""

    ANCHOR = 1
    FRESH = 2
    LATE = 3
    STRAY = 4
    OUTPUT = 5


class Mint(msgspec.Struct, frozen=True, gc=False):
    """What an anchor mints for one coin. `value` in grains, the pool's share apart."""

    coin: Coin
    kind: CoinKind
    value: int

    @property
    def lock(self) -> Lock:
        """The lock that the coin's header names."""
        return self.coin.header.lock


def anchor_mint(anchor: Coin, network: Network) -> Mint:
    """Return what an anchor's own coin mints, the pool's share apart."""
    # Protocol §5.4: "The anchor's own coin and each fresh coin: SUBSIDY."
    return Mint(anchor, CoinKind.ANCHOR, network.subsidy)


def fresh_mint(coin: Coin, network: Network) -> Mint:
    """Return what a fresh coin mints."""
    # Protocol §5.4: "The anchor's own coin and each fresh coin: SUBSIDY."
    return Mint(coin, CoinKind.FRESH, network.subsidy)


def late_mint(coin: Coin, age: int, network: Network) -> Mint:
    """Return what a coin mints that comes `age` anchors after its height (j of §5.2)."""
    return Mint(coin, CoinKind.LATE, late_value(age, network))


def stray_mint(coin: Coin, network: Network) -> Mint:
    """Return what a stray coin mints."""
    return Mint(coin, CoinKind.STRAY, stray_value(network))


def late_value(age: int, network: Network) -> int:
    """Return the grains that a coin `age` anchors late mints (Protocol §5.4)."""
    # Protocol §5.4: "A late coin: `SUBSIDY * max(16 - j, 1) // 16` (16 is a constant, not W)"
    return network.subsidy * max(LATE_SHARES - age, 1) // LATE_SHARES


def pool_share(pool: int) -> int:
    """Return the grains that leave a pool of so many, an anchor's fees among them, for the anchor's
    own coin (Protocol §5.4)."""
    # Protocol §5.4: "a quarter of the pool, rounded down, leaves it and goes to the anchor's own"
    return pool // POOL_DIVISOR


def stray_value(network: Network) -> int:
    """Return the grains that a stray coin mints (Protocol §5.4)."""
    # Protocol §5.4: "A stray coin: `SUBSIDY // 4`"
    return network.subsidy // STRAY_DIVISOR
