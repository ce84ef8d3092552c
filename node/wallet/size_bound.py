"""How large a transfer becomes before it is made: bounds, a few bytes above the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from unchained.node.primitives.transfer import (
    OUTPUT_SIZE_SURCHARGE,
    PUBLIC_KEY_SIZE,
    SIGNATURE_SIZE,
)
from unchained.node.wallet.unsigned import Unsigned

OUTPUT_BOUND: Final = 47
"""Bytes of an output's encoding but for its note."""

_HEAD: Final = 48
_SIGNATURE: Final = 7 + PUBLIC_KEY_SIZE + SIGNATURE_SIZE
_PREIMAGE: Final = 34


def encoded_bound(
    inputs: int, condition_size: int, notes: Sequence[int], signatures: int, preimages: int
) -> int:
    """Return a bound, a few bytes above the truth, for a transfer's encoding. `notes` are the
    sizes of its outputs' notes, 0 for none."""
    return (
        _HEAD
        + inputs * (71 + condition_size)
        + sum(OUTPUT_BOUND + note for note in notes)
        + signatures * _SIGNATURE
        + preimages * _PREIMAGE
    )


def size_bound(unsigned: Unsigned, signatures: int) -> int:
    """Return a bound for the size (Protocol §8.2) of a transfer with so many signatures."""
    condition = max(len(spent.condition) for spent in unsigned.inputs)
    notes = [len(output.note) for output in unsigned.outputs]
    encoded = encoded_bound(
        len(unsigned.inputs), condition, notes, signatures, len(unsigned.preimages)
    )
    return encoded + OUTPUT_SIZE_SURCHARGE * len(unsigned.outputs)
