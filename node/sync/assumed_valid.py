"""Anchors below which a new node takes proofs of work as verified (Protocol §6 is untouched).

A release names an anchor that its makers have verified; a chain without it is verified in full.
An operator who trusts nobody sets `network.verify_all`. No network has been launched in public yet,
so there is nothing to name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from unchained.node.primitives.types import CoinId

ASSUMED_VALID: Final[Mapping[str, CoinId]] = MappingProxyType({})
"""The anchor of this release, by the network's name."""


def assumed_valid(network: str, named: str, *, verify_all: bool) -> CoinId | None:
    """Return the anchor to go by: the operator's (hex, or empty), else the release's, or none."""
    if verify_all:
        return None
    return CoinId(bytes.fromhex(named)) if named else ASSUMED_VALID.get(network)
